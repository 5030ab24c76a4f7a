package capi

import (
	"unsafe"

	"github.com/ebitengine/purego"
)

// API calls the functions of a Table.
type API struct {
	Table Table
}

func status(r1, _, _ uintptr) Status { return Status(r1) }

// GetErrorCode calls GetErrorCode.
func (a *API) GetErrorCode(status Status) ErrorCode {
	r1, _, _ := purego.SyscallN(a.Table.GetErrorCode, uintptr(status))
	return ErrorCode(r1) //nolint:gosec // the low half is the number
}

// GetErrorMessage calls GetErrorMessage.
func (a *API) GetErrorMessage(status Status) *byte {
	r1, _, _ := purego.SyscallN(a.Table.GetErrorMessage, uintptr(status))
	return *(**byte)(unsafe.Pointer(&r1))
}

// CreateEnv calls CreateEnv.
func (a *API) CreateEnv(logSeverityLevel LoggingLevel, logid *byte, out *Env) Status {
	return status(purego.SyscallN(a.Table.CreateEnv,
		uintptr(logSeverityLevel), uintptr(unsafe.Pointer(logid)), uintptr(unsafe.Pointer(out))))
}

// CreateSession calls CreateSession.
func (a *API) CreateSession(env Env, modelPath *byte, options SessionOptions, out *Session) Status {
	return status(purego.SyscallN(a.Table.CreateSession,
		uintptr(env), uintptr(unsafe.Pointer(modelPath)), uintptr(options), uintptr(unsafe.Pointer(out))))
}

// CreateSessionOptions calls CreateSessionOptions.
func (a *API) CreateSessionOptions(options *SessionOptions) Status {
	return status(purego.SyscallN(a.Table.CreateSessionOptions, uintptr(unsafe.Pointer(options))))
}

// DisableMemPattern calls DisableMemPattern.
func (a *API) DisableMemPattern(options SessionOptions) Status {
	return status(purego.SyscallN(a.Table.DisableMemPattern, uintptr(options)))
}

// DisableCPUMemArena calls DisableCpuMemArena.
func (a *API) DisableCPUMemArena(options SessionOptions) Status {
	return status(purego.SyscallN(a.Table.DisableCPUMemArena, uintptr(options)))
}

// SetSessionGraphOptimizationLevel calls SetSessionGraphOptimizationLevel.
func (a *API) SetSessionGraphOptimizationLevel(options SessionOptions, graphOptimizationLevel GraphOptimizationLevel) Status {
	return status(purego.SyscallN(a.Table.SetSessionGraphOptimizationLevel,
		uintptr(options), uintptr(graphOptimizationLevel)))
}

// SetIntraOpNumThreads calls SetIntraOpNumThreads.
func (a *API) SetIntraOpNumThreads(options SessionOptions, intraOpNumThreads int32) Status {
	return status(purego.SyscallN(a.Table.SetIntraOpNumThreads, uintptr(options), uintptr(intraOpNumThreads)))
}

// SessionGetInputCount calls SessionGetInputCount.
func (a *API) SessionGetInputCount(session Session, out *Size) Status {
	return status(purego.SyscallN(a.Table.SessionGetInputCount, uintptr(session), uintptr(unsafe.Pointer(out))))
}

// SessionGetOutputCount calls SessionGetOutputCount.
func (a *API) SessionGetOutputCount(session Session, out *Size) Status {
	return status(purego.SyscallN(a.Table.SessionGetOutputCount, uintptr(session), uintptr(unsafe.Pointer(out))))
}

// SessionGetInputTypeInfo calls SessionGetInputTypeInfo.
func (a *API) SessionGetInputTypeInfo(session Session, index Size, typeInfo *TypeInfo) Status {
	return status(purego.SyscallN(a.Table.SessionGetInputTypeInfo,
		uintptr(session), uintptr(index), uintptr(unsafe.Pointer(typeInfo))))
}

// SessionGetOutputTypeInfo calls SessionGetOutputTypeInfo.
func (a *API) SessionGetOutputTypeInfo(session Session, index Size, typeInfo *TypeInfo) Status {
	return status(purego.SyscallN(a.Table.SessionGetOutputTypeInfo,
		uintptr(session), uintptr(index), uintptr(unsafe.Pointer(typeInfo))))
}

// SessionGetInputName calls SessionGetInputName.
func (a *API) SessionGetInputName(session Session, index Size, allocator Allocator, value **byte) Status {
	return status(purego.SyscallN(a.Table.SessionGetInputName,
		uintptr(session), uintptr(index), uintptr(allocator), uintptr(unsafe.Pointer(value))))
}

// SessionGetOutputName calls SessionGetOutputName.
func (a *API) SessionGetOutputName(session Session, index Size, allocator Allocator, value **byte) Status {
	return status(purego.SyscallN(a.Table.SessionGetOutputName,
		uintptr(session), uintptr(index), uintptr(allocator), uintptr(unsafe.Pointer(value))))
}

