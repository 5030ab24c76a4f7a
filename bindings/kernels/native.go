package kernels

import (
	"runtime"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
)

// abiVersion changes with any change of the structs or the meaning of a function below.
const abiVersion = 3

// table holds the addresses of the C functions. Each takes a pointer to the struct of the same name, so that
// floats and integers travel in memory, and keeps no pointer after it returns. A device has a kernel of the same name,
// unless the function is on the host alone.
type table struct {
	// uint32_t genfn_kernels_abi(void);
	ABI uintptr `sym:"genfn_kernels_abi" on:"host"`
	// void genfn_kernels_describe(struct genfn_description *);
	Describe uintptr `sym:"genfn_kernels_describe" on:"host"`
	// void genfn_step(const struct genfn_step_args *);
	Step uintptr `sym:"genfn_step"`
	// void genfn_step_f16(const struct genfn_step_args *);
	StepF16 uintptr `sym:"genfn_step_f16"`
	// void genfn_scale(const struct genfn_scale_args *);
	Scale uintptr `sym:"genfn_scale"`
	// void genfn_scale_f16(const struct genfn_scale_args *);
	ScaleF16 uintptr `sym:"genfn_scale_f16"`
	// void genfn_mix(const struct genfn_mix_args *);
	Mix uintptr `sym:"genfn_mix"`
	// void genfn_mix_f16(const struct genfn_mix_args *);
	MixF16 uintptr `sym:"genfn_mix_f16"`
	// void genfn_composite(const struct genfn_composite_args *);
	Composite uintptr `sym:"genfn_composite"`
	// void genfn_composite_f16(const struct genfn_composite_args *);
	CompositeF16 uintptr `sym:"genfn_composite_f16"`
	// void genfn_composite_u8(const struct genfn_composite_args *);
	CompositeU8 uintptr `sym:"genfn_composite_u8"`
	// void genfn_f16_to_f32(const struct genfn_convert_args *);
	F16ToF32 uintptr `sym:"genfn_f16_to_f32"`
	// void genfn_f32_to_f16(const struct genfn_convert_args *);
	F32ToF16 uintptr `sym:"genfn_f32_to_f16"`
	// void genfn_image_to_u8(const struct genfn_image_args *);
	ImageToU8 uintptr `sym:"genfn_image_to_u8"`
	// void genfn_image_to_u8_f16(const struct genfn_image_args *);
	ImageF16ToU8 uintptr `sym:"genfn_image_to_u8_f16"`
	// void genfn_u8_to_image(const struct genfn_image_args *);
	U8ToImage uintptr `sym:"genfn_u8_to_image"`
	// void genfn_u8_to_image_f16(const struct genfn_image_args *);
	U8ToImageF16 uintptr `sym:"genfn_u8_to_image_f16"`
	// void genfn_resample(const struct genfn_resample_args *);
	Resample uintptr `sym:"genfn_resample"`
	// void genfn_resample_u8(const struct genfn_resample_args *);
	ResampleU8 uintptr `sym:"genfn_resample_u8"`
	// void genfn_count_non_finite(const struct genfn_count_args *);
	CountNonFinite uintptr `sym:"genfn_count_non_finite"`
	// void genfn_count_non_finite_f16(const struct genfn_count_args *);
	CountNonFiniteF16 uintptr `sym:"genfn_count_non_finite_f16"`
	// void genfn_checksum(const struct genfn_count_args *);
	Checksum uintptr `sym:"genfn_checksum"`
	// void genfn_checksum_f16(const struct genfn_count_args *);
	ChecksumF16 uintptr `sym:"genfn_checksum_f16"`
	// void genfn_difference(const struct genfn_difference_args *);
	Difference uintptr `sym:"genfn_difference"`
	// void genfn_difference_f16(const struct genfn_difference_args *);
	DifferenceF16 uintptr `sym:"genfn_difference_f16"`
	// void genfn_philox_normal(const struct genfn_philox_args *);
	PhiloxNormal uintptr `sym:"genfn_philox_normal"`
	// void genfn_philox_normal_f16(const struct genfn_philox_args *);
	PhiloxNormalF16 uintptr `sym:"genfn_philox_normal_f16"`
	// void genfn_blend(const struct genfn_blend_args *);
	Blend uintptr `sym:"genfn_blend" on:"host"`
	// void genfn_torch_normal(const struct genfn_fill_args *);
	TorchNormal uintptr `sym:"genfn_torch_normal" on:"host"`
	// void genfn_std_normal(const struct genfn_fill_args *);
	StdNormal uintptr `sym:"genfn_std_normal" on:"host"`
}

// The structs of native/kernels/genfn_kernels.h; Open compares their sizes with the library's. P is what a pointer is:
// unsafe.Pointer on the host, uintptr for a device's memory.
type (
	stepArgs[P any] struct {
		sample, cond, uncond, noise                      P
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
		dst, src    P
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
	convertArgs[P any] struct {
		dst, src P
		n        int64
	}
	mixArgs[P any] struct {
		dst, a, b P
		weight    float32
		n         int64
	}
	compositeArgs[P any] struct {
		dst, a, b, mask P
		channels, n     int64
	}
	resampleArgs[P any] struct {
		dst, src, first, count, weights P
		in, out, inner, taps, n         int64
	}
	differenceArgs[P any] struct {
		a, b, result P // *difference
		n            int64
	}
	difference struct {
		whole, fraction, notFinite uint64
		most, leastInverted        uint32
	}
	philoxArgs[P any] struct {
		dst                P
		seed, offset       uint64
		threads, values, n int64
	}
	description struct { // sizes in bytes
		step, scale, image, count, blend, fill, torch, std                      uint32
		convert, mix, composite, resample, difference, differenceResult, philox uint32
		isa                                                                     uint32 // 0 baseline, 1 AVX2 and F16C
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

func data[T any](s []T) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(s)) }

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

	converts    calls[convertArgs[unsafe.Pointer]]
	mixes       calls[mixArgs[unsafe.Pointer]]
	composites  calls[compositeArgs[unsafe.Pointer]]
	resamples   calls[resampleArgs[unsafe.Pointer]]
	differences calls[differenceArgs[unsafe.Pointer]]
	results     sync.Pool // *difference
	philoxes    calls[philoxArgs[unsafe.Pointer]]
}

// with calls function with args.
func with[T any](p *calls[T], function uintptr, args T) {
	c := p.get()
	c.args = args
	p.run(function, c)
}

func nativeStep[T value](l *library, function uintptr, a *StepArgsOf[[]T]) {
	with(&l.steps, function, newStepArgs(a, len(a.Sample), data[T]))
}

func nativeScale[T value](l *library, function uintptr, dst, src []T, mul, add float32) {
	with(&l.scales, function, scaleArgs[unsafe.Pointer]{dst: data(dst), src: data(src), mul: mul, add: add, n: int64(len(src))})
}

func nativeImage[D, S any](l *library, function uintptr, dst []D, src []S, channels, pixels int) {
	with(&l.images, function, imageArgs[unsafe.Pointer]{dst: data(dst), src: data(src), channels: int64(channels), n: int64(pixels)})
}

func nativeCount[T value](l *library, function uintptr, src []T) uint64 {
	total, ok := l.totals.Get().(*uint64)
	if !ok {
		total = new(uint64)
	}
	defer l.totals.Put(total)
	*total = 0
	with(&l.counts, function, countArgs[unsafe.Pointer]{src: data(src), n: int64(len(src)), count: unsafe.Pointer(total)})
	return *total
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
