package diffusion

import (
	"fmt"
	"math"
	"slices"

	"genfn/bindings/kernels"
)

// Scheduler plans how latents go from noise to a picture, one model call at a time. It is not safe for concurrent use.
//
// A text to image loop is: Begin; Start; sample = noise * InitNoiseSigma; for every i of Timesteps: the model runs on
// sample * InputScale(i) at Timesteps()[i], and the run's Step advances the sample.
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

	state() *loop
}

// Options are the arguments of diffusers' set_timesteps that some schedules take.
type Options struct {
	// Mu is the shift by resolution; a configuration with use_dynamic_shifting needs it (Config.NeedsMu).
	Mu *float64
	// Sigmas replace the default spacing of a flow schedule before shifting, one for each step, descending.
	Sigmas []float64
}

// loop is what the plans of all schedulers have: the shape, the schedule and what a run keeps.
type loop struct {
	batch, size       int // size is batch*elements
	timesteps, sigmas []float64
	begun             int  // counts the plans
	kept              int  // model outputs that a run keeps
	saves             bool // a run keeps an earlier sample too
}

func (l *loop) state() *loop { return l }

// Timesteps implements Scheduler.
func (l *loop) Timesteps() []float64 { return l.timesteps }

// Sigmas implements Scheduler.
func (l *loop) Sigmas() []float64 { return l.sigmas }

// InitNoiseSigma implements Scheduler where the initial sample is plain noise. Schedulers that scale their input or
// add noise have their own InitNoiseSigma, InputScale and NeedsNoise.
func (l *loop) InitNoiseSigma() float64 { return 1 }

// InputScale implements Scheduler.
func (l *loop) InputScale(int) float64 { return 1 }

// NeedsNoise implements Scheduler.
func (l *loop) NeedsNoise(int) bool { return false }

// begin sets the shape and the schedule. Until it succeeds no run is possible.
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
	return nil
}

// reset forgets the plan, and ends its runs.
func (l *loop) reset() { *l = loop{begun: l.begun + 1} }

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
