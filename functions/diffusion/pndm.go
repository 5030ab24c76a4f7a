package diffusion

import (
	"fmt"
	"math"

	"genfn/bindings/kernels"
)

// pndm is PNDMScheduler (Liu et al. 2022, arXiv:2202.09778): a linear multistep method (PLMS, formula 12) that starts
// with 12 Runge-Kutta calls, or, with skip_prk_steps, with two calls at the second timestep.
type pndm struct {
	*settings
	loop
	plan []pndmCall
}

var _ Scheduler = (*pndm)(nil)

func pndmClass() *class {
	return &class{
		name: classPNDM,
		defaults: tableDefaults(map[string]any{
			"skip_prk_steps": false, "set_alpha_to_one": false, "timestep_spacing": "leading",
		}),
		choices: map[string][]string{"beta_schedule": schedules, "prediction_type": {predictEpsilon, predictV}, "timestep_spacing": spacings},
		make:    func(s *settings) Scheduler { return &pndm{settings: s} },
	}
}

// pndmSlots is the number of earlier outputs that a run keeps: four for the multistep formula, two for a Runge-Kutta group.
const pndmSlots = 6

// pndmCall is one model call: prev = SampleCoef*base + OutputCoef*output + weighted earlier outputs.
type pndmCall struct {
	kernels.StepArgs         // coefficients only
	history            []int // slots, one for each HistoryCoef
	store              int   // slot for the output, -1 for none
	save               bool  // keep the sample before the step
	fromSaved          bool  // base is the kept sample
	x0Sample, x0Output float64
}

// Class implements Scheduler.
func (p *pndm) Class() string { return classPNDM }

// Begin implements Scheduler.
func (p *pndm) Begin(steps, batch, elements int, o Options) error {
	p.reset()
	if err := noOptions(classPNDM, o); err != nil {
		return err
	}
	if err := checkSteps(p.settings, steps); err != nil {
		return err
	}
	if !p.skipPRKSteps && steps < 4 {
		return fmt.Errorf("diffusion: %s: %d steps, expected at least 4 with skip_prk_steps false", classPNDM, steps)
	}
	planner := pndmPlanner{settings: p.settings, alphas: newAlphaTable(p.settings), stride: p.numTrain / steps}
	base := spacedTimesteps(p.settings, steps)
	var err error
	if p.skipPRKSteps {
		err = planner.multistep(skippedTimesteps(base))
	} else if err = planner.rungeKutta(base[:4]); err == nil {
		err = planner.multistep(base[3:])
	}
	if err != nil {
		return err
	}
	p.plan = planner.calls
	coefs := make([]kernels.StepArgs, len(p.plan))
	for i, call := range p.plan {
		coefs[i] = call.StepArgs
	}
	if err := checkPlan(classPNDM, coefs); err != nil {
		return err
	}
	if err := p.begin(batch, elements, planner.timesteps, nil); err != nil {
		return err
	}
	p.kept, p.saves = pndmSlots, true
	return nil
}

// skippedTimesteps repeats the second timestep, which is called once to go there and once to correct.
func skippedTimesteps(t []float64) []float64 {
	if len(t) < 2 {
		return t
	}
	return append([]float64{t[0], t[1], t[1]}, t[2:]...)
}

func (r *Run[V]) stepPNDM(call *pndmCall, in StepInput[V]) error {
	if err := r.convert(in, call.x0Sample, call.x0Output, r.denoised); err != nil {
		return err
	}
	r.current = r.denoised
	if call.save {
		if err := r.arrays.Copy(r.saved, in.Sample); err != nil {
			return err
		}
	}
	a := r.planned(&call.StepArgs, in.Sample)
	guide(a, in)
	a.Prev = in.Sample
	if call.fromSaved {
		a.Sample = r.saved
	}
	if call.store >= 0 {
		a.ConvOutput, a.Converted = 1, r.kept[call.store]
	}
	a.History = r.history[:0]
	for _, slot := range call.history {
		a.History = append(a.History, r.kept[slot])
	}
	return r.arrays.Step(a)
}

// pndmPlanner turns the state machine of step_prk and step_plms into a list of calls. Slots 0 to 3 hold the outputs
// of whole steps in turn, 4 and 5 the second and third of a Runge-Kutta group.
type pndmPlanner struct {
	*settings
	alphas    alphaTable
	stride    int // training timesteps between two steps
	timesteps []float64
	calls     []pndmCall
	whole     []int // slots of the outputs of whole steps, newest last
}

