package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"genfn/bench/measure"
	"genfn/bench/worker"
	"genfn/bindings/kernels"
	"genfn/bindings/openvino"
	"genfn/bindings/tensor"
)

// caller holds what the measured calls work on.
type caller struct {
	kernels *kernels.Set
	runtime *openvino.Runtime
	request *openvino.Request
	input   *openvino.Tensor
	closers []func() error

	bandwidths map[int]map[string]bandwidthCall // by the number of values
}

func newCallsWorker() *cobra.Command {
	var checkout, cacheDir string
	cmd := &cobra.Command{Use: "calls", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) (err error) {
		c := &caller{bandwidths: map[int]map[string]bandwidthCall{}}
		defer func() { err = errors.Join(err, c.close()) }()
		model := filepath.Join(checkout, "bindings", "openvino", "testdata", "affine.xml")
		if err := c.open(cacheDir, filepath.Join(checkout, ".runtime", "openvino"), model); err != nil {
			return err
		}
		calls := c.calls(cmd.Context())
		texts := map[string]string{"kernels": c.kernels.Info().Path, "openvino": c.runtime.Library(), "model": model}
		for name, open := range map[string]func() (map[string]func() error, error){
			"onnxruntime": func() (map[string]func() error, error) {
				return c.openONNX(filepath.Join(checkout, ".runtime", "onnxruntime"), filepath.Join(checkout, "deploy", "models", "emoji", "text_encoder", "model.onnx"))
			},
			"cuda": func() (map[string]func() error, error) {
				return c.openCUDA(filepath.Join(checkout, ".runtime", "vcuda", "lib"))
			},
		} {
			more, err := open()
			if err != nil {
				texts[name] = err.Error()
			}
			maps.Copy(calls, more)
		}
		return worker.Serve(os.Stdin, os.Stdout, worker.Answer{Texts: texts}, func(raw json.RawMessage) (map[string]float64, error) {
			var r callRequest
			if err := json.Unmarshal(raw, &r); err != nil {
				return nil, err
			}
			if call := calls[r.Call]; call != nil {
				return measure.Calls(r.N, call)
			}
			return c.bandwidth(r)
		})
	}}
	cmd.Flags().StringVar(&checkout, "checkout", "", "root of the checkout")
	cmd.Flags().StringVar(&cacheDir, "cache-dir", "", "where to unpack the kernels")
	return cmd
}

func (c *caller) close() error {
	var errs []error
	for i := len(c.closers) - 1; i >= 0; i-- {
		errs = append(errs, c.closers[i]())
	}
	return errors.Join(errs...)
}

func (c *caller) open(cacheDir, libraryDir, xml string) (err error) {
	if c.kernels, err = kernels.Open(cacheDir); errors.Is(err, kernels.ErrNotBuilt) {
		c.kernels = kernels.Reference()
	} else if err != nil {
		return err
	}
	if dir := os.Getenv("GENFN_OPENVINO_DIR"); dir != "" {
		libraryDir = dir
	}
	if c.runtime, err = openvino.Open(openvino.Options{LibraryDir: libraryDir}); err != nil {
		return err
	}
	core, err := c.runtime.NewCore()
	if err != nil {
		return err
	}
	c.closers = append(c.closers, core.Close)
	model, err := core.ReadModel(xml, "")
	if err != nil {
		return err
	}
	defer model.Close()
	if err := model.Reshape(map[string]tensor.PartialShape{"x": tensor.StaticShape(2, 4)}); err != nil {
		return err
	}
	compiled, err := core.Compile(model, "CPU", map[string]string{"INFERENCE_NUM_THREADS": "1", "INFERENCE_PRECISION_HINT": "f32"})
	if err != nil {
		return err
	}
	c.closers = append(c.closers, compiled.Close)
	if c.request, err = compiled.NewRequest(); err != nil {
		return err
	}
	c.closers = append(c.closers, c.request.Close)
	if c.input, err = c.runtime.NewTensor("input", tensor.F32, tensor.Shape{2, 4}); err != nil {
		return err
	}
	c.closers = append(c.closers, c.input.Close)
	return c.request.SetInput(0, c.input)
}

