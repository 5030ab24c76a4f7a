package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"genfn/bindings/cuda"
	"genfn/bindings/onnxruntime"
	"genfn/bindings/tensor"
)

// openONNX makes a network of ONNX Runtime ready and returns its hot call.
func (c *caller) openONNX(dir, network string) (map[string]func() error, error) {
	r, err := onnxruntime.Open(onnxruntime.Options{LibraryDir: dir})
	if err != nil {
		return nil, err
	}
	env, err := r.NewEnv()
	if err != nil {
		return nil, err
	}
	c.closers = append(c.closers, env.Close)
	s, err := env.NewSession(network, onnxruntime.SessionOptions{Threads: 1})
	if err != nil {
		return nil, err
	}
	c.closers = append(c.closers, s.Close)
	b, err := s.NewBinding()
	if err != nil {
		return nil, err
	}
	c.closers = append(c.closers, b.Close)
	for _, side := range []struct {
		ports []onnxruntime.Port
		set   func(int, *onnxruntime.Tensor) error
	}{{s.Inputs(), b.SetInput}, {s.Outputs(), b.SetOutput}} {
		for i, port := range side.ports {
			if err := c.bindONNX(r, i, port, side.set); err != nil {
				return nil, err
			}
		}
	}
	return map[string]func() error{"ort_run": func() error { return b.Run(context.Background()) }}, nil
}

// bindONNX binds zeros to an input or output, with 1 for its open dimensions.
func (c *caller) bindONNX(r *onnxruntime.Runtime, i int, port onnxruntime.Port, set func(int, *onnxruntime.Tensor) error) error {
	var shape tensor.Shape
	for _, d := range port.Shape {
		shape = append(shape, max(1, d.Min))
	}
	buffer, err := tensor.New(r.Ledger(), port.Name, port.DType, shape)
	if err != nil {
		return err
	}
	defer buffer.Close() // the tensor keeps it
	t, err := r.TensorOf(buffer)
	if err != nil {
		return err
	}
	return errors.Join(set(i, t), t.Close()) // the binding keeps it
}

// openCUDA opens the virtual device in a folder and returns calls such as a denoising step makes.
func (c *caller) openCUDA(dir string) (map[string]func() error, error) {
	r, err := cuda.Open(cuda.Options{LibraryDir: dir, DriverLibrary: filepath.Join(dir, "libcuda.so.1")})
	if err != nil {
		return nil, err
	}
	d, err := r.OpenDevice(0)
	if err != nil {
		return nil, fmt.Errorf("virtual device: %w", err)
	}
	c.closers = append(c.closers, d.Close)
	s, err := d.NewStream("bench")
	if err != nil {
		return nil, err
	}
	c.closers = append(c.closers, s.Close)
	buffer, err := d.Malloc("bench", 64)
	if err != nil {
		return nil, err
	}
	c.closers = append(c.closers, buffer.Close)
	return map[string]func() error{
		"cuda_queue": func() error { return s.Fill(buffer.All(), 1) },
		"cuda_malloc": func() error {
			b, err := d.Malloc("bench", 64)
			return errors.Join(err, b.Close())
		},
	}, nil
}
