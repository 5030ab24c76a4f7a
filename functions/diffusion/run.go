package diffusion

import (
	"errors"
	"fmt"

	"genfn/bindings/kernels"
)

// Arrays is where the values of a run lie and who computes with them. V names an array: a slice of the host's memory
// (Host), or a range of a device's; its zero value stands for none.
type Arrays[V any] interface {
	// Make returns an array of n values, whose content is not defined. It is freed by whoever made the Arrays, once the
	// run is over.
	Make(n int) (V, error)
	// Len is the number of float32 values, 0 for the zero V.
	Len(v V) int
	// Copy copies src to dst, which have the same length.
	Copy(dst, src V) error
	// Step is kernels.Set.Step. What the arguments point to is the caller's again when it returns.
	Step(a *kernels.StepArgsOf[V]) error
	// OnHost has f change the values of arrays in place by code that runs on the host. A device's values go there and back:
	// only what no kernel does comes this way, dynamic thresholding and literal Euler steps.
	OnHost(f func(values ...[]float32), arrays ...V) error
}

// StepInput is what one Step works on; every array has batch*elements values. With Uncond the model output is
// Uncond + Guidance*(Cond-Uncond); without, it is Cond and Guidance is not read. Noise is for NeedsNoise steps.
type StepInput[V any] struct {
	Sample, Cond, Uncond, Noise V
	Guidance                    float32
}

// Run denoises what a Scheduler has planned. All its memory is there when Start returns; on the host a Step allocates
// nothing. On a device a Step queues its work, in the order of the calls, and waits for none of it but OnHost's. It is
// not safe for concurrent use.
type Run[V any] struct {
	scheduler Scheduler
	arrays    Arrays[V]
	loop      *loop
	begun     int // loop.begun of the plan that this is a run of
	next      int // call

	denoised V   // converted output of classes that keep none
	current  V   // what Denoised gives
	kept     []V // model outputs, converted or not: newest first, or by slot (PNDM)
	saved    V   // an earlier sample

	args    kernels.StepArgsOf[V] // of the step in progress
	history [kernels.MaxHistory]V
	coefs   [kernels.MaxHistory]float32
}

