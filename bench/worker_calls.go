package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
}

func newCallsWorker() *cobra.Command {
	var checkout, cacheDir string
	cmd := &cobra.Command{Use: "calls", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) (err error) {
		c := &caller{}
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

// bandwidth returns gigabytes read and written a second.
func (c *caller) bandwidth(r callRequest) (map[string]float64, error) {
	n := r.Values
	a, b := ramp(n), ramp(n)
	pixels, first, second := make([]uint8, 3*(n/3)), euler(n), multistep(n)
	kernel := map[string]struct {
		bytes int // of one value
		call  func() error
	}{
		"bandwidth_memcpy":           {8, func() error { copy(a, b); return nil }},
		"bandwidth_scale":            {8, func() error { return c.kernels.Scale(a, b, 2, 1) }},
		"bandwidth_step_euler":       {16, func() error { return c.kernels.Step(first) }},
		"bandwidth_step_multistep":   {24, func() error { return c.kernels.Step(second) }},
		"bandwidth_count_non_finite": {4, func() error { return finite(c.kernels.CountNonFinite(a)) }},
		"bandwidth_image_to_u8":      {5, func() error { return c.kernels.ImageToU8(pixels, a[:len(pixels)], 3, 1, n/3) }},
	}[r.Call]
	if kernel.call == nil {
		return nil, fmt.Errorf("unknown call %q", r.Call)
	}
	figures, err := measure.Calls(r.N, kernel.call)
	if err != nil {
		return nil, err
	}
	return map[string]float64{"gb_per_s": float64(kernel.bytes*n) / figures["ns"]}, nil
}

func finite(bad int) error {
	if bad != 0 {
		return fmt.Errorf("%d values are not finite", bad)
	}
	return nil
}
