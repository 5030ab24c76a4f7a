package diffusion

import "math"

// maxTrainTimesteps bounds the tables; models are trained with 1000.
const maxTrainTimesteps = 100_000

// smallestAlpha replaces the last cumulative product of a schedule with zero terminal SNR in the sigma-based
// schedulers, whose first sigma would be infinite. It is the smallest subnormal of float16.
const smallestAlpha = 1.0 / (1 << 24)

// betaTable gives the variances of the forward process (Ho et al. 2020, arXiv:2006.11239), one for each training
// timestep, as the constructors in diffusers do.
func betaTable(s *settings) []float32 {
	var betas []float32
	switch {
	case s.trainedBetas != nil:
		betas = make([]float32, len(s.trainedBetas))
		for i, b := range s.trainedBetas {
			betas[i] = float32(b)
		}
	case s.betaSchedule == "scaled_linear":
		betas = torchLinspace(float32(math.Sqrt(s.betaStart)), float32(math.Sqrt(s.betaEnd)), s.numTrain)
		for i, b := range betas {
			betas[i] = b * b
		}
	case s.betaSchedule == "squaredcos_cap_v2":
		betas = cosineBetas(s.numTrain)
	default: // linear
		betas = torchLinspace(float32(s.betaStart), float32(s.betaEnd), s.numTrain)
	}
	if s.rescaleZeroSNR {
		betas = rescaleZeroTerminalSNR(betas)
	}
	return betas
}

// cosineBetas is betas_for_alpha_bar of diffusers with the cosine of Nichol and Dhariwal 2021 (arXiv:2102.09672).
func cosineBetas(n int) []float32 {
	const maxBeta = 0.999
	alphaBar := func(t float64) float64 {
		c := math.Cos((t + 0.008) / 1.008 * math.Pi / 2)
		return c * c
	}
	betas := make([]float32, n)
	for i := range betas {
		from, to := float64(i)/float64(n), float64(i+1)/float64(n)
		betas[i] = float32(min(1-alphaBar(to)/alphaBar(from), maxBeta))
	}
	return betas
}

// rescaleZeroTerminalSNR is algorithm 1 of Lin et al. 2023 (arXiv:2305.08891): the square roots of the cumulative
// products are shifted and scaled so that the last is 0 and the first keeps its value.
func rescaleZeroTerminalSNR(betas []float32) []float32 {
	roots := alphasCumprod(betas)
	for i, a := range roots {
		roots[i] = sqrt32(a)
	}
	first, last := roots[0], roots[len(roots)-1]
	scale := first / (first - last)
	out := make([]float32, len(betas))
	previous := float32(1)
	for i, root := range roots {
		root = float32(root-last) * scale
		bar := float32(root * root)
		out[i] = 1 - bar/previous
		previous = bar
	}
	return out
}

// alphasCumprod is the share of the signal's variance left at each training timestep. torch.cumprod accumulates in
// float64 and rounds each element.
func alphasCumprod(betas []float32) []float32 {
	out := make([]float32, len(betas))
	product := 1.0
	for i, b := range betas {
		product *= float64(1 - b)
		out[i] = float32(product)
	}
	return out
}

// trainingSigmas gives sigma = sqrt((1 - alpha) / alpha) of each training timestep, ascending.
func trainingSigmas(s *settings) []float32 {
	sigmas := alphasCumprod(betaTable(s))
	for i, a := range sigmas {
		sigmas[i] = sqrt32((1 - a) / a)
	}
	if s.rescaleZeroSNR {
		// sqrt(2^24 - 1) lies halfway between two float32 numbers; the reference gives the upper one.
		sigmas[len(sigmas)-1] = 1 << 12
	}
	return sigmas
}

// torchLinspace is torch.linspace for float32: from both ends to the middle, each element rounded once.
// n is at least 2.
func torchLinspace(start, end float32, n int) []float32 {
	out := make([]float32, n)
	step := float64((end - start) / float32(n-1))
	for i := range out {
		if i < n/2 {
			out[i] = float32(float64(start) + float64(step*float64(i)))
		} else {
			out[i] = float32(float64(end) - float64(step*float64(n-1-i)))
		}
	}
	return out
}

func sqrt32(x float32) float32 { return float32(math.Sqrt(float64(x))) }