// CreateRunOptions calls CreateRunOptions.
func (a *API) CreateRunOptions(out *RunOptions) Status {
	return status(purego.SyscallN(a.Table.CreateRunOptions, uintptr(unsafe.Pointer(out))))
}

// RunOptionsSetTerminate calls RunOptionsSetTerminate.
func (a *API) RunOptionsSetTerminate(options RunOptions) Status {
	return status(purego.SyscallN(a.Table.RunOptionsSetTerminate, uintptr(options)))
}

// CreateTensorWithDataAsOrtValue calls CreateTensorWithDataAsOrtValue.
func (a *API) CreateTensorWithDataAsOrtValue(info MemoryInfo, pData Address, pDataLen Size, shape *int64, shapeLen Size, kind ElementType, out *Value) Status {
	return status(purego.SyscallN(a.Table.CreateTensorWithDataAsOrtValue,
		uintptr(info), uintptr(pData), uintptr(pDataLen), uintptr(unsafe.Pointer(shape)), uintptr(shapeLen), uintptr(kind), uintptr(unsafe.Pointer(out))))
}

// CastTypeInfoToTensorInfo calls CastTypeInfoToTensorInfo.
func (a *API) CastTypeInfoToTensorInfo(typeInfo TypeInfo, out *TensorInfo) Status {
	return status(purego.SyscallN(a.Table.CastTypeInfoToTensorInfo, uintptr(typeInfo), uintptr(unsafe.Pointer(out))))
}

// GetTensorElementType calls GetTensorElementType.
func (a *API) GetTensorElementType(info TensorInfo, out *ElementType) Status {
	return status(purego.SyscallN(a.Table.GetTensorElementType, uintptr(info), uintptr(unsafe.Pointer(out))))
}

// GetDimensionsCount calls GetDimensionsCount.
func (a *API) GetDimensionsCount(info TensorInfo, out *Size) Status {
	return status(purego.SyscallN(a.Table.GetDimensionsCount, uintptr(info), uintptr(unsafe.Pointer(out))))
}

// GetDimensions calls GetDimensions.
func (a *API) GetDimensions(info TensorInfo, dimValues *int64, dimValuesLength Size) Status {
	return status(purego.SyscallN(a.Table.GetDimensions,
		uintptr(info), uintptr(unsafe.Pointer(dimValues)), uintptr(dimValuesLength)))
}

// GetSymbolicDimensions calls GetSymbolicDimensions.
func (a *API) GetSymbolicDimensions(info TensorInfo, dimParams **byte, dimParamsLength Size) Status {
	return status(purego.SyscallN(a.Table.GetSymbolicDimensions,
		uintptr(info), uintptr(unsafe.Pointer(dimParams)), uintptr(dimParamsLength)))
}

// CreateMemoryInfo calls CreateMemoryInfo.
func (a *API) CreateMemoryInfo(name *byte, kind AllocatorType, id int32, memType MemType, out *MemoryInfo) Status {
	return status(purego.SyscallN(a.Table.CreateMemoryInfo,
		uintptr(unsafe.Pointer(name)), uintptr(kind), uintptr(id), uintptr(memType), uintptr(unsafe.Pointer(out))))
}

// AllocatorFree calls AllocatorFree.
func (a *API) AllocatorFree(ortAllocator Allocator, p Address) Status {
	return status(purego.SyscallN(a.Table.AllocatorFree, uintptr(ortAllocator), uintptr(p)))
}

// GetAllocatorWithDefaultOptions calls GetAllocatorWithDefaultOptions.
func (a *API) GetAllocatorWithDefaultOptions(out *Allocator) Status {
	return status(purego.SyscallN(a.Table.GetAllocatorWithDefaultOptions, uintptr(unsafe.Pointer(out))))
}

// ReleaseEnv calls ReleaseEnv.
func (a *API) ReleaseEnv(input Env) {
	purego.SyscallN(a.Table.ReleaseEnv, uintptr(input))
}

// ReleaseStatus calls ReleaseStatus.
func (a *API) ReleaseStatus(input Status) {
	purego.SyscallN(a.Table.ReleaseStatus, uintptr(input))
}

// ReleaseMemoryInfo calls ReleaseMemoryInfo.
func (a *API) ReleaseMemoryInfo(input MemoryInfo) {
	purego.SyscallN(a.Table.ReleaseMemoryInfo, uintptr(input))
}

// ReleaseSession calls ReleaseSession.
func (a *API) ReleaseSession(input Session) {
	purego.SyscallN(a.Table.ReleaseSession, uintptr(input))
}

// ReleaseValue calls ReleaseValue.
func (a *API) ReleaseValue(input Value) {
	purego.SyscallN(a.Table.ReleaseValue, uintptr(input))
}

