package kernels

import (
	"runtime"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
)

// abiVersion changes with any change of the structs or the meaning of a function below.
const abiVersion = 1

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
	// void genfn_torch_normal(const struct genfn_fill_args *);
	TorchNormal uintptr `sym:"genfn_torch_normal"`
	// void genfn_std_normal(const struct genfn_fill_args *);
	StdNormal uintptr `sym:"genfn_std_normal"`
}

// The structs of native/kernels/genfn_kernels.h; Open compares their sizes with the library's.
type (
	stepArgs struct {
		sample, cond, uncond, noise                      *float32
		converted, prev                                  *float32
		history                                          [MaxHistory]*float32
		historyCoef                                      [MaxHistory]float32
		guidance, convSample, convOutput, clip           float32
		sampleCoef, outputCoef, convertedCoef, noiseCoef float32
		n, historyN                                      int64
	}
	scaleArgs struct {
		dst, src *float32
		mul, add float32
		n        int64
	}
	imageArgs struct {
		dst         *uint8
		src         *float32
		channels, n int64
	}
	countArgs struct {
		src   *float32
		n     int64
		count *uint64
	}
	fillArgs struct {
		state unsafe.Pointer // *torchState or *stdState
		dst   *float32
		n     int64
	}
	countCall struct {
		countArgs
		total uint64
	}
	description struct {
		step, scale, image, count, fill, torch, std uint32 // sizes in bytes
		isa                                         uint32 // 0 baseline, 1 AVX2
	}
)

// library is the loaded C library. The argument structs come from pools, because a pointer given to SyscallN makes
// its struct escape to the heap; struct fields of pointer type keep the slices there too, where they do not move.
type library struct {
	table                                table
	steps, scales, images, counts, fills sync.Pool
}

func newLibrary() *library {
	return &library{
		steps:  sync.Pool{New: func() any { return new(stepArgs) }},
		scales: sync.Pool{New: func() any { return new(scaleArgs) }},
		images: sync.Pool{New: func() any { return new(imageArgs) }},
		counts: sync.Pool{New: func() any { return new(countCall) }},
		fills:  sync.Pool{New: func() any { return new(fillArgs) }},
	}
}

func (l *library) step(a *StepArgs) {
	p := l.steps.Get().(*stepArgs)
	*p = stepArgs{
		sample: unsafe.SliceData(a.Sample), cond: unsafe.SliceData(a.Cond), uncond: unsafe.SliceData(a.Uncond), noise: unsafe.SliceData(a.Noise),
		converted: unsafe.SliceData(a.Converted), prev: unsafe.SliceData(a.Prev),
		guidance: a.Guidance, convSample: a.ConvSample, convOutput: a.ConvOutput, clip: a.Clip,
		sampleCoef: a.SampleCoef, outputCoef: a.OutputCoef, convertedCoef: a.ConvertedCoef, noiseCoef: a.NoiseCoef,
		n: int64(len(a.Sample)), historyN: int64(len(a.History)),
	}
	for k, h := range a.History {
		p.history[k] = unsafe.SliceData(h)
	}
	copy(p.historyCoef[:], a.HistoryCoef)
	purego.SyscallN(l.table.Step, uintptr(unsafe.Pointer(p)))
	runtime.KeepAlive(p)
	*p = stepArgs{}
	l.steps.Put(p)
}

func (l *library) scale(dst, src []float32, mul, add float32) {
	p := l.scales.Get().(*scaleArgs)
	*p = scaleArgs{dst: unsafe.SliceData(dst), src: unsafe.SliceData(src), mul: mul, add: add, n: int64(len(src))}
	purego.SyscallN(l.table.Scale, uintptr(unsafe.Pointer(p)))
	runtime.KeepAlive(p)
	*p = scaleArgs{}
	l.scales.Put(p)
}

func (l *library) imageToU8(dst []uint8, src []float32, channels, pixels int) {
	p := l.images.Get().(*imageArgs)
	*p = imageArgs{dst: unsafe.SliceData(dst), src: unsafe.SliceData(src), channels: int64(channels), n: int64(pixels)}
	purego.SyscallN(l.table.ImageToU8, uintptr(unsafe.Pointer(p)))
	runtime.KeepAlive(p)
	*p = imageArgs{}
	l.images.Put(p)
}

func (l *library) countNonFinite(src []float32) int {
	p := l.counts.Get().(*countCall)
	p.countArgs = countArgs{src: unsafe.SliceData(src), n: int64(len(src)), count: &p.total}
	p.total = 0
	purego.SyscallN(l.table.CountNonFinite, uintptr(unsafe.Pointer(p)))
	runtime.KeepAlive(p)
	count := int(p.total)
	p.countArgs = countArgs{}
	l.counts.Put(p)
	return count
}

func (l *library) torchNormal(state *torchState, dst []float32) {
	l.fill(l.table.TorchNormal, unsafe.Pointer(state), dst)
}

func (l *library) stdNormal(state *stdState, dst []float32) {
	l.fill(l.table.StdNormal, unsafe.Pointer(state), dst)
}

func (l *library) fill(function uintptr, state unsafe.Pointer, dst []float32) {
	p := l.fills.Get().(*fillArgs)
	*p = fillArgs{state: state, dst: unsafe.SliceData(dst), n: int64(len(dst))}
	purego.SyscallN(function, uintptr(unsafe.Pointer(p)))
	runtime.KeepAlive(p)
	*p = fillArgs{}
	l.fills.Put(p)
}