// Start makes the memory of a run of what s has planned last. It is good until the next Begin of s.
func Start[V any](s Scheduler, arrays Arrays[V]) (*Run[V], error) {
	l := s.state()
	switch {
	case arrays == nil:
		return nil, errors.New("diffusion: Start without arrays")
	case l.timesteps == nil:
		return nil, errors.New("diffusion: Start before Begin")
	}
	r := &Run[V]{scheduler: s, arrays: arrays, loop: l, begun: l.begun, kept: make([]V, l.kept)}
	wanted := []*V{&r.denoised}
	if l.saves {
		wanted = append(wanted, &r.saved)
	}
	for i := range r.kept {
		wanted = append(wanted, &r.kept[i])
	}
	for _, v := range wanted {
		var err error
		if *v, err = arrays.Make(l.size); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Denoised is the estimate of the noiseless sample at the last Step, for previews. It is the run's memory and valid
// until the next Step; the zero V before the first.
func (r *Run[V]) Denoised() V { return r.current }

// Step advances in.Sample in place with the model's output for call i. Calls go in order, once each.
func (r *Run[V]) Step(i int, in StepInput[V]) error {
	if err := r.enter(i, in); err != nil {
		return err
	}
	switch s := r.scheduler.(type) {
	case *ddim:
		return r.advance(&s.plan[i], in, s.settings)
	case *pndm:
		return r.stepPNDM(&s.plan[i], in)
	case *euler:
		return r.stepEuler(&s.plan[i], in, s.settings)
	case *eulerAncestral:
		return r.stepEuler(&s.plan[i], in, s.settings)
	case *lcm:
		return r.advance(&s.plan[i], in, s.settings)
	case *dpm:
		return r.stepDPM(s, i, in)
	case *unipc:
		return r.stepUniPC(s, i, in)
	case *flowMatch:
		return r.advance(&s.plan[i], in, s.settings)
	}
	return fmt.Errorf("diffusion: %s has no steps", r.scheduler.Class())
}

// enter checks the arguments of Step i and moves the position on.
func (r *Run[V]) enter(i int, in StepInput[V]) error {
	l := r.loop
	guided := r.arrays.Len(in.Uncond) > 0
	switch {
	case l.timesteps == nil || r.begun != l.begun:
		return errors.New("diffusion: Step of a run whose scheduler has begun anew")
	case i != r.next || i >= len(l.timesteps):
		return fmt.Errorf("diffusion: Step %d, expected %d of 0 to %d", i, r.next, len(l.timesteps)-1)
	case guided && !finite(in.Guidance):
		return fmt.Errorf("diffusion: guidance scale is %v, expected a finite number", in.Guidance)
	}
	for _, s := range [...]struct {
		name   string
		values V
		wanted bool
	}{{"Sample", in.Sample, true}, {"Cond", in.Cond, true}, {"Uncond", in.Uncond, guided}, {"Noise", in.Noise, r.scheduler.NeedsNoise(i)}} {
		if n := r.arrays.Len(s.values); s.wanted && n != l.size {
			return fmt.Errorf("diffusion: Step %d: %s has %d values, expected %d", i, s.name, n, l.size)
		}
	}
	r.next++
	return nil
}

// planned begins the arguments of a step on sample: the coefficients of p.
func (r *Run[V]) planned(p *kernels.StepArgs, sample V) *kernels.StepArgsOf[V] {
	r.args = kernels.StepArgsOf[V]{
		Sample: sample, ConvSample: p.ConvSample, ConvOutput: p.ConvOutput, Clip: p.Clip,
		SampleCoef: p.SampleCoef, OutputCoef: p.OutputCoef, ConvertedCoef: p.ConvertedCoef, NoiseCoef: p.NoiseCoef, HistoryCoef: p.HistoryCoef,
	}
	return &r.args
}

// guide adds the model's output to the arguments.
func guide[V any](a *kernels.StepArgsOf[V], in StepInput[V]) {
	a.Cond, a.Uncond, a.Guidance = in.Cond, in.Uncond, in.Guidance
}

// convert writes convSample*sample + convOutput*output to dst.
func (r *Run[V]) convert(in StepInput[V], convSample, convOutput float64, dst V) error {
	r.args = kernels.StepArgsOf[V]{Sample: in.Sample, ConvSample: float32(convSample), ConvOutput: float32(convOutput), Converted: dst}
	guide(&r.args, in)
	return r.arrays.Step(&r.args)
}

// threshold applies dynamic thresholding to a denoised sample.
func (r *Run[V]) threshold(x V, s *settings) error {
	return r.arrays.OnHost(func(values ...[]float32) { thresholdSample(values[0], r.loop.batch, s) }, x)
}

// advance runs the planned combination on in.Sample, with the converted output going to r.denoised, thresholded if
// the settings say so.
func (r *Run[V]) advance(p *kernels.StepArgs, in StepInput[V], s *settings) error {
	r.current = r.denoised
	if s.thresholding {
		if err := r.convert(in, float64(p.ConvSample), float64(p.ConvOutput), r.denoised); err != nil {
			return err
		}
		if err := r.threshold(r.denoised, s); err != nil {
			return err
		}
	}
	a := r.planned(p, in.Sample)
	guide(a, in)
	a.Prev = in.Sample
	if a.NoiseCoef != 0 {
		a.Noise = in.Noise
	}
	if !s.thresholding {
		a.Converted = r.denoised
		return r.arrays.Step(a)
	}
	r.history[0], r.coefs[0] = r.denoised, a.ConvertedCoef
	a.History, a.HistoryCoef = r.history[:1], r.coefs[:1]
	a.ConvSample, a.ConvOutput, a.ConvertedCoef = 0, 0, 0
	return r.arrays.Step(a)
}

// rotate makes room for the newest output and gives its place.
func (r *Run[V]) rotate() V {
	last := len(r.kept) - 1
	oldest := r.kept[last]
	copy(r.kept[1:], r.kept[:last])
	r.kept[0] = oldest
	return oldest
}

// convertX0 writes the denoised sample to dst, thresholded where the settings say so.
func (r *Run[V]) convertX0(m *multistep, i int, in StepInput[V], dst V) error {
	c := m.conversions[i]
	if err := r.convert(in, c.x0Sample, c.x0Output, dst); err != nil {
		return err
	}
	r.current = dst
	if m.thresholding {
		return r.threshold(dst, m.settings)
	}
	return nil
}
