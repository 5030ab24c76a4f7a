package diffusion

// eulerAncestral is EulerAncestralDiscreteScheduler: Euler steps that go below the next noise level and add fresh
// noise up to it (sample_euler_ancestral of Crowson's k-diffusion).
type eulerAncestral struct {
	*settings
	loop
	plan []eulerStep
}

var _ Scheduler = (*eulerAncestral)(nil)

func eulerAncestralClass() *class {
	return &class{
		name:     classEulerAncestral,
		defaults: tableDefaults(map[string]any{"timestep_spacing": "linspace", "rescale_betas_zero_snr": false}),
		choices:  map[string][]string{"beta_schedule": schedules, "prediction_type": {predictEpsilon, predictV}, "timestep_spacing": spacings},
		make:     func(s *settings) Scheduler { return &eulerAncestral{settings: s} },
	}
}

// Class implements Scheduler.
func (e *eulerAncestral) Class() string { return classEulerAncestral }

// Begin implements Scheduler.
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
	e.plan = make([]eulerStep, len(timesteps))
	for i := range timesteps {
		down, up := ancestralSigmas(float32(sigmas[i]), float32(sigmas[i+1]))
		e.plan[i] = planEuler(e.predictionType, sigmas[i], float64(down), float64(up))
	}
	if err := checkEuler(classEulerAncestral, e.plan); err != nil {
		return err
	}
	return e.begin(batch, elements, timesteps, sigmas)
}

// ancestralSigmas splits the noise level to into the part that the Euler step ends at and the part that is added
// afresh, down*down + up*up = to*to, in float32 as the reference.
func ancestralSigmas(from, to float32) (down, up float32) {
	from2, to2 := float32(from*from), float32(to*to)
	up = sqrt32(float32(to2*(from2-to2)) / from2)
	return sqrt32(to2 - float32(up*up)), up
}

// InitNoiseSigma implements Scheduler.
func (e *eulerAncestral) InitNoiseSigma() float64 { return initNoiseSigma(e.settings, e.sigmas) }

// InputScale implements Scheduler.
func (e *eulerAncestral) InputScale(i int) float64 { return eulerInputScale(e.sigmas, i) }

// NeedsNoise is true for the last step too, where the noise has no weight: diffusers draws it.
func (e *eulerAncestral) NeedsNoise(i int) bool { return i < len(e.timesteps) }
