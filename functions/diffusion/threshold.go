package diffusion

import (
	"math"
	"slices"
)

// thresholdSample applies dynamic thresholding (Saharia et al. 2022, arXiv:2205.11487, section 2.3) to a batch of
// denoised samples in place: each sample is clamped to s, a quantile of its absolute values between 1 and
// sample_max_value, and divided by it.
func thresholdSample(x []float32, batch int, s *settings) {
	n := len(x) / batch
	scratch := make([]float32, n)
	for b := range batch {
		sample := x[b*n : (b+1)*n]
		for i, v := range sample {
			scratch[i] = float32(math.Abs(float64(v)))
		}
		limit := quantile(scratch, float32(s.thresholdRatio))
		limit = min(max(limit, 1), float32(s.sampleMax))
		for i, v := range sample {
			sample[i] = min(max(v, -limit), limit) / limit
		}
	}
}

// quantile is torch.quantile with linear interpolation in float32. It sorts v, which must not be empty. A NaN in v
// gives NaN.
func quantile(v []float32, q float32) float32 {
	slices.Sort(v) // NaN first
	if math.IsNaN(float64(v[0])) {
		return v[0]
	}
	rank := float32(q * float32(len(v)-1))
	below := int(rank)
	weight := rank - float32(below)
	low, high := v[below], v[min(int(math.Ceil(float64(rank))), len(v)-1)]
	difference := high - low
	if weight < 0.5 {
		return low + float32(weight*difference)
	}
	return high - float32(difference*(1-weight))
}
