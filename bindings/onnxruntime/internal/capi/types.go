package capi

// The handles are pointers into native memory; 0 is null.
type (
	// Status is OrtStatus*: null for success.
	Status uintptr
	// Env is OrtEnv*.
	Env uintptr
	// Session is OrtSession*.
	Session uintptr
	// SessionOptions is OrtSessionOptions*.
	SessionOptions uintptr
	// RunOptions is OrtRunOptions*.
	RunOptions uintptr
	// Value is OrtValue*.
	Value uintptr
	// MemoryInfo is OrtMemoryInfo*.
	MemoryInfo uintptr
	// IoBinding is OrtIoBinding*.
	IoBinding uintptr
	// TypeInfo is OrtTypeInfo*.
	TypeInfo uintptr
	// TensorInfo is OrtTensorTypeAndShapeInfo*.
	TensorInfo uintptr
	// Allocator is OrtAllocator*.
	Allocator uintptr
	// CUDAProviderOptions is OrtCUDAProviderOptionsV2*.
	CUDAProviderOptions uintptr
	// Address is void*, of the host or of a device.
	Address uintptr
)

// Size is size_t.
type Size uintptr

// ErrorCode is OrtErrorCode.
type ErrorCode uint32

// LoggingLevel is OrtLoggingLevel.
type LoggingLevel uint32

// LogFatal leaves out all that is returned as a status too, and warnings: they would be written to standard error.
const LogFatal LoggingLevel = 4 // ORT_LOGGING_LEVEL_FATAL

// GraphOptimizationLevel is GraphOptimizationLevel.
type GraphOptimizationLevel uint32

// The levels.
const (
	OptimizeNothing  GraphOptimizationLevel = 0  // ORT_DISABLE_ALL
	OptimizeBasic    GraphOptimizationLevel = 1  // ORT_ENABLE_BASIC
	OptimizeExtended GraphOptimizationLevel = 2  // ORT_ENABLE_EXTENDED
	OptimizeAll      GraphOptimizationLevel = 99 // ORT_ENABLE_ALL
)

// AllocatorType is OrtAllocatorType.
type AllocatorType int32

// DeviceAllocator is memory as the device gives it, without an arena.
const DeviceAllocator AllocatorType = 0 // OrtDeviceAllocator

// MemType is OrtMemType.
type MemType int32

// MemTypeDefault is the memory in which an execution provider computes.
const MemTypeDefault MemType = 0 // OrtMemTypeDefault

// ElementType is ONNXTensorElementDataType.
type ElementType uint32

// The element types that tensors of this program can have.
const (
	Float    ElementType = 1  // ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
	Uint8    ElementType = 2  // ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8
	Int8     ElementType = 3  // ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8
	Uint16   ElementType = 4  // ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16
	Int16    ElementType = 5  // ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16
	Int32    ElementType = 6  // ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32
	Int64    ElementType = 7  // ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64
	Bool     ElementType = 9  // ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL
	Float16  ElementType = 10 // ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16
	Double   ElementType = 11 // ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE
	Uint32   ElementType = 12 // ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32
	Uint64   ElementType = 13 // ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64
	BFloat16 ElementType = 16 // ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16
)
