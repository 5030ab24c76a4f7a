package diffusion

import (
	"math"

	"genfn/bindings/kernels"
)

// eulerAncestral is EulerAncestralDiscreteScheduler: Euler steps that go below the next noise level and add fresh
// noise up to it (sample_euler_ancestral of Crowson's k-diffusion).
type eulerAncestral struct {
	*settings
	loop
	plan []kernels.StepArgs
}

var _ Scheduler = (*eulerAncestral)(nil)

func (e *eulerAncestral) Class() string { return classEulerAncestral }

func (e *eulerAncestral) Begin(steps, batch, elements int, o Options) error {
	e.reset()
	if err := noOptions(classEulerAncestral, o); err != nil {
		return err
	}
	if err := checkSteps(e.settings, steps); err != nil {
		return err
	}
	timesteps := eulerTimesteps(e.settings, steps)
	sigmas := toFloat32(append(interpolate(timesteps, trainingSigmas(e.settings)), 0))
	e.plan = make([]kernels.StepArgs, len(timesteps))
	for i := range timesteps {
		from, to := sigmas[i], sigmas[i+1]
		up := to * math.Sqrt(float64(from*from)-float64(to*to)) / from
		e.plan[i] = eulerCoefficients(e.predictionType, from, to, up)
	}
	if err := checkPlan(classEulerAncestral, e.plan); err != nil {
		return err
	}
	return e.begin(batch, elements, timesteps, sigmas)
}

func (e *eulerAncestral) InitNoiseSigma() float64 { return initNoiseSigma(e.settings, e.sigmas) }

func (e *eulerAncestral) InputScale(i int) float64 { return eulerInputScale(e.sigmas, i) }

// NeedsNoise is true for the last step too, where the noise has no weight: diffusers draws it.
func (e *eulerAncestral) NeedsNoise(i int) bool { return i < len(e.timesteps) }

func (e *eulerAncestral) Step(k *kernels.Set, i int, in StepInput) error {
	if err := e.enter(k, i, in, true); err != nil {
		return err
	}
	return e.advance(k, e.plan[i], in, e.settings)
}
