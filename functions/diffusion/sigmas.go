package diffusion

import "math"

// interpolate is numpy.interp over a table at 0, 1, 2, ...: linear, constant beyond the ends.
func interpolate(t []float64, table []float32) []float64 {
	out := make([]float64, len(t))
	last := len(table) - 1
	for i, x := range t {
		switch j := int(math.Floor(x)); {
		case x <= 0:
			out[i] = float64(table[0])
		case j >= last:
			out[i] = float64(table[last])
		default:
			low, high := float64(table[j]), float64(table[j+1])
			out[i] = float64((high-low)*(x-float64(j))) + low
		}
	}
	return out
}

// karrasSigmas is the schedule of Karras et al. 2022 (arXiv:2206.00364, equation 5) with rho = 7, descending.
func karrasSigmas(low, high float64, n int) []float64 {
	const rho = 7.0
	minInv, maxInv := math.Pow(low, 1/rho), math.Pow(high, 1/rho)
	out := linspace(0, 1, n)
	for i, ramp := range out {
		out[i] = math.Pow(maxInv+float64(ramp*(minInv-maxInv)), rho)
	}
	return out
}

// exponentialSigmas is evenly spaced in log sigma, descending.
func exponentialSigmas(low, high float64, n int) []float64 {
	out := linspace(math.Log(high), math.Log(low), n)
	for i, x := range out {
		out[i] = math.Exp(x)
	}
	return out
}

// respaced gives n Karras or exponential sigmas between low and high, or between sigma_min and sigma_max where the
// configuration holds them.
func respaced(s *settings, low, high float64, n int) []float64 {
	if s.sigmaMin != nil {
		low = *s.sigmaMin
	}
	if s.sigmaMax != nil {
		high = *s.sigmaMax
	}
	if s.karrasSigmas {
		return karrasSigmas(low, high, n)
	}
	return exponentialSigmas(low, high, n)
}

// logTable gives the natural logarithms of sigmas in float32.
func logTable(sigmas []float32) []float32 {
	out := make([]float32, len(sigmas))
	for i, s := range sigmas {
		out[i] = float32(math.Log(float64(s)))
	}
	return out
}

// timestepsOf finds the timesteps of sigmas by linear interpolation in log sigma (_sigma_to_t of diffusers); logs has
// one entry for each training timestep. It need not ascend: the replaced last entry of a schedule with zero terminal
// SNR may lie below the one before. The highest entry that is not above the sigma counts.
func timestepsOf(sigmas []float64, logs []float32) []float64 {
	out := make([]float64, len(sigmas))
	for i, sigma := range sigmas {
		log := math.Log(math.Max(sigma, 1e-10))
		low := len(logs) - 1
		for low > 0 && float64(logs[low]) > log {
			low--
		}
		low = min(low, len(logs)-2)
		from, to := logs[low], logs[low+1]
		w := (float64(from) - log) / float64(from-to)
		w = min(max(w, 0), 1)
		out[i] = float64((1-w)*float64(low)) + float64(w*float64(low+1))
	}
	return out
}

// shiftSigmas applies the shift of a flow schedule, shift*s / (1 + (shift-1)*s) (Esser et al. 2024,
// arXiv:2403.03206, section 5.3.2), in place.
func shiftSigmas(sigmas []float64, shift float64, r rounding) {
	for i, s := range sigmas {
		sigmas[i] = r(r(r(shift)*s) / r(1+r(r(shift-1)*s)))
	}
}

// timeShift applies the shift by resolution, f / (f + 1/s - 1) with f = exp(mu) or mu, in place.
func timeShift(sigmas []float64, kind string, mu float64, r rounding) {
	f := mu
	if kind == "exponential" {
		f = math.Exp(mu)
	}
	f = r(f)
	for i, s := range sigmas {
		sigmas[i] = r(f / r(f+r(r(1/s)-1)))
	}
}

// stretchToTerminal scales the schedule so that it ends at terminal, in place (stretch_shift_to_terminal).
func stretchToTerminal(sigmas []float64, terminal float64, r rounding) {
	scale := r(r(1-sigmas[len(sigmas)-1]) / r(1-terminal))
	for i, s := range sigmas {
		sigmas[i] = r(1 - r(r(1-s)/scale))
	}
}

// rounding is the precision that the reference keeps: float64 for schedules from numpy.linspace, float32 for tensors
// and for sigmas that the caller passes.
type rounding func(float64) float64

func inFloat64(x float64) float64 { return x }

func inFloat32(x float64) float64 { return float64(float32(x)) }
