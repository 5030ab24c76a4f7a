package nvrtc

import (
	"unsafe"

	"github.com/ebitengine/purego"
)

// API calls the functions of a Table.
type API struct {
	Table Table
}

func status(r1, _, _ uintptr) Status { return Status(int32(r1)) }

// GetErrorString calls nvrtcGetErrorString.
func (a *API) GetErrorString(result Status) *byte {
	r1, _, _ := purego.SyscallN(a.Table.GetErrorString, uintptr(result))
	return *(**byte)(unsafe.Pointer(&r1))
}

// Version calls nvrtcVersion.
func (a *API) Version(major, minor *int32) Status {
	return status(purego.SyscallN(a.Table.Version, uintptr(unsafe.Pointer(major)), uintptr(unsafe.Pointer(minor))))
}

// GetNumSupportedArchs calls nvrtcGetNumSupportedArchs.
func (a *API) GetNumSupportedArchs(numArchs *int32) Status {
	return status(purego.SyscallN(a.Table.GetNumSupportedArchs, uintptr(unsafe.Pointer(numArchs))))
}

// GetSupportedArchs calls nvrtcGetSupportedArchs.
func (a *API) GetSupportedArchs(supportedArchs *int32) Status {
	return status(purego.SyscallN(a.Table.GetSupportedArchs, uintptr(unsafe.Pointer(supportedArchs))))
}

// CreateProgram calls nvrtcCreateProgram.
func (a *API) CreateProgram(prog *Program, src, name *byte, numHeaders int32, headers, includeNames **byte) Status {
	return status(purego.SyscallN(a.Table.CreateProgram, uintptr(unsafe.Pointer(prog)), uintptr(unsafe.Pointer(src)), uintptr(unsafe.Pointer(name)), uintptr(numHeaders), uintptr(unsafe.Pointer(headers)), uintptr(unsafe.Pointer(includeNames))))
}

// DestroyProgram calls nvrtcDestroyProgram.
func (a *API) DestroyProgram(prog *Program) Status {
	return status(purego.SyscallN(a.Table.DestroyProgram, uintptr(unsafe.Pointer(prog))))
}

// CompileProgram calls nvrtcCompileProgram.
func (a *API) CompileProgram(prog Program, numOptions int32, options **byte) Status {
	return status(purego.SyscallN(a.Table.CompileProgram, uintptr(prog), uintptr(numOptions), uintptr(unsafe.Pointer(options))))
}

// GetPTXSize calls nvrtcGetPTXSize.
func (a *API) GetPTXSize(prog Program, ptxSizeRet *Size) Status {
	return status(purego.SyscallN(a.Table.GetPTXSize, uintptr(prog), uintptr(unsafe.Pointer(ptxSizeRet))))
}

// GetPTX calls nvrtcGetPTX.
func (a *API) GetPTX(prog Program, ptx *byte) Status {
	return status(purego.SyscallN(a.Table.GetPTX, uintptr(prog), uintptr(unsafe.Pointer(ptx))))
}

// GetCUBINSize calls nvrtcGetCUBINSize.
func (a *API) GetCUBINSize(prog Program, cubinSizeRet *Size) Status {
	return status(purego.SyscallN(a.Table.GetCUBINSize, uintptr(prog), uintptr(unsafe.Pointer(cubinSizeRet))))
}

// GetCUBIN calls nvrtcGetCUBIN.
func (a *API) GetCUBIN(prog Program, cubin *byte) Status {
	return status(purego.SyscallN(a.Table.GetCUBIN, uintptr(prog), uintptr(unsafe.Pointer(cubin))))
}

// GetProgramLogSize calls nvrtcGetProgramLogSize.
func (a *API) GetProgramLogSize(prog Program, logSizeRet *Size) Status {
	return status(purego.SyscallN(a.Table.GetProgramLogSize, uintptr(prog), uintptr(unsafe.Pointer(logSizeRet))))
}

// GetProgramLog calls nvrtcGetProgramLog.
func (a *API) GetProgramLog(prog Program, log *byte) Status {
	return status(purego.SyscallN(a.Table.GetProgramLog, uintptr(prog), uintptr(unsafe.Pointer(log))))
}
