package diffusion

import (
	"fmt"
	"math"
	"slices"

	"genfn/bindings/kernels"
)

// dpm is DPMSolverMultistepScheduler: DPM-Solver (Lu et al. 2022, arXiv:2206.00927), DPM-Solver++ (arXiv:2211.01095)
// and their stochastic forms, of order 1 to 3.
type dpm struct {
	multistep
	stochastic bool
	inX0       bool // the ++ algorithms integrate the denoised sample
	plan       []kernels.StepArgs
}

var _ Scheduler = (*dpm)(nil)

func dpmClass() *class {
	return &class{
		name: classDPM,
		defaults: tableDefaults(map[string]any{
			"solver_order": 2, "thresholding": false, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0,
			"algorithm_type": "dpmsolver++", "solver_type": "midpoint", "lower_order_final": true,
			"euler_at_final": false, "use_karras_sigmas": false, "use_exponential_sigmas": false,
			"use_beta_sigmas": false, "use_lu_lambdas": false, "use_flow_sigmas": false, "flow_shift": 1.0,
			"final_sigmas_type": "zero", "lambda_min_clipped": math.Inf(-1), "variance_type": nil,
			"timestep_spacing": "linspace", "rescale_betas_zero_snr": false, "use_dynamic_shifting": false,
			"time_shift_type": "exponential", "sigma_min": nil, "sigma_max": nil,
		}),
		choices: map[string][]string{
			"beta_schedule": schedules, "prediction_type": fourKinds, "timestep_spacing": spacings,
			"final_sigmas_type": {"zero", "sigma_min"}, "time_shift_type": {"exponential"},
			"algorithm_type": {"dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++", "deis"},
			"solver_type":    {"midpoint", "heun", "logrho", "bh1", "bh2"},
		},
		check: checkDPM,
		make:  func(s *settings) Scheduler { return newDPM(s) },
	}
}

// newDPM maps the values of compatible classes as diffusers does: a file of DEIS or UniPC stays usable.
func newDPM(s *settings) *dpm {
	own := *s
	if own.algorithm == "deis" {
		own.algorithm = "dpmsolver++"
	}
	if own.solverType != "heun" {
		own.solverType = "midpoint"
	}
	return &dpm{
		multistep:  multistep{settings: &own},
		stochastic: own.algorithm == "sde-dpmsolver" || own.algorithm == "sde-dpmsolver++",
		inX0:       own.algorithm == "dpmsolver++" || own.algorithm == "sde-dpmsolver++",
	}
}

func checkDPM(s *settings) *ConfigError {
	plus := s.algorithm == "dpmsolver++" || s.algorithm == "sde-dpmsolver++"
	switch {
	case !plus && s.finalSigmasType == "zero":
		return invalid("final_sigmas_type", "zero", fmt.Sprintf("supported with algorithm_type %s: sigma_min", s.algorithm))
	case !plus && s.algorithm != "deis" && s.predictionType == predictFlow:
		return invalid("prediction_type", predictFlow, fmt.Sprintf("supported with algorithm_type %s: epsilon, sample, v_prediction", s.algorithm))
	case s.algorithm == "sde-dpmsolver" && s.solverOrder == 3:
		return invalid("solver_order", 3, "supported with algorithm_type sde-dpmsolver: 1, 2")
	case s.varianceType != nil && (*s.varianceType == "learned" || *s.varianceType == "learned_range"):
		return invalid("variance_type", *s.varianceType, "models that predict their variance are not supported")
	}
	return checkSolver(s)
}

// Class implements Scheduler.
func (d *dpm) Class() string { return classDPM }

// Begin implements Scheduler.
func (d *dpm) Begin(steps, batch, elements int, o Options) error {
	d.reset()
	if err := noSigmas(classDPM, o); err != nil {
		return err
	}
	if o.Mu != nil && !d.dynamicShifting {
		return fmt.Errorf("diffusion: %s takes Mu only with use_dynamic_shifting", classDPM)
	}
	if err := checkMu(classDPM, false, o.Mu); err != nil {
		return err
	}
	if err := checkSteps(d.settings, steps); err != nil {
		return err
	}
	timesteps, sigmas, err := d.schedule(steps, o)
	if err != nil {
		return err
	}
	n := len(timesteps)
	d.plan = make([]kernels.StepArgs, n)
	for i := range d.plan {
		d.plan[i] = d.coefficients(sigmas, i, d.order(i, n))
	}
	if err := checkPlan(classDPM, d.plan); err != nil {
		return err
	}
	if err := d.begin(batch, elements, timesteps, sigmas); err != nil {
		return err
	}
	d.kept = d.solverOrder
	if err := d.setConversions(classDPM, n); err != nil {
		d.reset()
		return err
	}
	return nil
}

