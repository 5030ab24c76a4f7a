package onnxruntime

import (
	"errors"
	"maps"
	"runtime"
	"slices"
	"strconv"

	"genfn/bindings/onnxruntime/internal/capi"
)

// CUDAOptions say how a network runs on an NVIDIA GPU.
type CUDAOptions struct {
	Device int
	// MemoryLimit bounds the arena of the session, in bytes; 0: all that the device has. What is bound to the session is
	// not in it.
	MemoryLimit int64
	// Stream is the cudaStream_t in which the session works. It must outlive the session. 0: one of its own.
	Stream uintptr
	// TF32 lets products of float32 be rounded to 10 bits, which tensor cores do several times faster.
	TF32 bool
}

// values are the options by ONNX Runtime's names. The arena grows by what is asked for and no more: growing by powers
// of two, as it does by itself, leaves less for others. So does cuDNN's exhaustive search for the fastest convolutions,
// which is repeated for each shape.
func (o CUDAOptions) values() map[string]string {
	v := map[string]string{
		"device_id": strconv.Itoa(o.Device), "arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0",
	}
	if o.TF32 {
		v["use_tf32"] = "1"
	}
	if o.MemoryLimit > 0 {
		v["gpu_mem_limit"] = strconv.FormatInt(o.MemoryLimit, 10)
	}
	if o.Stream != 0 {
		v["user_compute_stream"] = strconv.FormatUint(uint64(o.Stream), 10)
	}
	return v
}

// appendCUDA has a session use a GPU. It fails if the library was built without CUDA, or if a library that the provider
// needs cannot be loaded; a missing device or driver is told by NewSession.
func (r *Runtime) appendCUDA(options capi.SessionOptions, o CUDAOptions) error {
	handle := new(capi.CUDAProviderOptions)
	if err := r.check("create CUDA options", r.api.CreateCUDAProviderOptions(handle)); err != nil {
		return err
	}
	defer r.api.ReleaseCUDAProviderOptions(*handle)
	set := o.values()
	var keys, values []*byte
	var pinner runtime.Pinner
	defer pinner.Unpin()
	for _, key := range slices.Sorted(maps.Keys(set)) {
		k, errKey := cString(key)
		v, errValue := cString(set[key])
		if err := errors.Join(errKey, errValue); err != nil {
			return err
		}
		pinner.Pin(k)
		pinner.Pin(v)
		keys, values = append(keys, k), append(values, v)
	}
	if err := r.check("set CUDA options", r.api.UpdateCUDAProviderOptions(*handle, &keys[0], &values[0], capi.Size(len(keys)))); err != nil {
		return err
	}
	return r.check("use CUDA", r.api.SessionOptionsAppendExecutionProviderCUDAV2(options, *handle))
}