// ReleaseRunOptions calls ReleaseRunOptions.
func (a *API) ReleaseRunOptions(input RunOptions) {
	purego.SyscallN(a.Table.ReleaseRunOptions, uintptr(input))
}

// ReleaseTypeInfo calls ReleaseTypeInfo.
func (a *API) ReleaseTypeInfo(input TypeInfo) {
	purego.SyscallN(a.Table.ReleaseTypeInfo, uintptr(input))
}

// ReleaseSessionOptions calls ReleaseSessionOptions.
func (a *API) ReleaseSessionOptions(input SessionOptions) {
	purego.SyscallN(a.Table.ReleaseSessionOptions, uintptr(input))
}

// GetAvailableProviders calls GetAvailableProviders.
func (a *API) GetAvailableProviders(outPtr ***byte, providerLength *int32) Status {
	return status(purego.SyscallN(a.Table.GetAvailableProviders,
		uintptr(unsafe.Pointer(outPtr)), uintptr(unsafe.Pointer(providerLength))))
}

// ReleaseAvailableProviders calls ReleaseAvailableProviders.
func (a *API) ReleaseAvailableProviders(ptr **byte, providersLength int32) Status {
	return status(purego.SyscallN(a.Table.ReleaseAvailableProviders,
		uintptr(unsafe.Pointer(ptr)), uintptr(providersLength)))
}

// AddSessionConfigEntry calls AddSessionConfigEntry.
func (a *API) AddSessionConfigEntry(options SessionOptions, configKey *byte, configValue *byte) Status {
	return status(purego.SyscallN(a.Table.AddSessionConfigEntry,
		uintptr(options), uintptr(unsafe.Pointer(configKey)), uintptr(unsafe.Pointer(configValue))))
}

// RunWithBinding calls RunWithBinding.
func (a *API) RunWithBinding(session Session, runOptions RunOptions, bindingPtr IoBinding) Status {
	return status(purego.SyscallN(a.Table.RunWithBinding, uintptr(session), uintptr(runOptions), uintptr(bindingPtr)))
}

// CreateIoBinding calls CreateIoBinding.
func (a *API) CreateIoBinding(session Session, out *IoBinding) Status {
	return status(purego.SyscallN(a.Table.CreateIoBinding, uintptr(session), uintptr(unsafe.Pointer(out))))
}

// ReleaseIoBinding calls ReleaseIoBinding.
func (a *API) ReleaseIoBinding(input IoBinding) {
	purego.SyscallN(a.Table.ReleaseIoBinding, uintptr(input))
}

// BindInput calls BindInput.
func (a *API) BindInput(bindingPtr IoBinding, name *byte, valPtr Value) Status {
	return status(purego.SyscallN(a.Table.BindInput, uintptr(bindingPtr), uintptr(unsafe.Pointer(name)), uintptr(valPtr)))
}

// BindOutput calls BindOutput.
func (a *API) BindOutput(bindingPtr IoBinding, name *byte, valPtr Value) Status {
	return status(purego.SyscallN(a.Table.BindOutput, uintptr(bindingPtr), uintptr(unsafe.Pointer(name)), uintptr(valPtr)))
}

// SessionOptionsAppendExecutionProviderCUDAV2 calls SessionOptionsAppendExecutionProvider_CUDA_V2.
func (a *API) SessionOptionsAppendExecutionProviderCUDAV2(options SessionOptions, cudaOptions CUDAProviderOptions) Status {
	return status(purego.SyscallN(a.Table.SessionOptionsAppendExecutionProviderCUDAV2,
		uintptr(options), uintptr(cudaOptions)))
}

// CreateCUDAProviderOptions calls CreateCUDAProviderOptions.
func (a *API) CreateCUDAProviderOptions(out *CUDAProviderOptions) Status {
	return status(purego.SyscallN(a.Table.CreateCUDAProviderOptions, uintptr(unsafe.Pointer(out))))
}

// UpdateCUDAProviderOptions calls UpdateCUDAProviderOptions.
func (a *API) UpdateCUDAProviderOptions(cudaOptions CUDAProviderOptions, providerOptionsKeys **byte, providerOptionsValues **byte, numKeys Size) Status {
	return status(purego.SyscallN(a.Table.UpdateCUDAProviderOptions,
		uintptr(cudaOptions), uintptr(unsafe.Pointer(providerOptionsKeys)), uintptr(unsafe.Pointer(providerOptionsValues)), uintptr(numKeys)))
}

// ReleaseCUDAProviderOptions calls ReleaseCUDAProviderOptions.
func (a *API) ReleaseCUDAProviderOptions(input CUDAProviderOptions) {
	purego.SyscallN(a.Table.ReleaseCUDAProviderOptions, uintptr(input))
}
