package diffusion

import "genfn/bindings/kernels"

// hostArrays are slices.
type hostArrays struct{ kernels *kernels.Set }

var _ Arrays[[]float32] = hostArrays{}

// Host returns arrays in the host's memory, which the garbage collector frees.
func Host(k *kernels.Set) Arrays[[]float32] { return hostArrays{k} }

func (h hostArrays) Make(n int) ([]float32, error) { return make([]float32, n), nil }

func (h hostArrays) Len(v []float32) int { return len(v) }

func (h hostArrays) Copy(dst, src []float32) error {
	copy(dst, src)
	return nil
}

func (h hostArrays) Step(a *kernels.StepArgs) error { return h.kernels.Step(a) }

func (h hostArrays) OnHost(f func(values ...[]float32), arrays ...[]float32) error {
	f(arrays...)
	return nil
}
