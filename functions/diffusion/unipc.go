package diffusion

import (
	"fmt"
	"math"
	"slices"

	"genfn/bindings/kernels"
)

// unipc is UniPCMultistepScheduler (Zhao et al. 2023, arXiv:2302.04867): each step first corrects the sample it was
// given with the new model output (UniC), then predicts the next (UniP), both of order 1 to 3.
type unipc struct {
	multistep
	plan []unipcStep
}

var _ Scheduler = (*unipc)(nil)

func unipcClass() *class {
	return &class{
		name: classUniPC,
		defaults: tableDefaults(map[string]any{
			"solver_order": 2, "thresholding": false, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0,
			"predict_x0": true, "solver_type": "bh2", "lower_order_final": true, "disable_corrector": nil,
			"solver_p": nil, "use_karras_sigmas": false, "use_exponential_sigmas": false, "use_beta_sigmas": false,
			"use_flow_sigmas": false, "flow_shift": 1.0, "timestep_spacing": "linspace", "final_sigmas_type": "zero",
			"rescale_betas_zero_snr": false, "use_dynamic_shifting": false, "time_shift_type": "exponential",
			"sigma_min": nil, "sigma_max": nil, "shift_terminal": nil,
		}),
		choices: map[string][]string{
			"beta_schedule": schedules, "prediction_type": fourKinds, "timestep_spacing": spacings,
			"final_sigmas_type": {"zero", "sigma_min"}, "time_shift_type": {"exponential", "linear"},
			"solver_type": {"bh1", "bh2", "midpoint", "heun", "logrho"},
		},
		check: checkUniPC,
		make:  func(s *settings) Scheduler { return newUniPC(s) },
	}
}

// unipcStep holds coefficients only: of the sample, and of the converted outputs, newest first.
type unipcStep struct {
	correct            bool
	corrector, predict kernels.StepArgs
}

// newUniPC maps the solver types of DPM-Solver as diffusers does.
func newUniPC(s *settings) *unipc {
	own := *s
	if own.solverType != "bh1" {
		own.solverType = "bh2"
	}
	// diffusers thresholds the denoised sample only where the solver integrates it.
	own.thresholding = own.thresholding && own.predictX0
	return &unipc{multistep: multistep{settings: &own}}
}

func checkUniPC(s *settings) *ConfigError {
	switch {
	case len(s.solverP) > 0 && string(s.solverP) != "null":
		return &ConfigError{Key: "solver_p", Value: string(s.solverP), Expected: "supported: null"}
	case s.solverType == "bh1" && s.finalSigmasType == "zero":
		return invalid("solver_type", "bh1", `supported with final_sigmas_type zero: bh2 (diffusers gives NaN in the last step of bh1)`)
	case !s.predictX0 && s.predictionType == predictFlow:
		return invalid("prediction_type", predictFlow, "supported with predict_x0 false: epsilon, sample, v_prediction")
	case s.shiftTerminal != nil && !s.flowSigmas:
		return invalid("shift_terminal", *s.shiftTerminal, "supported only with use_flow_sigmas true")
	}
	if err := checkTerminal(s); err != nil {
		return err
	}
	return checkSolver(s)
}

// Class implements Scheduler.
func (u *unipc) Class() string { return classUniPC }

// Begin implements Scheduler.
func (u *unipc) Begin(steps, batch, elements int, o Options) error {
	u.reset()
	if err := checkMu(classUniPC, u.dynamicShifting, o.Mu); err != nil {
		return err
	}
	if err := checkSteps(u.settings, steps); err != nil {
		return err
	}
	if o.Sigmas != nil && (!u.flowSigmas || u.karrasSigmas || u.exponentialSigmas) {
		return fmt.Errorf("diffusion: %s takes Sigmas only with use_flow_sigmas and no respacing", classUniPC)
	}
	if err := checkFlowSigmas(o.Sigmas, steps); err != nil {
		return err
	}
	timesteps, sigmas := u.schedule(steps, o)
	if err := u.planSteps(sigmas, len(timesteps)); err != nil {
		return err
	}
	if err := u.begin(batch, elements, timesteps, sigmas); err != nil {
		return err
	}
	u.kept, u.saves = u.solverOrder+1, true // the corrected sample of the last step
	if err := u.setConversions(classUniPC, len(timesteps)); err != nil {
		u.reset()
		return err
	}
	return nil
}

