package diffusion

import (
	"math"

	"genfn/bindings/kernels"
)

// eulerStep is a step of a sample x0 + sigma*eps along (sample-x0)/sigma over dt, and noise afterwards.
type eulerStep struct {
	kernels.StepArgs
	// literal steps follow the operations of the reference one by one, see planEuler.
	literal   bool
	sigma, dt float32
}

// planEuler plans the step from sigma to down, with noise of standard deviation up added afresh.
//
// A long step from a high sigma (4096 at zero terminal SNR) ends in a sample far smaller than it began, so the
// float32 rounding of the reference shows in the result. Such a step repeats its operations; all others are one
// combination.
func planEuler(predictionType string, sigma, down, up float64) eulerStep {
	dt := inFloat32(down - sigma)
	alpha := 1 / math.Sqrt(float64(sigma*sigma)+1)
	s := eulerStep{sigma: float32(sigma), dt: float32(dt), literal: sigma > 8*max(down, up, 1)}
	s.NoiseCoef = float32(up)
	switch predictionType {
	case predictEpsilon:
		s.ConvSample, s.ConvOutput = 1, float32(-sigma)
		s.SampleCoef, s.OutputCoef = 1, float32(dt)
		return s
	case predictV:
		s.ConvSample, s.ConvOutput = float32(alpha*alpha), float32(-sigma*alpha)
	default: // sample, original_sample
		s.ConvOutput = 1
	}
	s.SampleCoef, s.ConvertedCoef = float32(down/sigma), float32(-dt/sigma)
	return s
}

// checkEuler is checkPlan for Euler steps.
func checkEuler(name string, plan []eulerStep) error {
	for i, s := range plan {
		if err := checkPlan(name, []kernels.StepArgs{s.StepArgs}); err != nil {
			return undefinedStep(name, i, len(plan))
		}
	}
	return nil
}

// stepEuler runs a planned step on in.Sample; the denoised sample goes to r.denoised.
func (r *Run[V]) stepEuler(s *eulerStep, in StepInput[V], settings *settings) error {
	if !s.literal {
		return r.advance(&s.StepArgs, in, settings)
	}
	if err := r.convert(in, float64(s.ConvSample), float64(s.ConvOutput), r.denoised); err != nil {
		return err
	}
	r.current = r.denoised
	if err := r.arrays.OnHost(func(values ...[]float32) {
		sample, denoised := values[0], values[1]
		for i, x := range sample {
			derivative := (x - denoised[i]) / s.sigma
			sample[i] = x + float32(derivative*s.dt)
		}
	}, in.Sample, r.denoised); err != nil || s.NoiseCoef == 0 {
		return err
	}
	r.args = kernels.StepArgsOf[V]{Sample: in.Sample, SampleCoef: 1, Noise: in.Noise, NoiseCoef: s.NoiseCoef, Prev: in.Sample}
	return r.arrays.Step(&r.args)
}