// calls are the hot calls by name; ctx can end.
func (c *caller) calls(ctx context.Context) map[string]func() error {
	ctx, cancel := context.WithCancel(ctx)
	c.closers = append(c.closers, func() error { cancel(); return nil })
	one := [2][]float32{make([]float32, 1), make([]float32, 1)}
	step := euler(1024)
	return map[string]func() error{
		"scale": func() error { return c.kernels.Scale(one[0], one[1], 2, 1) },
		"step":  func() error { return c.kernels.Step(step) },
		"shape": func() error {
			if c.input.Shape() == nil {
				return errors.New("no shape")
			}
			return nil
		},
		"set_input":         func() error { return c.request.SetInput(0, c.input) },
		"infer":             func() error { return c.request.Infer(context.Background()) },
		"infer_cancellable": func() error { return c.request.Infer(ctx) },
	}
}

// ramp returns n values from -1 to 1. Memory that was never written would be one page of zeros.
func ramp(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = 2*float32(i)/float32(n) - 1
	}
	return v
}

func euler(n int) *kernels.StepArgs {
	a := &kernels.StepArgs{
		Sample: ramp(n), Cond: ramp(n), Uncond: ramp(n),
		Guidance: 7.5, SampleCoef: 1, OutputCoef: -0.1,
	}
	a.Prev = a.Sample
	return a
}

func multistep(n int) *kernels.StepArgs {
	a := euler(n)
	a.ConvSample, a.ConvOutput, a.Converted = 1, -1, ramp(n)
	a.SampleCoef, a.OutputCoef, a.ConvertedCoef = 0.9, 0, 0.1
	a.History, a.HistoryCoef = [][]float32{ramp(n)}, []float32{-0.01}
	return a
}

// bandwidthCall is a kernel over arrays, and the bytes that it reads and writes for each of their values.
type bandwidthCall struct {
	bytes float64
	call  func() error
}

// bandwidth returns gigabytes read and written a second.
func (c *caller) bandwidth(r callRequest) (map[string]float64, error) {
	calls := c.bandwidths[r.Values]
	if calls == nil {
		calls = c.bandwidthCalls(r.Values)
		maps.Copy(calls, c.bandwidthCallsF16(r.Values))
		maps.Copy(calls, c.bandwidthCallsU8(r.Values))
		c.bandwidths[r.Values] = calls
	}
	kernel := calls[r.Call]
	if kernel.call == nil {
		return nil, fmt.Errorf("unknown call %q", r.Call)
	}
	figures, err := measure.Calls(r.N, kernel.call)
	if err != nil {
		return nil, err
	}
	return map[string]float64{"gb_per_s": kernel.bytes * float64(r.Values) / figures["ns"]}, nil
}

func (c *caller) bandwidthCalls(n int) map[string]bandwidthCall {
	k, a, b, d := c.kernels, ramp(n), ramp(n), ramp(n)
	first, second, whole := euler(n), multistep(n), n/4*4
	philox, torch := k.TorchCUDANormal(1, kernels.CUDADevice{Multiprocessors: 132, ThreadsPerMultiprocessor: 2048}), k.TorchNormal(1)
	return map[string]bandwidthCall{
		"bandwidth_memcpy":           {8, func() error { copy(a, b); return nil }},
		"bandwidth_scale":            {8, func() error { return k.Scale(a, b, 2, 1) }},
		"bandwidth_step_euler":       {16, func() error { return k.Step(first) }},
		"bandwidth_step_multistep":   {24, func() error { return k.Step(second) }},
		"bandwidth_mix":              {12, func() error { return k.Mix(a, b, d, 0.3) }},
		"bandwidth_composite":        {13, func() error { return k.Composite(a[:whole], b[:whole], d[:whole], first.Cond[:whole/4], 4) }},
		"bandwidth_count_non_finite": {4, func() error { return finite(k.CountNonFinite(b)) }},
		"bandwidth_checksum":         {4, func() error { _ = k.Checksum(b); return nil }},
		"bandwidth_difference":       {8, func() error { _, err := k.Difference(b, d); return err }},
		"bandwidth_philox":           {4, func() error { philox.Fill(a); return nil }},
		"bandwidth_torch":            {4, func() error { torch.Fill(a); return nil }},
	}
}

