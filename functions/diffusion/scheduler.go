package diffusion

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"genfn/bindings/kernels"
)

// Scheduler advances latents from noise to a picture, one model call at a time. It is not safe for concurrent use.
//
// A text to image loop is: Begin; sample = noise * InitNoiseSigma; for every i of Timesteps: the model runs on
// sample * InputScale(i) at Timesteps()[i], and Step advances the sample.
type Scheduler interface {
	// Class is the name of the diffusers class.
	Class() string
	// Begin plans a run of so many inference steps over batch samples of elements float32 values each and forgets
	// any run before. An error names what cannot be: the number of steps, an option, or coefficients that the
	// configuration leaves undefined.
	Begin(steps, batch, elements int, o Options) error
	// Timesteps has one entry for each model call, which may be more than the steps (PNDM). The values are those
	// of diffusers, in float64. The slice is the scheduler's and is valid until the next Begin; nil before.
	Timesteps() []float64
	// Sigmas are the noise levels of the schedule with the final one; nil for the classes without (DDIM, PNDM, LCM).
	Sigmas() []float64
	// InitNoiseSigma is the standard deviation of the initial sample.
	InitNoiseSigma() float64
	// InputScale is the factor from sample to model input at call i, as scale_model_input of diffusers.
	InputScale(i int) float64
	// NeedsNoise says whether Step i takes fresh standard normal noise: exactly where diffusers draws some, so that
	// a generator stays in step.
	NeedsNoise(i int) bool
	// Step advances in.Sample in place with the model's output for call i. Calls go in order, once each.
	Step(k *kernels.Set, i int, in StepInput) error
	// Denoised is the estimate of the noiseless sample at the last Step, for previews. It is the scheduler's memory
	// and valid until the next Step or Begin; nil before the first Step.
	Denoised() []float32
}

// Options are the arguments of diffusers' set_timesteps that some schedules take.
type Options struct {
	// Mu is the shift by resolution; a configuration with use_dynamic_shifting needs it (Config.NeedsMu).
	Mu *float64
	// Sigmas replace the default spacing of a flow schedule before shifting, one for each step, descending.
	Sigmas []float64
}

// StepInput is what one Step works on; every slice has batch*elements values. With Uncond the model output is
// Uncond + Guidance*(Cond-Uncond); without, it is Cond and Guidance is not read. Noise is for NeedsNoise steps.
type StepInput struct {
	Sample, Cond, Uncond, Noise []float32
	Guidance                    float32
}

// loop is the state that all schedulers share: the shape, the schedule and the position in it.
type loop struct {
	batch, size       int // size is batch*elements
	timesteps, sigmas []float64
	next              int
	denoised          []float32
	current           []float32 // what Denoised gives
}

// Timesteps implements Scheduler.
func (l *loop) Timesteps() []float64 { return l.timesteps }

// Sigmas implements Scheduler.
func (l *loop) Sigmas() []float64 { return l.sigmas }

// Denoised implements Scheduler.
func (l *loop) Denoised() []float32 { return l.current }

// InitNoiseSigma implements Scheduler where the initial sample is plain noise. Schedulers that scale their input or
// add noise have their own InitNoiseSigma, InputScale and NeedsNoise.
func (l *loop) InitNoiseSigma() float64 { return 1 }

// InputScale implements Scheduler.
func (l *loop) InputScale(int) float64 { return 1 }

// NeedsNoise implements Scheduler.
func (l *loop) NeedsNoise(int) bool { return false }

// begin sets the shape and the schedule. Until it succeeds no Step is possible.
func (l *loop) begin(batch, elements int, timesteps, sigmas []float64) error {
	const limit = 1 << 28 // values; 1 GiB
	if batch < 1 || elements < 1 || elements > limit/batch {
		return fmt.Errorf("diffusion: %d samples of %d values, expected at least 1 of each and at most %d in all", batch, elements, limit)
	}
	for _, v := range slices.Concat(timesteps, sigmas) {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("diffusion: the schedule holds %v; check the betas and sigmas of the configuration", v)
		}
	}
	l.batch, l.size = batch, batch*elements
	l.timesteps, l.sigmas = timesteps, sigmas
	l.denoised = sized(l.denoised, l.size)
	return nil
}

// reset forgets the run.
func (l *loop) reset() { l.timesteps, l.sigmas, l.next, l.current = nil, nil, 0, nil }

