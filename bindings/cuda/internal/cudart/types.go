package cudart

// The handles are pointers into native memory; 0 is null, and as a Stream the default stream.
type (
	// Stream is cudaStream_t.
	Stream uintptr
	// Event is cudaEvent_t.
	Event uintptr
	// MemPool is cudaMemPool_t.
	MemPool uintptr
	// Library is cudaLibrary_t.
	Library uintptr
	// Kernel is cudaKernel_t.
	Kernel uintptr
)

// Address is void*: of device memory, of pinned host memory, or of Go memory that is pinned during the call.
type Address uintptr

// Size is size_t.
type Size uintptr

// Status is cudaError_t.
type Status int32

// Success is cudaSuccess.
const Success Status = 0

// DeviceAttr is enum cudaDeviceAttr.
type DeviceAttr uint32

// MemcpyKind is enum cudaMemcpyKind.
type MemcpyKind uint32

// MemcpyDefault is cudaMemcpyDefault: the addresses tell the direction.
const MemcpyDefault MemcpyKind = 4

// MemPoolAttr is enum cudaMemPoolAttr.
type MemPoolAttr uint32

// Attributes of memory pools; their values are uint64.
const (
	MemPoolAttrReleaseThreshold   MemPoolAttr = 4 // cudaMemPoolAttrReleaseThreshold
	MemPoolAttrReservedMemCurrent MemPoolAttr = 5 // cudaMemPoolAttrReservedMemCurrent
	MemPoolAttrUsedMemCurrent     MemPoolAttr = 7 // cudaMemPoolAttrUsedMemCurrent
)

// JitOption is enum cudaJitOption.
type JitOption uint32

// LibraryOption is enum cudaLibraryOption.
type LibraryOption uint32

// Flags.
const (
	StreamNonBlocking  = 1 // cudaStreamNonBlocking
	EventBlockingSync  = 1 // cudaEventBlockingSync
	EventDisableTiming = 2 // cudaEventDisableTiming
	HostAllocPortable  = 1 // cudaHostAllocPortable
)

// Dim3 is dim3.
type Dim3 struct {
	X, Y, Z uint32
}

// LaunchConfig is cudaLaunchConfig_t.
type LaunchConfig struct {
	GridDim, BlockDim Dim3
	DynamicSmemBytes  Size
	Stream            Stream
	Attrs             Address
	NumAttrs          uint32
}
