// Package capi is the raw layer over ONNX Runtime's C API: its table of functions, each under its C prototype, and one Go
// method a function that converts the arguments, nothing more. It checks nothing: a null handle is a SIGSEGV. The safe
// layer above it is the only importer.
//
// A test compares the prototypes, the methods' parameters and the arguments of the calls with the declarations of the
// release.
//
// These details have caused bugs:
//   - A Go pointer becomes a uintptr inside the argument list of SyscallN and nowhere else: the stack may move in between.
//   - The library exports one symbol; it gives a table in which a function has the same number in all releases.
//   - A Status is a pointer, null for success, that the caller releases.
//   - What describes a tensor belongs to its TypeInfo and is not released.
package capi

// Table holds the addresses of the C functions that genfn calls.
type Table struct {
	// OrtErrorCode GetErrorCode(const OrtStatus* status);
	GetErrorCode uintptr `sym:"GetErrorCode" slot:"1"`
	// const char* GetErrorMessage(const OrtStatus* status);
	GetErrorMessage uintptr `sym:"GetErrorMessage" slot:"2"`
	// OrtStatus* CreateEnv(OrtLoggingLevel log_severity_level, const char* logid, OrtEnv** out);
	CreateEnv uintptr `sym:"CreateEnv" slot:"3"`
	// OrtStatus* CreateSession(const OrtEnv* env, const char* model_path, const OrtSessionOptions* options,
	//	OrtSession** out);
	CreateSession uintptr `sym:"CreateSession" slot:"7"`
	// OrtStatus* CreateSessionOptions(OrtSessionOptions** options);
	CreateSessionOptions uintptr `sym:"CreateSessionOptions" slot:"10"`
	// OrtStatus* DisableMemPattern(OrtSessionOptions* options);
	DisableMemPattern uintptr `sym:"DisableMemPattern" slot:"17"`
	// OrtStatus* DisableCpuMemArena(OrtSessionOptions* options);
	DisableCPUMemArena uintptr `sym:"DisableCpuMemArena" slot:"19"`
	// OrtStatus* SetSessionGraphOptimizationLevel(OrtSessionOptions* options, GraphOptimizationLevel
	//	graph_optimization_level);
	SetSessionGraphOptimizationLevel uintptr `sym:"SetSessionGraphOptimizationLevel" slot:"23"`
	// OrtStatus* SetIntraOpNumThreads(OrtSessionOptions* options, int intra_op_num_threads);
	SetIntraOpNumThreads uintptr `sym:"SetIntraOpNumThreads" slot:"24"`
	// OrtStatus* SessionGetInputCount(const OrtSession* session, size_t* out);
	SessionGetInputCount uintptr `sym:"SessionGetInputCount" slot:"30"`
	// OrtStatus* SessionGetOutputCount(const OrtSession* session, size_t* out);
	SessionGetOutputCount uintptr `sym:"SessionGetOutputCount" slot:"31"`
	// OrtStatus* SessionGetInputTypeInfo(const OrtSession* session, size_t index, OrtTypeInfo** type_info);
	SessionGetInputTypeInfo uintptr `sym:"SessionGetInputTypeInfo" slot:"33"`
	// OrtStatus* SessionGetOutputTypeInfo(const OrtSession* session, size_t index, OrtTypeInfo** type_info);
	SessionGetOutputTypeInfo uintptr `sym:"SessionGetOutputTypeInfo" slot:"34"`
	// OrtStatus* SessionGetInputName(const OrtSession* session, size_t index, OrtAllocator* allocator, char**
	//	value);
	SessionGetInputName uintptr `sym:"SessionGetInputName" slot:"36"`
	// OrtStatus* SessionGetOutputName(const OrtSession* session, size_t index, OrtAllocator* allocator, char**
	//	value);
	SessionGetOutputName uintptr `sym:"SessionGetOutputName" slot:"37"`
	// OrtStatus* CreateRunOptions(OrtRunOptions** out);
	CreateRunOptions uintptr `sym:"CreateRunOptions" slot:"39"`
	// OrtStatus* RunOptionsSetTerminate(OrtRunOptions* options);
	RunOptionsSetTerminate uintptr `sym:"RunOptionsSetTerminate" slot:"46"`
	// OrtStatus* CreateTensorWithDataAsOrtValue(const OrtMemoryInfo* info, void* p_data, size_t p_data_len, const
	//	int64_t* shape, size_t shape_len, ONNXTensorElementDataType type, OrtValue** out);
	CreateTensorWithDataAsOrtValue uintptr `sym:"CreateTensorWithDataAsOrtValue" slot:"49"`
	// OrtStatus* CastTypeInfoToTensorInfo(const OrtTypeInfo* type_info, const OrtTensorTypeAndShapeInfo* const*
	//	out);
	CastTypeInfoToTensorInfo uintptr `sym:"CastTypeInfoToTensorInfo" slot:"55"`
	// OrtStatus* GetTensorElementType(const OrtTensorTypeAndShapeInfo* info, ONNXTensorElementDataType* out);
	GetTensorElementType uintptr `sym:"GetTensorElementType" slot:"60"`
	// OrtStatus* GetDimensionsCount(const OrtTensorTypeAndShapeInfo* info, size_t* out);
	GetDimensionsCount uintptr `sym:"GetDimensionsCount" slot:"61"`
	// OrtStatus* GetDimensions(const OrtTensorTypeAndShapeInfo* info, int64_t* dim_values, size_t
	//	dim_values_length);
	GetDimensions uintptr `sym:"GetDimensions" slot:"62"`
	// OrtStatus* GetSymbolicDimensions(const OrtTensorTypeAndShapeInfo* info, const char* const* dim_params, size_t
	//	dim_params_length);
	GetSymbolicDimensions uintptr `sym:"GetSymbolicDimensions" slot:"63"`
	// OrtStatus* CreateMemoryInfo(const char* name, OrtAllocatorType type, int id, OrtMemType mem_type,
	//	OrtMemoryInfo** out);
	CreateMemoryInfo uintptr `sym:"CreateMemoryInfo" slot:"68"`
	// OrtStatus* AllocatorFree(OrtAllocator* ort_allocator, void* p);
	AllocatorFree uintptr `sym:"AllocatorFree" slot:"76"`
	// OrtStatus* GetAllocatorWithDefaultOptions(OrtAllocator** out);
	GetAllocatorWithDefaultOptions uintptr `sym:"GetAllocatorWithDefaultOptions" slot:"78"`
	// void ReleaseEnv(OrtEnv* input);
	ReleaseEnv uintptr `sym:"ReleaseEnv" slot:"92"`
	// void ReleaseStatus(OrtStatus* input);
	ReleaseStatus uintptr `sym:"ReleaseStatus" slot:"93"`
	// void ReleaseMemoryInfo(OrtMemoryInfo* input);
	ReleaseMemoryInfo uintptr `sym:"ReleaseMemoryInfo" slot:"94"`
	// void ReleaseSession(OrtSession* input);
	ReleaseSession uintptr `sym:"ReleaseSession" slot:"95"`
	// void ReleaseValue(OrtValue* input);
	ReleaseValue uintptr `sym:"ReleaseValue" slot:"96"`
	// void ReleaseRunOptions(OrtRunOptions* input);
	ReleaseRunOptions uintptr `sym:"ReleaseRunOptions" slot:"97"`
	// void ReleaseTypeInfo(OrtTypeInfo* input);
	ReleaseTypeInfo uintptr `sym:"ReleaseTypeInfo" slot:"98"`
	// void ReleaseSessionOptions(OrtSessionOptions* input);
	ReleaseSessionOptions uintptr `sym:"ReleaseSessionOptions" slot:"100"`
	// OrtStatus* GetAvailableProviders(char*** out_ptr, int* provider_length);
	GetAvailableProviders uintptr `sym:"GetAvailableProviders" slot:"125"`
	// OrtStatus* ReleaseAvailableProviders(char** ptr, int providers_length);
	ReleaseAvailableProviders uintptr `sym:"ReleaseAvailableProviders" slot:"126"`
	// OrtStatus* AddSessionConfigEntry(OrtSessionOptions* options, const char* config_key, const char*
	//	config_value);
	AddSessionConfigEntry uintptr `sym:"AddSessionConfigEntry" slot:"130"`
	// OrtStatus* RunWithBinding(OrtSession* session, const OrtRunOptions* run_options, const OrtIoBinding*
	//	binding_ptr);
	RunWithBinding uintptr `sym:"RunWithBinding" slot:"133"`
	// OrtStatus* CreateIoBinding(OrtSession* session, OrtIoBinding** out);
	CreateIoBinding uintptr `sym:"CreateIoBinding" slot:"134"`
	// void ReleaseIoBinding(OrtIoBinding* input);
	ReleaseIoBinding uintptr `sym:"ReleaseIoBinding" slot:"135"`
	// OrtStatus* BindInput(OrtIoBinding* binding_ptr, const char* name, const OrtValue* val_ptr);
	BindInput uintptr `sym:"BindInput" slot:"136"`
	// OrtStatus* BindOutput(OrtIoBinding* binding_ptr, const char* name, const OrtValue* val_ptr);
	BindOutput uintptr `sym:"BindOutput" slot:"137"`
	// OrtStatus* SessionOptionsAppendExecutionProvider_CUDA_V2(OrtSessionOptions* options, const
	//	OrtCUDAProviderOptionsV2* cuda_options);
	SessionOptionsAppendExecutionProviderCUDAV2 uintptr `sym:"SessionOptionsAppendExecutionProvider_CUDA_V2" slot:"204"`
	// OrtStatus* CreateCUDAProviderOptions(OrtCUDAProviderOptionsV2** out);
	CreateCUDAProviderOptions uintptr `sym:"CreateCUDAProviderOptions" slot:"205"`
	// OrtStatus* UpdateCUDAProviderOptions(OrtCUDAProviderOptionsV2* cuda_options, const char* const*
	//	provider_options_keys, const char* const* provider_options_values, size_t num_keys);
	UpdateCUDAProviderOptions uintptr `sym:"UpdateCUDAProviderOptions" slot:"206"`
	// void ReleaseCUDAProviderOptions(OrtCUDAProviderOptionsV2* input);
	ReleaseCUDAProviderOptions uintptr `sym:"ReleaseCUDAProviderOptions" slot:"208"`
}