// enter checks the arguments of Step i and moves the position on.
func (l *loop) enter(k *kernels.Set, i int, in StepInput, noise bool) error {
	switch {
	case k == nil:
		return errors.New("diffusion: Step without kernels")
	case l.timesteps == nil:
		return errors.New("diffusion: Step before Begin")
	case i != l.next || i >= len(l.timesteps):
		return fmt.Errorf("diffusion: Step %d, expected %d of 0 to %d", i, l.next, len(l.timesteps)-1)
	case in.Uncond != nil && !finite(in.Guidance):
		return fmt.Errorf("diffusion: guidance scale is %v, expected a finite number", in.Guidance)
	}
	for _, s := range [...]struct {
		name   string
		values []float32
		wanted bool
	}{{"Sample", in.Sample, true}, {"Cond", in.Cond, true}, {"Uncond", in.Uncond, in.Uncond != nil}, {"Noise", in.Noise, noise}} {
		if s.wanted && len(s.values) != l.size {
			return fmt.Errorf("diffusion: Step %d: %s has %d values, expected %d", i, s.name, len(s.values), l.size)
		}
	}
	l.next++
	return nil
}

// convert writes convSample*sample + convOutput*output to dst.
func convert(k *kernels.Set, in StepInput, convSample, convOutput float64, dst []float32) error {
	return k.Step(&kernels.StepArgs{
		Sample: in.Sample, Cond: in.Cond, Uncond: in.Uncond, Guidance: in.Guidance,
		ConvSample: float32(convSample), ConvOutput: float32(convOutput), Converted: dst,
	})
}

// advance runs the planned combination on in.Sample, with the converted output going to l.denoised, thresholded if
// the settings say so.
func (l *loop) advance(k *kernels.Set, planned kernels.StepArgs, in StepInput, s *settings) error {
	a := planned
	a.Sample, a.Cond, a.Uncond, a.Guidance = in.Sample, in.Cond, in.Uncond, in.Guidance
	if a.NoiseCoef != 0 {
		a.Noise = in.Noise
	}
	a.Prev = in.Sample
	l.current = l.denoised
	if !s.thresholding {
		a.Converted = l.denoised
		return k.Step(&a)
	}
	if err := convert(k, in, float64(a.ConvSample), float64(a.ConvOutput), l.denoised); err != nil {
		return err
	}
	thresholdSample(l.denoised, l.batch, s)
	a.History, a.HistoryCoef = [][]float32{l.denoised}, []float32{a.ConvertedCoef}
	a.ConvSample, a.ConvOutput, a.ConvertedCoef = 0, 0, 0
	return k.Step(&a)
}

// conversion gives the denoised sample x0 and the noise eps as combinations of sample and model output.
type conversion struct{ x0Sample, x0Output, epsSample, epsOutput float64 }

// conversionOf is for a sample alpha*x0 + sigma*eps. The velocity is that of Salimans and Ho 2022
// (arXiv:2202.00512), v = alpha*eps - sigma*x0.
func conversionOf(predictionType string, alpha, sigma float64) conversion {
	switch predictionType {
	case predictSample:
		return conversion{0, 1, 1 / sigma, -alpha / sigma}
	case predictV:
		return conversion{alpha, -sigma, sigma, alpha}
	default: // epsilon
		return conversion{1 / alpha, -sigma / alpha, 0, 1}
	}
}

// checkPlan says which step has a coefficient that is not finite.
func checkPlan(name string, plan []kernels.StepArgs) error {
	for i, a := range plan {
		coefs := append([]float32{a.ConvSample, a.ConvOutput, a.SampleCoef, a.OutputCoef, a.ConvertedCoef, a.NoiseCoef}, a.HistoryCoef...)
		if !finite(coefs...) {
			return undefinedStep(name, i, len(plan))
		}
	}
	return nil
}

func undefinedStep(name string, i, n int) error {
	return fmt.Errorf("diffusion: %s: step %d of %d is not defined: a noise level of 0 or infinity leaves a coefficient that is not finite. Check prediction_type, rescale_betas_zero_snr, final_sigmas_type and lower_order_final, or take another number of steps", name, i, n)
}

func finite(v ...float32) bool {
	for _, x := range v {
		if v := float64(x); math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
	}
	return true
}

// noOptions refuses options that a class does not take.
func noOptions(name string, o Options) error {
	if o.Mu != nil || o.Sigmas != nil {
		return fmt.Errorf("diffusion: %s takes neither Mu nor Sigmas", name)
	}
	return nil
}

// checkMu checks Options.Mu against the need for it.
func checkMu(name string, needed bool, mu *float64) error {
	switch {
	case needed && mu == nil:
		return fmt.Errorf("diffusion: %s: use_dynamic_shifting needs Options.Mu", name)
	case mu != nil && (math.IsNaN(*mu) || math.Abs(*mu) > 100):
		return fmt.Errorf("diffusion: %s: Mu is %v, expected a number from -100 to 100", name, *mu)
	}
	return nil
}

// sized gives a slice of n values, the old one if it fits.
func sized(old []float32, n int) []float32 {
	if cap(old) >= n {
		return old[:n]
	}
	return make([]float32, n)
}