// rungeKutta plans four calls for each of the three intervals between the timesteps (formula 13): at its start,
// twice half a stride below, and at its end.
func (p *pndmPlanner) rungeKutta(t []float64) error {
	half := p.stride / 2
	for g := range 3 {
		start, end := int(t[g]), int(t[g+1])
		middle := end + half
		group := []int{g, 4, 5}
		plan := []struct {
			at, to int
			last   float64 // weight of the call's own output
			earlier
		}{
			{start, start - half, 1, earlier{}},
			{middle, middle, 1, earlier{}},
			{middle, middle - half, 1, earlier{}},
			{end, end, 1.0 / 6, earlier{group, []float64{1.0 / 6, 1.0 / 3, 1.0 / 3}}},
		}
		for j, c := range plan {
			call, err := p.call(c.at, start, c.to, c.last, c.earlier)
			if err != nil {
				return err
			}
			call.save, call.fromSaved = j == 0, j > 0
			if j < 3 {
				call.store = group[j]
			}
			p.calls = append(p.calls, call)
		}
		p.whole = append(p.whole, g)
	}
	return nil
}

// multistep plans one call for each timestep. Without Runge-Kutta steps before it, the second call is made at the
// end of the first interval and repeats that interval with the mean of both outputs.
func (p *pndmPlanner) multistep(t []float64) error {
	skipped := len(p.whole) == 0
	for i, ti := range t {
		at := int(ti)
		var call pndmCall
		var err error
		if skipped && i == 1 {
			call, err = p.call(at, at+p.stride, at, 0.5, earlier{p.whole, []float64{0.5}})
			call.fromSaved = true
		} else {
			own, before := p.multistepWeights()
			call, err = p.call(at, at, at-p.stride, own, before)
			call.save = skipped && i == 0
			call.store = p.storeWhole()
		}
		if err != nil {
			return err
		}
		p.calls = append(p.calls, call)
	}
	return nil
}

// earlier is a weighted sum of kept outputs.
type earlier struct {
	slots   []int
	weights []float64
}

// multistepWeights are the Adams-Bashforth weights for as many earlier outputs as there are: the one of the current
// output, and those of the earlier ones, newest last.
func (p *pndmPlanner) multistepWeights() (own float64, before earlier) {
	kept := p.whole[max(0, len(p.whole)-3):]
	switch len(kept) {
	case 0:
		return 1, earlier{}
	case 1:
		return 3.0 / 2, earlier{kept, []float64{-1.0 / 2}}
	case 2:
		return 23.0 / 12, earlier{kept, []float64{5.0 / 12, -16.0 / 12}}
	default:
		return 55.0 / 24, earlier{kept, []float64{-9.0 / 24, 37.0 / 24, -59.0 / 24}}
	}
}

func (p *pndmPlanner) storeWhole() int {
	slot := len(p.whole) % 4
	p.whole = append(p.whole, slot)
	return slot
}

// call plans a model call at a timestep that moves the sample between two others (formula 9).
func (p *pndmPlanner) call(at, from, to int, own float64, before earlier) (pndmCall, error) {
	p.timesteps = append(p.timesteps, float64(at))
	var a [3]float32
	for i, t := range []int{at, from} {
		var err error
		if a[i], err = p.alphas.at(classPNDM, t); err != nil {
			return pndmCall{}, err
		}
	}
	var err error
	if a[2], err = p.alphas.before(classPNDM, to); err != nil {
		return pndmCall{}, err
	}
	alpha, previous := float64(a[1]), float64(a[2])
	beta, previousBeta := float64(1-a[1]), float64(1-a[2])
	sample := math.Sqrt(previous / alpha)
	output := -(previous - alpha) / (alpha*math.Sqrt(previousBeta) + math.Sqrt(alpha*beta*previous))
	eps := conversionOf(p.predictionType, math.Sqrt(alpha), math.Sqrt(beta))
	sample += output * eps.epsSample
	output *= eps.epsOutput

	x0 := conversionOf(p.predictionType, math.Sqrt(float64(a[0])), math.Sqrt(float64(1-a[0])))
	call := pndmCall{store: -1, history: before.slots, x0Sample: x0.x0Sample, x0Output: x0.x0Output}
	call.SampleCoef, call.OutputCoef = float32(sample), float32(output*own)
	for _, w := range before.weights {
		call.HistoryCoef = append(call.HistoryCoef, float32(output*w))
	}
	return call, nil
}