// schedule gives timesteps and sigmas. Respacing takes the whole training table; lambda_min_clipped cuts the noisy
// end of the plain timesteps only.
func (d *dpm) schedule(steps int, o Options) (timesteps, sigmas []float64, err error) {
	table := trainingSigmas(d.settings)
	logs := logTable(table)
	last := d.numTrain
	for _, lambda := range trainingLambdas(d.settings) {
		if float64(lambda) < d.lambdaMinClipped {
			last--
		}
	}
	if last < 2 {
		return nil, nil, fmt.Errorf("diffusion: %s: lambda_min_clipped %v leaves %d training timesteps, expected at least 2", classDPM, d.lambdaMinClipped, last)
	}
	timesteps = solverTimesteps(d.settings, steps, last)
	switch {
	case d.karrasSigmas, d.luLambdas, d.exponentialSigmas:
		sigmas = d.respacedSigmas(table, logs, steps)
		timesteps = timestepsOf(sigmas, logs)
		if (d.karrasSigmas || d.luLambdas) && d.betaSchedule != "squaredcos_cap_v2" {
			roundEven(timesteps)
		}
	case d.flowSigmas:
		sigmas = d.flowSchedule(steps, o)
		timesteps = scaled(sigmas, float64(d.numTrain))
	default:
		sigmas = interpolate(timesteps, table)
	}
	sigmas = toFloat32(append(sigmas, finalSigma(d.settings, table)))
	return truncate(timesteps), sigmas, nil
}

func (d *dpm) respacedSigmas(table, logs []float32, steps int) []float64 {
	last := len(table) - 1
	if d.luLambdas && !d.karrasSigmas { // evenly spaced in log sigma between the ends of the table
		sigmas := linspace(0, 1, steps)
		for i, ramp := range sigmas {
			high, low := float64(logs[last]), float64(logs[0])
			sigmas[i] = math.Exp(high + float64(ramp*(low-high)))
		}
		return sigmas
	}
	return respaced(d.settings, float64(table[0]), float64(table[last]), steps)
}

// flowSchedule spaces the sigmas of a flow evenly below 1 and shifts them.
func (d *dpm) flowSchedule(steps int, o Options) []float64 {
	shift := d.flowShift
	if o.Mu != nil {
		shift = math.Exp(*o.Mu)
	}
	sigmas := linspace(1, 1/float64(d.numTrain), steps+1)
	for i, a := range sigmas {
		sigmas[i] = 1 - a
	}
	shiftSigmas(sigmas, shift, inFloat64)
	slices.Reverse(sigmas)
	return sigmas[:steps]
}

func scaled(v []float64, factor float64) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = x * factor
	}
	return out
}

// order is the order of step i of n: lower at the start, where outputs are missing, and at the end for stability.
func (d *dpm) order(i, n int) int {
	short := d.lowerOrderFinal && n < 15
	if i == n-1 && (d.eulerAtFinal || short || d.finalSigmasType == "zero") {
		return 1
	}
	order := min(d.solverOrder, i+1)
	if i == n-2 && short {
		order = min(order, 2)
	}
	return order
}

// coefficients of step i. The update is sample*a + d0*D0 + d1*D1 + d2*D2 + noise, where D0 is the newest output and
// D1, D2 are divided differences of the outputs; the differences are written out in the outputs here.
func (d *dpm) coefficients(sigmas []float64, i, order int) kernels.StepArgs {
	to, from := d.pointAt(sigmas[i+1]), d.pointAt(sigmas[i])
	h := to.lambda - from.lambda
	if h == 0 { // the schedule repeats its last sigma, and the step keeps the sample
		order = 1
	}
	w := d.weights(to, from, h, order)
	m := [3]float64{w.d0, 0, 0}
	if order >= 2 {
		s1 := d.pointAt(sigmas[i-1])
		r0 := (from.lambda - s1.lambda) / h
		if order == 2 {
			m[0] += w.d1 / r0
			m[1] -= w.d1 / r0
		} else {
			r1 := (s1.lambda - d.pointAt(sigmas[i-2]).lambda) / h
			// D1 = u + r0/(r0+r1)*(u-v), D2 = (u-v)/(r0+r1); u = (m0-m1)/r0, v = (m1-m2)/r1
			u := w.d1 + (w.d1*r0+w.d2)/(r0+r1)
			v := -(w.d1*r0 + w.d2) / (r0 + r1)
			m[0] += u / r0
			m[1] += v/r1 - u/r0
			m[2] -= v / r1
		}
	}
	a := kernels.StepArgs{SampleCoef: float32(w.sample), ConvertedCoef: float32(m[0]), NoiseCoef: float32(w.noise)}
	for _, c := range m[1:order] {
		a.HistoryCoef = append(a.HistoryCoef, float32(c))
	}
	return a
}

