package kernels

import (
	"runtime"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
)

// abiVersion changes with any change of the structs or the meaning of a function below.
const abiVersion = 2

// table holds the addresses of the C functions. Each takes a pointer to the struct of the same name, so that
// floats and integers travel in memory, and keeps no pointer after it returns.
type table struct {
	// uint32_t genfn_kernels_abi(void);
	ABI uintptr `sym:"genfn_kernels_abi"`
	// void genfn_kernels_describe(struct genfn_description *);
	Describe uintptr `sym:"genfn_kernels_describe"`
	// void genfn_step(const struct genfn_step_args *);
	Step uintptr `sym:"genfn_step"`
	// void genfn_scale(const struct genfn_scale_args *);
	Scale uintptr `sym:"genfn_scale"`
	// void genfn_image_to_u8(const struct genfn_image_args *);
	ImageToU8 uintptr `sym:"genfn_image_to_u8"`
	// void genfn_count_non_finite(const struct genfn_count_args *);
	CountNonFinite uintptr `sym:"genfn_count_non_finite"`
	// void genfn_blend(const struct genfn_blend_args *);
	Blend uintptr `sym:"genfn_blend"`
	// void genfn_torch_normal(const struct genfn_fill_args *);
	TorchNormal uintptr `sym:"genfn_torch_normal"`
	// void genfn_std_normal(const struct genfn_fill_args *);
	StdNormal uintptr `sym:"genfn_std_normal"`
}

// The structs of native/kernels/genfn_kernels.h; Open compares their sizes with the library's. P is what a pointer is:
// unsafe.Pointer on the host, uintptr for a device's memory.
type (
	stepArgs[P any] struct {
		sample, cond, uncond, noise                      P // float32, as are all but those that say so
		converted, prev                                  P
		history                                          [MaxHistory]P
		historyCoef                                      [MaxHistory]float32
		guidance, convSample, convOutput, clip           float32
		sampleCoef, outputCoef, convertedCoef, noiseCoef float32
		n, historyN                                      int64
	}
	scaleArgs[P any] struct {
		dst, src P
		mul, add float32
		n        int64
	}
	imageArgs[P any] struct {
		dst         P // uint8
		src         P
		channels, n int64
	}
	countArgs[P any] struct {
		src   P
		n     int64
		count P // uint64
	}
	blendArgs struct {
		dst, src                           *float32
		dstPlane, dstRow, srcPlane, srcRow int64
		rows, columns, n, down             int64
	}
	fillArgs struct {
		state unsafe.Pointer // *torchState or *stdState
		dst   *float32
		n     int64
	}
	description struct {
		step, scale, image, count, blend, fill, torch, std uint32 // sizes in bytes
		isa                                                uint32 // 0 baseline, 1 AVX2
	}
)

// newStepArgs fills the struct in; at is where values lie.
func newStepArgs[P, V any](a *StepArgsOf[V], n int, at func(V) P) stepArgs[P] {
	args := stepArgs[P]{
		sample: at(a.Sample), cond: at(a.Cond), uncond: at(a.Uncond), noise: at(a.Noise), converted: at(a.Converted), prev: at(a.Prev),
		guidance: a.Guidance, convSample: a.ConvSample, convOutput: a.ConvOutput, clip: a.Clip,
		sampleCoef: a.SampleCoef, outputCoef: a.OutputCoef, convertedCoef: a.ConvertedCoef, noiseCoef: a.NoiseCoef,
		n: int64(n), historyN: int64(len(a.History)),
	}
	for k, h := range a.History {
		args.history[k] = at(h)
	}
	copy(args.historyCoef[:], a.HistoryCoef)
	return args
}

func data(s []float32) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(s)) }

// call is the memory of one call: the arguments and, for SyscallN, their address. It comes from a pool, so it is on
// the heap and never moves, and so does everything its pointers name. Handing SyscallN a slice that exists already
// makes the call free of allocations.
type call[T any] struct {
	args    T
	address [1]uintptr // of args
}

type calls[T any] struct{ pool sync.Pool }

func (p *calls[T]) get() *call[T] {
	if c, ok := p.pool.Get().(*call[T]); ok {
		return c
	}
	c := new(call[T])
	c.address[0] = uintptr(unsafe.Pointer(&c.args))
	return c
}

// run calls function and gives the call's memory back to the pool, without pointers into the caller's.
func (p *calls[T]) run(function uintptr, c *call[T]) {
	purego.SyscallN(function, c.address[:]...)
	runtime.KeepAlive(c)
	var zero T
	c.args = zero
	p.pool.Put(c)
}

// library is the loaded C library.
type library struct {
	table  table
	steps  calls[stepArgs[unsafe.Pointer]]
	scales calls[scaleArgs[unsafe.Pointer]]
	images calls[imageArgs[unsafe.Pointer]]
	counts calls[countArgs[unsafe.Pointer]]
	blends calls[blendArgs]
	fills  calls[fillArgs]
	totals sync.Pool // *uint64
}

func (l *library) step(a *StepArgs) {
	c := l.steps.get()
	c.args = newStepArgs(a, len(a.Sample), data)
	l.steps.run(l.table.Step, c)
}

func (l *library) scale(dst, src []float32, mul, add float32) {
	c := l.scales.get()
	c.args = scaleArgs[unsafe.Pointer]{dst: data(dst), src: data(src), mul: mul, add: add, n: int64(len(src))}
	l.scales.run(l.table.Scale, c)
}

func (l *library) imageToU8(dst []uint8, src []float32, channels, pixels int) {
	c := l.images.get()
	c.args = imageArgs[unsafe.Pointer]{dst: unsafe.Pointer(unsafe.SliceData(dst)), src: data(src), channels: int64(channels), n: int64(pixels)}
	l.images.run(l.table.ImageToU8, c)
}

func (l *library) countNonFinite(src []float32) int {
	total, ok := l.totals.Get().(*uint64)
	if !ok {
		total = new(uint64)
	}
	defer l.totals.Put(total)
	*total = 0
	c := l.counts.get()
	c.args = countArgs[unsafe.Pointer]{src: data(src), n: int64(len(src)), count: unsafe.Pointer(total)}
	l.counts.run(l.table.CountNonFinite, c)
	return int(*total)
}

func (l *library) blend(a *BlendArgs) {
	c := l.blends.get()
	c.args = blendArgs{
		dst: unsafe.SliceData(a.Dst), src: unsafe.SliceData(a.Src),
		dstPlane: int64(a.DstPlane), dstRow: int64(a.DstRow), srcPlane: int64(a.SrcPlane), srcRow: int64(a.SrcRow),
		rows: int64(a.Rows), columns: int64(a.Columns), n: int64(a.Planes) * int64(a.Rows),
	}
	if a.Down {
		c.args.down = 1
	}
	l.blends.run(l.table.Blend, c)
}

func (l *library) torchNormal(state *torchState, dst []float32) {
	l.fill(l.table.TorchNormal, unsafe.Pointer(state), dst)
}

func (l *library) stdNormal(state *stdState, dst []float32) {
	l.fill(l.table.StdNormal, unsafe.Pointer(state), dst)
}

func (l *library) fill(function uintptr, state unsafe.Pointer, dst []float32) {
	c := l.fills.get()
	c.args = fillArgs{state: state, dst: unsafe.SliceData(dst), n: int64(len(dst))}
	l.fills.run(function, c)
}
