package diffusion

import (
	"fmt"
	"math"

	"genfn/bindings/kernels"
)

// ddim is DDIMScheduler with eta 0 (Song et al. 2020, arXiv:2010.02502, formula 12).
type ddim struct {
	*settings
	loop
	plan []kernels.StepArgs
}

var _ Scheduler = (*ddim)(nil)

func ddimClass() *class {
	return &class{
		name: classDDIM,
		defaults: tableDefaults(map[string]any{
			"clip_sample": true, "clip_sample_range": 1.0, "set_alpha_to_one": true, "thresholding": false,
			"dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0, "timestep_spacing": "leading",
			"rescale_betas_zero_snr": false,
		}),
		choices: map[string][]string{"beta_schedule": schedules, "prediction_type": threeKinds, "timestep_spacing": spacings},
		make:    func(s *settings) Scheduler { return &ddim{settings: s} },
	}
}

// Class implements Scheduler.
func (d *ddim) Class() string { return classDDIM }

// Begin implements Scheduler.
func (d *ddim) Begin(steps, batch, elements int, o Options) error {
	d.reset()
	if err := noOptions(classDDIM, o); err != nil {
		return err
	}
	if err := checkSteps(d.settings, steps); err != nil {
		return err
	}
	alphas := newAlphaTable(d.settings)
	timesteps := spacedTimesteps(d.settings, steps)
	d.plan = make([]kernels.StepArgs, len(timesteps))
	for i, t := range timesteps {
		alpha, err := alphas.at(classDDIM, int(t))
		if err != nil {
			return err
		}
		previous, err := alphas.before(classDDIM, int(t)-d.numTrain/steps)
		if err != nil {
			return err
		}
		d.plan[i] = d.coefficients(alpha, previous)
	}
	if err := checkPlan(classDDIM, d.plan); err != nil {
		return err
	}
	return d.begin(batch, elements, timesteps, nil)
}

// coefficients of the step between two cumulative products: prev = sqrt(previous)*x0 + sqrt(1-previous)*eps, where
// x0 is clipped and eps comes from the x0 before clipping.
func (d *ddim) coefficients(alpha, previous float32) kernels.StepArgs {
	c := conversionOf(d.predictionType, math.Sqrt(float64(alpha)), math.Sqrt(float64(1-alpha)))
	direction := math.Sqrt(float64(1 - previous))
	return kernels.StepArgs{
		ConvSample: float32(c.x0Sample), ConvOutput: float32(c.x0Output), Clip: d.clip(),
		SampleCoef: float32(direction * c.epsSample), OutputCoef: float32(direction * c.epsOutput),
		ConvertedCoef: sqrt32(previous),
	}
}

// clip is the bound on the denoised sample, 0 for none. Thresholding goes before clipping.
func (s *settings) clip() float32 {
	if s.clipSample && !s.thresholding {
		return float32(s.clipSampleRange)
	}
	return 0
}

// alphaTable looks up cumulative products of alpha by timestep.
type alphaTable struct {
	products []float32
	final    float32 // before timestep 0
}

func newAlphaTable(s *settings) alphaTable {
	products := alphasCumprod(betaTable(s))
	if s.setAlphaToOne {
		return alphaTable{products, 1}
	}
	return alphaTable{products, products[0]}
}

// at fails outside the training timesteps. Trailing spacing gives a last timestep of -1 for some numbers of steps
// (61 of 1000), and leading spacing one too high when the offset meets as many steps as there are timesteps;
// diffusers then computes noise or fails.
func (a alphaTable) at(name string, t int) (float32, error) {
	if t < 0 || t >= len(a.products) {
		return 0, fmt.Errorf("diffusion: %s: this number of steps gives timestep %d, expected 0 to %d: take another number of steps or another timestep_spacing", name, t, len(a.products)-1)
	}
	return a.products[t], nil
}

// before is at, with the final product below timestep 0.
func (a alphaTable) before(name string, t int) (float32, error) {
	if t < 0 {
		return a.final, nil
	}
	return a.at(name, t)
}
