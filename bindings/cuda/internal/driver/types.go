package driver

type (
	// Module is CUmodule.
	Module uintptr
	// Function is CUfunction.
	Function uintptr
	// Stream is CUstream; the runtime library's streams are the same.
	Stream uintptr
)

// Address is void*, as in package cudart.
type Address uintptr

// Status is CUresult.
type Status int32

// Device is CUdevice.
type Device int32

// UUID is CUuuid.
type UUID struct {
	Bytes [16]byte
}
