package diffusion

import (
	"fmt"
	"math"

	"genfn/bindings/kernels"
)

// flowMatch is FlowMatchEulerDiscreteScheduler: Euler steps along the rectified flow sample = (1-sigma)*x0 +
// sigma*noise, whose model predicts noise - x0 (Esser et al. 2024, arXiv:2403.03206).
type flowMatch struct {
	*settings
	loop
	plan []kernels.StepArgs
}

var _ Scheduler = (*flowMatch)(nil)

func flowMatchClass() *class {
	return &class{
		name: classFlowMatch,
		defaults: map[string]any{
			"num_train_timesteps": 1000, "shift": 1.0, "use_dynamic_shifting": false, "base_shift": 0.5,
			"max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096, "invert_sigmas": false,
			"shift_terminal": nil, "use_karras_sigmas": false, "use_exponential_sigmas": false,
			"use_beta_sigmas": false, "time_shift_type": "exponential", "stochastic_sampling": false,
			"sigma_min": nil, "sigma_max": nil,
		},
		choices: map[string][]string{"time_shift_type": {"exponential", "linear"}},
		check:   checkFlowMatch,
		make:    func(s *settings) Scheduler { return &flowMatch{settings: s} },
	}
}

func checkFlowMatch(s *settings) *ConfigError {
	if s.shift <= 0 {
		return invalid("shift", s.shift, "expected more than 0")
	}
	if s.maxImageSeqLen <= s.baseImageSeqLen {
		return invalid("max_image_seq_len", s.maxImageSeqLen, fmt.Sprintf("expected more than base_image_seq_len = %d", s.baseImageSeqLen))
	}
	return checkTerminal(s)
}

func checkTerminal(s *settings) *ConfigError {
	if s.shiftTerminal != nil && (*s.shiftTerminal < 0 || *s.shiftTerminal >= 1) {
		return invalid("shift_terminal", *s.shiftTerminal, "expected null, or at least 0 and less than 1")
	}
	return nil
}

// Class implements Scheduler.
func (f *flowMatch) Class() string { return classFlowMatch }

// Begin implements Scheduler.
func (f *flowMatch) Begin(steps, batch, elements int, o Options) error {
	f.reset()
	if err := checkMu(classFlowMatch, f.dynamicShifting, o.Mu); err != nil {
		return err
	}
	if steps < 1 || steps > maxTrainTimesteps {
		return fmt.Errorf("diffusion: %d steps, expected 1 to %d", steps, maxTrainTimesteps)
	}
	if err := checkFlowSigmas(o.Sigmas, steps); err != nil {
		return err
	}
	timesteps, sigmas := f.schedule(steps, o)
	f.plan = make([]kernels.StepArgs, steps)
	for i := range f.plan {
		f.plan[i] = f.coefficients(sigmas[i], sigmas[i+1], sigmas[steps])
	}
	if err := checkPlan(classFlowMatch, f.plan); err != nil {
		return err
	}
	return f.begin(batch, elements, timesteps, sigmas)
}

// checkFlowSigmas checks sigmas that the caller passes: one a step, descending within (0, 1].
func checkFlowSigmas(sigmas []float64, steps int) error {
	if sigmas == nil {
		return nil
	}
	if len(sigmas) != steps {
		return fmt.Errorf("diffusion: %d sigmas for %d steps, expected one for each", len(sigmas), steps)
	}
	above := math.Inf(1)
	for i, s := range sigmas {
		if !(s > 0 && s <= 1 && s < above) {
			return fmt.Errorf("diffusion: sigma %d is %v, expected descending numbers above 0 and at most 1", i, s)
		}
		above = s
	}
	return nil
}

func (f *flowMatch) schedule(steps int, o Options) (timesteps, sigmas []float64) {
	train := float64(f.numTrain)
	r := rounding(inFloat64)
	if o.Sigmas != nil {
		r = inFloat32
		sigmas = toFloat32(append([]float64(nil), o.Sigmas...))
	} else {
		low, high := f.trainingEnds()
		sigmas = linspace(high*train, low*train, steps)
		for i, t := range sigmas {
			sigmas[i] = t / train
		}
	}
	if f.dynamicShifting {
		timeShift(sigmas, f.timeShiftType, *o.Mu, r)
	} else {
		shiftSigmas(sigmas, f.shift, r)
	}
	if f.shiftTerminal != nil && *f.shiftTerminal != 0 {
		stretchToTerminal(sigmas, *f.shiftTerminal, r)
	}
	if f.karrasSigmas || f.exponentialSigmas {
		sigmas = respaced(f.settings, sigmas[steps-1], sigmas[0], steps)
	}
	toFloat32(sigmas)
	end := 0.0
	if f.invertSigmas {
		for i, s := range sigmas {
			sigmas[i] = inFloat32(1 - s)
		}
		end = 1
	}
	timesteps = make([]float64, steps)
	for i, s := range sigmas {
		timesteps[i] = inFloat32(s * train)
	}
	return timesteps, append(sigmas, end)
}

// trainingEnds are the lowest and the highest sigma of the training schedule, already shifted where the shift is
// fixed. The schedule between them is shifted again, as diffusers does.
func (f *flowMatch) trainingEnds() (low, high float64) {
	ends := []float64{inFloat32(1 / float64(f.numTrain)), 1}
	if !f.dynamicShifting {
		shiftSigmas(ends, f.shift, inFloat32)
	}
	return ends[0], ends[1]
}

// coefficients of the step from sigma to next. Stochastic sampling goes to x0 and back up with fresh noise. end is
// the sigma of the noiseless sample, to which Denoised extrapolates.
func (f *flowMatch) coefficients(sigma, next, end float64) kernels.StepArgs {
	if f.stochastic {
		return kernels.StepArgs{
			ConvSample: 1, ConvOutput: float32(-sigma), ConvertedCoef: float32(1 - next), NoiseCoef: float32(next),
		}
	}
	return kernels.StepArgs{
		ConvSample: 1, ConvOutput: float32(end - sigma), SampleCoef: 1, OutputCoef: float32(next - sigma),
	}
}

// NeedsNoise is true for every step of stochastic sampling, the last too: diffusers draws it.
func (f *flowMatch) NeedsNoise(i int) bool { return f.stochastic && i < len(f.timesteps) }
