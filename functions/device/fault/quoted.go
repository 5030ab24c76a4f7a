package fault

import (
	"regexp"
	"strconv"
)

// quotation is a form in which one runtime quotes the code of another in its text: a number or a name in the first
// group. Numbers count in these forms only.
type quotation struct {
	runtime Runtime
	pattern *regexp.Regexp
}

// quotations are tried in this order: the innermost cause first.
var quotations = []quotation{
	// OpenVINO's GPU plugin: "[GPU] clFlush, error code: -5 CL_OUT_OF_RESOURCES", older releases without the name.
	{RuntimeOpenCL, regexp.MustCompile(`\[GPU\] cl[A-Z]\w*, error code: (-\d+)\b`)},
	// OpenVINO's GPU plugin: "[GPU] CL_OUT_OF_RESOURCES exception."; oneDNN's words below it: a line with the name alone.
	{RuntimeOpenCL, regexp.MustCompile(`(?m)(?:\[GPU\] |^\s*)(CL_[A-Z_]+)(?: exception\.|\s*$)`)},
	// oneDNN: "onednn_verbose,v1,primitive,error,ocl,errcode -5,CL_OUT_OF_RESOURCES,..."
	{RuntimeOpenCL, regexp.MustCompile(`\bocl,errcode (-\d+),CL_`)},
	// SYCL: "Native API returns: -5 (CL_OUT_OF_RESOURCES)"
	{RuntimeOpenCL, regexp.MustCompile(`\bAPI returns: (-\d+) \(CL_`)},
	// OpenVINO until 2021: "[CLDNN ERROR]. clGetPlatformIDs error -1001"
	{RuntimeOpenCL, regexp.MustCompile(`\bcl[A-Z]\w+ error (-\d+)\b`)},
	// ONNX Runtime: "CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; ..."
	{RuntimeCUDA, regexp.MustCompile(`\bCUDA failure (\d+): `)},
	// ONNX Runtime, PyTorch: "CUDA error cudaErrorIllegalAddress:...", "Search for `cudaErrorIllegalAddress' in ..."
	{RuntimeCUDA, regexp.MustCompile("(?:CUDA error |for `|')(cudaError[A-Z]\\w+)")},
	// NVIDIA's samples: "CUDA error at x.cu:255 code=35(cudaErrorInsufficientDriver)"; "CUDA error 35: cudaErrorInsufficientDriver"
	{RuntimeCUDA, regexp.MustCompile(`\bcode=(\d+)\(cudaError`)},
	{RuntimeCUDA, regexp.MustCompile(`\bCUDA error (\d+): `)},
	// Paddle: "CUDA error(719), unspecified launch failure."; PyTorch until 1.4: "cuda runtime error (35) : ..."
	{RuntimeCUDA, regexp.MustCompile(`\b(?:CUDA|Cuda) error ?\((\d+)\), `)},
	{RuntimeCUDA, regexp.MustCompile(`\bcuda runtime error \((\d+)\) : `)},
	// CUDA.jl: "unspecified launch failure (code 719, ERROR_LAUNCH_FAILED)"
	{RuntimeCUDA, regexp.MustCompile(`\(code #?(\d+), ERROR_`)},
	// ONNX Runtime: "CUBLAS failure 13: CUBLAS_STATUS_EXECUTION_FAILED ; GPU=0 ; ..."
	{runtimeCUDALibrary, regexp.MustCompile(`\b((?:CUBLAS|CUDNN)_(?:STATUS|BACKEND)_[A-Z_]+)\b`)},
	// The NVIDIA kernel driver: "NVRM: Xid (PCI:0000:44:00): 79, GPU has fallen off the bus"
	{RuntimeXid, regexp.MustCompile(`\bXid \([0-9A-Za-z:.]+\): (\d+)\b`)},
	{RuntimeNVML, regexp.MustCompile(`\b(NVML_ERROR_[A-Z_]+)\b`)},
	{RuntimeNVRTC, regexp.MustCompile(`\b(NVRTC_ERROR_[A-Z_]+)\b`)},
	// ONNX Runtime's own code, as its Python and other layers write it: "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : ..."
	{RuntimeONNXRuntime, regexp.MustCompile(`\[ONNXRuntimeError\] : (\d+) : [A-Z]`)},
}

// byQuotation returns the row of the innermost code that text quotes and that is known, and the code as it stands
// there; nil if there is none.
func (x index) byQuotation(text string) (*row, string) {
	for _, q := range quotations {
		for _, m := range q.pattern.FindAllStringSubmatch(text, -1) {
			if r := x.byCode(q.runtime, m[1]); r != nil {
				return r, m[1]
			}
		}
	}
	return nil, ""
}

// byCode looks a number up in its runtime's table, and a name everywhere: names are distinct.
func (x index) byCode(runtime Runtime, code string) *row {
	if n, err := strconv.Atoi(code); err == nil {
		return x.status[runtime][n]
	}
	return x.names[code]
}
