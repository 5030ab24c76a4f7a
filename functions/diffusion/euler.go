package diffusion

import (
	"math"
	"slices"
)

// euler is EulerDiscreteScheduler: algorithm 2 of Karras et al. 2022 (arXiv:2206.00364) without churn.
type euler struct {
	*settings
	loop
	plan []eulerStep
}

var _ Scheduler = (*euler)(nil)

func eulerClass() *class {
	return &class{
		name: classEuler,
		defaults: tableDefaults(map[string]any{
			"interpolation_type": "linear", "use_karras_sigmas": false, "use_exponential_sigmas": false,
			"use_beta_sigmas": false, "sigma_min": nil, "sigma_max": nil, "timestep_spacing": "linspace",
			"timestep_type": "discrete", "rescale_betas_zero_snr": false, "final_sigmas_type": "zero",
		}),
		choices: map[string][]string{
			"beta_schedule": schedules, "prediction_type": append(slices.Clone(threeKinds), "original_sample"),
			"timestep_spacing": spacings, "interpolation_type": {"linear", "log_linear"},
			"timestep_type": {"discrete", "continuous"}, "final_sigmas_type": {"zero", "sigma_min"},
		},
		make: func(s *settings) Scheduler { return &euler{settings: s} },
	}
}

// Class implements Scheduler.
func (e *euler) Class() string { return classEuler }

// Begin implements Scheduler.
func (e *euler) Begin(steps, batch, elements int, o Options) error {
	e.reset()
	if err := noOptions(classEuler, o); err != nil {
		return err
	}
	if err := checkSteps(e.settings, steps); err != nil {
		return err
	}
	timesteps, sigmas := e.schedule(steps)
	e.plan = make([]eulerStep, len(timesteps))
	for i := range timesteps {
		e.plan[i] = planEuler(e.predictionType, sigmas[i], sigmas[i+1], 0)
	}
	if err := checkEuler(classEuler, e.plan); err != nil {
		return err
	}
	return e.begin(batch, elements, timesteps, sigmas)
}

// schedule gives timesteps and sigmas. With log_linear there is one sigma more between the ends than timesteps, so
// the appended final sigma is not reached.
func (e *euler) schedule(steps int) (timesteps, sigmas []float64) {
	table := trainingSigmas(e.settings)
	logs := logTable(table)
	timesteps = eulerTimesteps(e.settings, steps)
	if e.interpolation == "log_linear" {
		for _, log := range torchLinspace(logs[len(logs)-1], logs[0], steps+1) {
			sigmas = append(sigmas, float64(float32(math.Exp(float64(log)))))
		}
	} else {
		sigmas = interpolate(timesteps, table)
	}
	if e.karrasSigmas || e.exponentialSigmas {
		sigmas = respaced(e.settings, sigmas[len(sigmas)-1], sigmas[0], steps)
		timesteps = timestepsOf(sigmas, logs)
	}
	sigmas = toFloat32(append(sigmas, finalSigma(e.settings, table)))
	if e.timestepType == "continuous" && e.predictionType == predictV {
		timesteps = nil
		for _, sigma := range sigmas[:len(sigmas)-1] {
			timesteps = append(timesteps, 0.25*math.Log(sigma))
		}
	}
	return toFloat32(timesteps), sigmas
}

// finalSigma ends the schedule: 0, or the lowest noise of the training table.
func finalSigma(s *settings, table []float32) float64 {
	if s.finalSigmasType == "sigma_min" {
		return float64(table[0])
	}
	return 0
}

// InitNoiseSigma implements Scheduler.
func (e *euler) InitNoiseSigma() float64 { return initNoiseSigma(e.settings, e.sigmas) }

// InputScale implements Scheduler.
func (e *euler) InputScale(i int) float64 { return eulerInputScale(e.sigmas, i) }

// initNoiseSigma is the largest sigma, or with leading spacing, whose schedule starts below the largest noise, the
// standard deviation of signal and noise together.
func initNoiseSigma(s *settings, sigmas []float64) float64 {
	if len(sigmas) == 0 {
		return 1
	}
	highest := slices.Max(sigmas)
	if s.timestepSpacing == "leading" {
		return float64(float32(math.Sqrt(float64(highest*highest) + 1)))
	}
	return highest
}

func eulerInputScale(sigmas []float64, i int) float64 {
	if i < 0 || i >= len(sigmas) {
		return 1
	}
	return 1 / math.Sqrt(float64(sigmas[i]*sigmas[i])+1)
}
