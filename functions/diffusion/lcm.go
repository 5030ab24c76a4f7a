package diffusion

import (
	"fmt"
	"math"

	"genfn/bindings/kernels"
)

// lcm is LCMScheduler, multistep consistency sampling (Luo et al. 2023, arXiv:2310.04378). Every step but the last
// adds fresh noise.
type lcm struct {
	*settings
	loop
	plan []kernels.StepArgs
}

var _ Scheduler = (*lcm)(nil)

func lcmClass() *class {
	return &class{
		name: classLCM,
		// timestep_spacing, steps_offset and set_alpha_to_one exist in the class and change nothing.
		defaults: tableDefaults(map[string]any{
			"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "original_inference_steps": 50,
			"clip_sample": false, "clip_sample_range": 1.0, "thresholding": false, "dynamic_thresholding_ratio": 0.995,
			"sample_max_value": 1.0, "timestep_scaling": 10.0, "rescale_betas_zero_snr": false,
		}),
		choices: map[string][]string{"beta_schedule": schedules, "prediction_type": threeKinds},
		check:   checkLCM,
		make:    func(s *settings) Scheduler { return &lcm{settings: s} },
	}
}

func checkLCM(s *settings) *ConfigError {
	if s.originalSteps < 1 || s.originalSteps > s.numTrain {
		return invalid("original_inference_steps", s.originalSteps, fmt.Sprintf("expected 1 to num_train_timesteps = %d", s.numTrain))
	}
	return nil
}

// Class implements Scheduler.
func (l *lcm) Class() string { return classLCM }

// Begin implements Scheduler.
func (l *lcm) Begin(steps, batch, elements int, o Options) error {
	l.reset()
	if err := noOptions(classLCM, o); err != nil {
		return err
	}
	if steps < 1 || steps > l.originalSteps {
		return fmt.Errorf("diffusion: %d steps, expected 1 to original_inference_steps = %d", steps, l.originalSteps)
	}
	alphas := newAlphaTable(l.settings)
	timesteps := l.schedule(steps)
	l.plan = make([]kernels.StepArgs, steps)
	for i, t := range timesteps {
		next := alphas.products[int(timesteps[min(i+1, steps-1)])]
		l.plan[i] = l.coefficients(t, alphas.products[int(t)], next, i == steps-1)
	}
	if err := checkPlan(classLCM, l.plan); err != nil {
		return err
	}
	return l.begin(batch, elements, timesteps, nil)
}

// schedule takes evenly spaced entries of the schedule that the model was distilled with.
func (l *lcm) schedule(steps int) []float64 {
	k := l.numTrain / l.originalSteps
	out := make([]float64, steps)
	for i := range out {
		// numpy.linspace without its end point, rounded down.
		index := int(float64(i) * (float64(l.originalSteps) / float64(steps)))
		out[i] = float64((l.originalSteps-index)*k - 1)
	}
	return out
}

// coefficients of one step: denoised = cOut*x0 + cSkip*sample (the boundary condition of consistency models), then
// noise up to the next timestep.
func (l *lcm) coefficients(t float64, alpha, next float32, last bool) kernels.StepArgs {
	const sigmaData = 0.5
	scaled := t * l.timestepScaling
	d := scaled*scaled + sigmaData*sigmaData
	cSkip, cOut := sigmaData*sigmaData/d, scaled/math.Sqrt(d)
	c := conversionOf(l.predictionType, math.Sqrt(float64(alpha)), math.Sqrt(float64(1-alpha)))
	signal, noise := math.Sqrt(float64(next)), math.Sqrt(float64(1-next))
	if last {
		signal, noise = 1, 0
	}
	return kernels.StepArgs{
		ConvSample: float32(c.x0Sample), ConvOutput: float32(c.x0Output), Clip: l.clip(),
		SampleCoef: float32(signal * cSkip), ConvertedCoef: float32(signal * cOut), NoiseCoef: float32(noise),
	}
}

// NeedsNoise implements Scheduler.
func (l *lcm) NeedsNoise(i int) bool { return i < len(l.timesteps)-1 }