// dpmWeights are the factors of sample, divided differences and noise.
type dpmWeights struct{ sample, d0, d1, d2, noise float64 }

// weights of the update over h in lambda. Midpoint and Heun differ in d1 of the second order.
func (d *dpm) weights(to, from point, h float64, order int) dpmWeights {
	var w dpmWeights
	var d1 float64 // of Heun and of the third order
	switch d.algorithm {
	case "dpmsolver++":
		e := math.Expm1(-h)
		w.sample, w.d0 = to.sigma/from.sigma, -to.alpha*e
		d1 = to.alpha * (e/h + 1)
		w.d2 = -to.alpha * ((e+h)/(h*h) - 0.5)
	case "dpmsolver":
		e := math.Expm1(h)
		w.sample, w.d0 = to.alpha/from.alpha, -to.sigma*e
		d1 = -to.sigma * (e/h - 1)
		w.d2 = -to.sigma * ((e-h)/(h*h) - 0.5)
	case "sde-dpmsolver++":
		e := -math.Expm1(-2 * h)
		w.sample, w.d0 = to.sigma/from.sigma*math.Exp(-h), to.alpha*e
		d1 = to.alpha * (e/(-2*h) + 1)
		w.d2 = to.alpha * ((e-2*h)/(4*h*h) - 0.5)
		w.noise = to.sigma * math.Sqrt(e)
	default: // sde-dpmsolver
		e := math.Expm1(h)
		w.sample, w.d0 = to.alpha/from.alpha, -2*to.sigma*e
		d1 = -2 * to.sigma * (e/h - 1)
		w.noise = to.sigma * math.Sqrt(math.Expm1(2*h))
	}
	if math.IsNaN(w.noise) { // the sigmas rise by a rounding error
		w.noise = 0
	}
	if order == 2 && d.solverType == "midpoint" {
		w.d1 = w.d0 / 2
	} else {
		w.d1 = d1
	}
	return w
}

// NeedsNoise implements Scheduler.
func (d *dpm) NeedsNoise(i int) bool { return d.stochastic && i < len(d.timesteps) }

// stepDPM does everything in one pass where the converted output can be part of the combination as it is made.
func (r *Run[V]) stepDPM(d *dpm, i int, in StepInput[V]) error {
	newest, p := r.rotate(), &d.plan[i]
	earlier := r.kept[1 : 1+len(p.HistoryCoef)]
	onePass := d.inX0 && !d.thresholding
	if !onePass {
		if err := r.convertDPM(d, i, in, newest); err != nil {
			return err
		}
	}
	a := r.planned(p, in.Sample)
	a.Prev = in.Sample
	if a.NoiseCoef != 0 {
		a.Noise = in.Noise
	}
	if onePass {
		c := d.conversions[i]
		guide(a, in)
		a.ConvSample, a.ConvOutput, a.Converted = float32(c.x0Sample), float32(c.x0Output), newest
		a.History = earlier
		r.current = newest
		return r.arrays.Step(a)
	}
	a.History = r.kept[:1+len(p.HistoryCoef)]
	a.HistoryCoef = append(append(r.coefs[:0], p.ConvertedCoef), p.HistoryCoef...)
	a.ConvertedCoef = 0
	return r.arrays.Step(a)
}

// convertDPM fills newest and the denoised sample in the cases that do not fit into one pass. Thresholded
// solvers of the noise go through the denoised sample: eps = (sample - alpha*x0)/sigma.
func (r *Run[V]) convertDPM(d *dpm, i int, in StepInput[V], newest V) error {
	if d.inX0 {
		return r.convertX0(&d.multistep, i, in, newest)
	}
	if err := r.convertX0(&d.multistep, i, in, r.denoised); err != nil {
		return err
	}
	c := d.conversions[i]
	if !d.thresholding {
		return r.convert(in, c.epsSample, c.epsOutput, newest)
	}
	r.history[0], r.coefs[0] = r.denoised, float32(-c.alpha/c.sigma)
	r.args = kernels.StepArgsOf[V]{Sample: in.Sample, SampleCoef: float32(1 / c.sigma), History: r.history[:1], HistoryCoef: r.coefs[:1], Prev: newest}
	return r.arrays.Step(&r.args)
}