func (u *unipc) schedule(steps int, o Options) (timesteps, sigmas []float64) {
	table := trainingSigmas(u.settings)
	low, high := float64(table[0]), float64(table[len(table)-1])
	final := low
	switch {
	case u.karrasSigmas && u.flowSigmas:
		sigmas = respaced(u.settings, low, high, steps)
		for i, s := range sigmas {
			sigmas[i] = s / (s + 1)
		}
		timesteps = scaled(sigmas, float64(u.numTrain))
		final = sigmas[steps-1]
	case u.karrasSigmas, u.exponentialSigmas:
		sigmas = respaced(u.settings, low, high, steps)
		timesteps = timestepsOf(sigmas, logTable(table))
		if u.karrasSigmas {
			roundEven(timesteps)
		}
		final = sigmas[steps-1]
	case u.flowSigmas:
		sigmas = u.flowSchedule(steps, o)
		timesteps = scaled(sigmas, float64(u.numTrain))
		final = sigmas[steps-1]
	default:
		timesteps = solverTimesteps(u.settings, steps, u.numTrain)
		sigmas = interpolate(timesteps, table)
	}
	if u.finalSigmasType == "zero" {
		final = 0
	}
	return truncate(timesteps), toFloat32(append(sigmas, final))
}

// flowSchedule spaces the sigmas of a flow from 1 down and shifts them. A first sigma of 1 has no log signal to
// noise ratio and is moved by 1e-6.
func (u *unipc) flowSchedule(steps int, o Options) []float64 {
	const eps = 1e-6
	sigmas := slices.Clone(o.Sigmas)
	if sigmas == nil {
		sigmas = linspace(1, 1/float64(u.numTrain), steps+1)[:steps]
	}
	if u.dynamicShifting {
		timeShift(sigmas, u.timeShiftType, *o.Mu, inFloat64)
	} else {
		shiftSigmas(sigmas, u.flowShift, inFloat64)
	}
	if u.shiftTerminal != nil && *u.shiftTerminal != 0 {
		stretchToTerminal(sigmas, *u.shiftTerminal, inFloat64)
	}
	if math.Abs(sigmas[0]-1) < eps {
		sigmas[0] -= eps
	}
	return sigmas
}

func (u *unipc) planSteps(sigmas []float64, n int) error {
	u.plan = make([]unipcStep, n)
	order := 0
	for i := range u.plan {
		s := &u.plan[i]
		if i > 0 && !slices.Contains(u.disableCorrector, i-1) {
			s.correct = true
			s.corrector = u.corrector(sigmas, i, order)
		}
		order = min(u.solverOrder, i+1)
		if u.lowerOrderFinal {
			order = min(order, n-i)
		}
		s.predict = u.predictor(sigmas, i, order)
		if err := checkPlan(classUniPC, []kernels.StepArgs{s.corrector, s.predict}); err != nil {
			return undefinedStep(classUniPC, i, n)
		}
	}
	return nil
}

// predictor goes from sigma i to i+1 with the outputs of step i and before.
func (u *unipc) predictor(sigmas []float64, i, order int) kernels.StepArgs {
	f := u.formulaFor(sigmas, i, i+1, order)
	var rhos []float64
	switch {
	case order == 2: // the paper's simplification
		rhos = []float64{0.5}
	case order > 2:
		rhos = solve(f.r[:order-1], f.b[:order-1])
	}
	return f.combine(rhos, nil)
}

// corrector goes from sigma i-1 to i again, now with the output of step i too, which is the newest.
func (u *unipc) corrector(sigmas []float64, i, order int) kernels.StepArgs {
	f := u.formulaFor(sigmas, i-1, i, order)
	rhos := []float64{0.5}
	if order > 1 {
		rhos = solve(f.r, f.b)
	}
	return f.combine(rhos[:order-1], &rhos[order-1])
}

// unipcFormula is the update from one noise level to another, without the weights rho of the differences:
// sample*base - scale*first*m0 - scale*bh*sum(rho*D), D_k = (m_k - m0)/ratio_k, m0 the output at the start.
type unipcFormula struct {
	base, first, bh float64 // first and bh include scale
	ratios          []float64
	r               [][]float64 // r[i][k] = ratio_k^i, the last ratio is 1
	b               []float64
}

