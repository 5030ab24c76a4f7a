// Package nvrtc is the raw layer over NVRTC, CUDA's compiler as a library. It is made like package cudart.
//
// These details have caused bugs:
//   - The sizes of PTX and of the log count their NUL.
//   - libnvrtc opens libnvrtc-builtins when it compiles, by name: from its own folder or along the loader's path.
//     It does the same with the driver's libcuda, and calls cuInit if it finds one.
package nvrtc

// Table holds the addresses of the C functions that genfn calls.
type Table struct {
	// const char *nvrtcGetErrorString(nvrtcResult result);
	GetErrorString uintptr `sym:"nvrtcGetErrorString"`
	// nvrtcResult nvrtcVersion(int *major, int *minor);
	Version uintptr `sym:"nvrtcVersion"`
	// nvrtcResult nvrtcGetNumSupportedArchs(int* numArchs);
	GetNumSupportedArchs uintptr `sym:"nvrtcGetNumSupportedArchs"`
	// nvrtcResult nvrtcGetSupportedArchs(int* supportedArchs);
	GetSupportedArchs uintptr `sym:"nvrtcGetSupportedArchs"`

	// nvrtcResult nvrtcCreateProgram(nvrtcProgram *prog, const char *src, const char *name, int numHeaders, const
	//	char * const *headers, const char * const *includeNames);
	CreateProgram uintptr `sym:"nvrtcCreateProgram"`
	// nvrtcResult nvrtcDestroyProgram(nvrtcProgram *prog);
	DestroyProgram uintptr `sym:"nvrtcDestroyProgram"`
	// nvrtcResult nvrtcCompileProgram(nvrtcProgram prog, int numOptions, const char * const *options);
	CompileProgram uintptr `sym:"nvrtcCompileProgram"`
	// nvrtcResult nvrtcGetPTXSize(nvrtcProgram prog, size_t *ptxSizeRet);
	GetPTXSize uintptr `sym:"nvrtcGetPTXSize"`
	// nvrtcResult nvrtcGetPTX(nvrtcProgram prog, char *ptx);
	GetPTX uintptr `sym:"nvrtcGetPTX"`
	// nvrtcResult nvrtcGetCUBINSize(nvrtcProgram prog, size_t *cubinSizeRet);
	GetCUBINSize uintptr `sym:"nvrtcGetCUBINSize"`
	// nvrtcResult nvrtcGetCUBIN(nvrtcProgram prog, char *cubin);
	GetCUBIN uintptr `sym:"nvrtcGetCUBIN"`
	// nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram prog, size_t *logSizeRet);
	GetProgramLogSize uintptr `sym:"nvrtcGetProgramLogSize"`
	// nvrtcResult nvrtcGetProgramLog(nvrtcProgram prog, char *log);
	GetProgramLog uintptr `sym:"nvrtcGetProgramLog"`
}
