package diffusion

import (
	"fmt"
	"math"
	"slices"
)

// linspace is numpy.linspace in float64: n values from start to stop, the last one exact.
func linspace(start, stop float64, n int) []float64 {
	out := make([]float64, n)
	if n == 1 {
		out[0] = start
		return out
	}
	step := (stop - start) / float64(n-1)
	for i := range out {
		out[i] = float64(float64(i)*step) + start
	}
	out[n-1] = stop
	return out
}

// arangeDown is numpy.arange(start, 0, -step). Its length is not always start/step: rounding may add a last value
// near 0 (61 steps over 1000 timesteps), as it does in numpy.
func arangeDown(start, step float64) []float64 {
	out := make([]float64, int(math.Ceil((0-start)/-step)))
	delta := (start - step) - start
	for i := range out {
		out[i] = start + float64(float64(i)*delta)
	}
	return out
}

// multiples gives n values 0, ratio, 2*ratio, ... plus the offset.
func multiples(n, ratio, offset int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = float64(i*ratio + offset)
	}
	return out
}

// roundEven rounds every value in place, half to even.
func roundEven(v []float64) []float64 {
	for i, x := range v {
		v[i] = math.RoundToEven(x)
	}
	return v
}

func add(v []float64, x float64) []float64 {
	for i := range v {
		v[i] += x
	}
	return v
}

// spacedTimesteps gives the whole timesteps of DDIM and PNDM, descending (table 2 of Lin et al. 2023,
// arXiv:2305.08891).
func spacedTimesteps(s *settings, steps int) []float64 {
	var t []float64
	switch s.timestepSpacing {
	case "trailing":
		return add(roundEven(arangeDown(float64(s.numTrain), float64(s.numTrain)/float64(steps))), -1)
	case "leading":
		t = multiples(steps, s.numTrain/steps, s.stepsOffset)
	default: // linspace
		t = roundEven(linspace(0, float64(s.numTrain-1), steps))
	}
	slices.Reverse(t)
	return t
}

// eulerTimesteps is spacedTimesteps, but linspace is not rounded to whole numbers, only to float32.
func eulerTimesteps(s *settings, steps int) []float64 {
	if s.timestepSpacing != "linspace" {
		return spacedTimesteps(s, steps)
	}
	t := toFloat32(linspace(0, float64(s.numTrain-1), steps))
	slices.Reverse(t)
	return t
}

// solverTimesteps gives the timesteps of DPM-Solver and UniPC before any respacing by sigmas: one point more is
// spaced out and the last, near 0, left away. last is one more than the highest timestep that may be used.
func solverTimesteps(s *settings, steps, last int) []float64 {
	var t []float64
	switch s.timestepSpacing {
	case "trailing":
		return add(roundEven(arangeDown(float64(last), float64(s.numTrain)/float64(steps))), -1)
	case "leading":
		t = multiples(steps+1, last/(steps+1), s.stepsOffset)
	default: // linspace
		t = roundEven(linspace(0, float64(last-1), steps+1))
	}
	slices.Reverse(t)
	return t[:steps]
}

// checkSteps bounds the number of steps of schedulers over a training table. diffusers refuses more steps than
// training timesteps in some classes; in the others they would repeat timesteps.
func checkSteps(s *settings, steps int) error {
	if steps < 1 || steps > s.numTrain {
		return fmt.Errorf("diffusion: %d steps, expected 1 to num_train_timesteps = %d", steps, s.numTrain)
	}
	return nil
}

// toFloat32 rounds every value in place to float32.
func toFloat32(v []float64) []float64 {
	for i, x := range v {
		v[i] = float64(float32(x))
	}
	return v
}

// truncate drops fractions in place, as a cast to int64 does.
func truncate(v []float64) []float64 {
	for i, x := range v {
		v[i] = math.Trunc(x)
	}
	return v
}