func (u *unipc) formulaFor(sigmas []float64, from, to, order int) unipcFormula {
	p, start := u.pointAt(sigmas[to]), u.pointAt(sigmas[from])
	h := p.lambda - start.lambda
	hh, base, scale := h, p.alpha/start.alpha, p.sigma
	if u.predictX0 {
		hh, base, scale = -h, p.sigma/start.sigma, p.alpha
	}
	phi1 := math.Expm1(hh)
	bh := phi1
	if u.solverType == "bh1" {
		bh = hh
	}
	f := unipcFormula{base: base, first: scale * phi1, bh: scale * bh}
	for k := 1; k < order; k++ {
		f.ratios = append(f.ratios, (u.pointAt(sigmas[from-k]).lambda-start.lambda)/h)
	}
	phi, factorial := phi1/hh-1, 1.0
	for i := 1; i <= order; i++ {
		row := make([]float64, order)
		for k := range row {
			row[k] = 1
			if k < order-1 {
				row[k] = math.Pow(f.ratios[k], float64(i-1))
			}
		}
		f.r = append(f.r, row)
		f.b = append(f.b, phi*factorial/bh)
		factorial *= float64(i + 1)
		phi = phi/hh - 1/factorial
	}
	return f
}

// combine writes the differences out in the outputs. With newest, the output at the end of the interval takes part
// with that weight and stands first.
func (f unipcFormula) combine(rhos []float64, newest *float64) kernels.StepArgs {
	m0 := -f.first
	var before []float32
	for k, rho := range rhos {
		c := -f.bh * rho / f.ratios[k]
		m0 -= c
		before = append(before, float32(c))
	}
	var outputs []float32
	if newest != nil {
		c := -f.bh * *newest
		m0 -= c
		outputs = append(outputs, float32(c))
	}
	outputs = append(outputs, float32(m0))
	return kernels.StepArgs{SampleCoef: float32(f.base), HistoryCoef: append(outputs, before...)}
}

// solve gives the solution of a small linear system by elimination with row exchange. Only the leading square of
// the rows is read.
func solve(rows [][]float64, right []float64) []float64 {
	n := len(right)
	a := make([][]float64, n)
	for i := range a {
		a[i] = append(slices.Clone(rows[i][:n]), right[i])
	}
	for i := range a {
		pivot := i
		for j := i + 1; j < n; j++ {
			if math.Abs(a[j][i]) > math.Abs(a[pivot][i]) {
				pivot = j
			}
		}
		a[i], a[pivot] = a[pivot], a[i]
		for j := i + 1; j < n; j++ {
			factor := a[j][i] / a[i][i]
			for c := i; c <= n; c++ {
				a[j][c] -= factor * a[i][c]
			}
		}
	}
	x := make([]float64, n)
	for i := n - 1; i >= 0; i-- {
		x[i] = a[i][n]
		for j := i + 1; j < n; j++ {
			x[i] -= a[i][j] * x[j]
		}
		x[i] /= a[i][i]
	}
	return x
}

func (r *Run[V]) stepUniPC(u *unipc, i int, in StepInput[V]) error {
	if err := r.convertUniPC(u, i, in, r.rotate()); err != nil {
		return err
	}
	step := &u.plan[i]
	if step.correct {
		a := r.planned(&step.corrector, r.saved)
		a.History, a.Prev = r.kept[:len(a.HistoryCoef)], r.saved
		if err := r.arrays.Step(a); err != nil {
			return err
		}
	} else if err := r.arrays.Copy(r.saved, in.Sample); err != nil {
		return err
	}
	a := r.planned(&step.predict, r.saved)
	a.History, a.Prev = r.kept[:len(a.HistoryCoef)], in.Sample
	return r.arrays.Step(a)
}

func (r *Run[V]) convertUniPC(u *unipc, i int, in StepInput[V], newest V) error {
	if u.predictX0 {
		return r.convertX0(&u.multistep, i, in, newest)
	}
	if err := r.convertX0(&u.multistep, i, in, r.denoised); err != nil {
		return err
	}
	c := u.conversions[i]
	return r.convert(in, c.epsSample, c.epsOutput, newest)
}