// halves are the values of v.
func halves(v []float32) []kernels.Float16 {
	out := make([]kernels.Float16, len(v))
	for i, x := range v {
		out[i] = kernels.ToFloat16(x)
	}
	return out
}

// stepInHalves is the same step in float16.
func stepInHalves(a *kernels.StepArgs) *kernels.StepArgsOf[[]kernels.Float16] {
	out := &kernels.StepArgsOf[[]kernels.Float16]{
		Sample: halves(a.Sample), Cond: halves(a.Cond), Uncond: halves(a.Uncond), Guidance: a.Guidance,
		ConvSample: a.ConvSample, ConvOutput: a.ConvOutput, SampleCoef: a.SampleCoef, OutputCoef: a.OutputCoef, ConvertedCoef: a.ConvertedCoef,
		HistoryCoef: a.HistoryCoef,
	}
	out.Prev = out.Sample
	if a.Converted != nil {
		out.Converted = halves(a.Converted)
	}
	for _, h := range a.History {
		out.History = append(out.History, halves(h))
	}
	return out
}

func (c *caller) bandwidthCallsF16(n int) map[string]bandwidthCall {
	k, wide := c.kernels, ramp(n)
	a, b, d := halves(wide), halves(wide), halves(wide)
	first, second, whole := stepInHalves(euler(n)), stepInHalves(multistep(n)), n/4*4
	return map[string]bandwidthCall{
		"bandwidth_scale_f16":            {4, func() error { return k.ScaleF16(a, b, 2, 1) }},
		"bandwidth_step_euler_f16":       {8, func() error { return k.StepF16(first) }},
		"bandwidth_step_multistep_f16":   {12, func() error { return k.StepF16(second) }},
		"bandwidth_mix_f16":              {6, func() error { return k.MixF16(a, b, d, 0.3) }},
		"bandwidth_composite_f16":        {6.5, func() error { return k.CompositeF16(a[:whole], b[:whole], d[:whole], first.Cond[:whole/4], 4) }},
		"bandwidth_f16_to_f32":           {6, func() error { return k.F16ToF32(wide, b) }},
		"bandwidth_f32_to_f16":           {6, func() error { return k.F32ToF16(a, wide) }},
		"bandwidth_count_non_finite_f16": {2, func() error { return finite(k.CountNonFiniteF16(b)) }},
	}
}

func (c *caller) bandwidthCallsU8(n int) map[string]bandwidthCall {
	k, pixels := c.kernels, n/3
	values, bytes, other, out := ramp(3*pixels), make([]uint8, 3*pixels), make([]uint8, 3*pixels), make([]uint8, 3*pixels)
	half, mask := halves(values), make([]uint8, pixels)
	side := int(math.Sqrt(float64(n / 3)))
	square := bytes[:3*side*side]
	return map[string]bandwidthCall{
		"bandwidth_image_to_u8":     {5, func() error { return k.ImageToU8(bytes, values, 3, 1, pixels) }},
		"bandwidth_image_to_u8_f16": {3, func() error { return k.ImageF16ToU8(bytes, half, 3, 1, pixels) }},
		"bandwidth_u8_to_image":     {5, func() error { return k.U8ToImage(values, bytes, 3, 1, pixels) }},
		"bandwidth_u8_to_image_f16": {3, func() error { return k.U8ToImageF16(half, bytes, 3, 1, pixels) }},
		"bandwidth_composite_u8":    {10. / 3, func() error { return k.CompositeU8(out, bytes, other, mask, 3) }},
		"bandwidth_resize_u8": {1.25, func() error {
			_, err := k.ResizeU8(square, 3, side, side, side/2, side/2, kernels.Bicubic)
			return err
		}},
	}
}

func finite(bad int) error {
	if bad != 0 {
		return fmt.Errorf("%d values are not finite", bad)
	}
	return nil
}
