package capi

import (
	"unsafe"

	"github.com/ebitengine/purego"
)

// API calls the functions of a Table.
type API struct {
	Table Table
	args  [3]uintptr // of the call in progress, see hot
}

// hot is SyscallN for calls that are made again and again: with the arguments in memory that is there already, and so
// without an allocation. A pointer among them must be to the heap, to what the caller keeps. The API serves one call at a
// time.
func (a *API) hot(function uintptr, args ...uintptr) (r1, r2, err uintptr) {
	return purego.SyscallN(function, a.args[:copy(a.args[:], args)]...)
}

func status(r1, _, _ uintptr) Status { return Status(int32(r1)) }

// GetOpenVINOVersion calls ov_get_openvino_version.
func (a *API) GetOpenVINOVersion(version *Version) Status {
	return status(purego.SyscallN(a.Table.GetOpenVINOVersion, uintptr(unsafe.Pointer(version))))
}

// VersionFree calls ov_version_free.
func (a *API) VersionFree(version *Version) {
	purego.SyscallN(a.Table.VersionFree, uintptr(unsafe.Pointer(version)))
}

// GetErrorInfo calls ov_get_error_info.
func (a *API) GetErrorInfo(code Status) *byte {
	r1, _, _ := purego.SyscallN(a.Table.GetErrorInfo, uintptr(code))
	return *(**byte)(unsafe.Pointer(&r1))
}

// GetLastErrMsg calls ov_get_last_err_msg.
func (a *API) GetLastErrMsg() *byte {
	r1, _, _ := purego.SyscallN(a.Table.GetLastErrMsg)
	return *(**byte)(unsafe.Pointer(&r1))
}

// Free calls ov_free.
func (a *API) Free(content *byte) {
	purego.SyscallN(a.Table.Free, uintptr(unsafe.Pointer(content)))
}

// CoreCreate calls ov_core_create.
func (a *API) CoreCreate(core *Core) Status {
	return status(purego.SyscallN(a.Table.CoreCreate, uintptr(unsafe.Pointer(core))))
}

// CoreFree calls ov_core_free.
func (a *API) CoreFree(core Core) {
	purego.SyscallN(a.Table.CoreFree, uintptr(core))
}

// CoreGetAvailableDevices calls ov_core_get_available_devices.
func (a *API) CoreGetAvailableDevices(core Core, devices *AvailableDevices) Status {
	return status(purego.SyscallN(a.Table.CoreGetAvailableDevices, uintptr(core), uintptr(unsafe.Pointer(devices))))
}

// AvailableDevicesFree calls ov_available_devices_free.
func (a *API) AvailableDevicesFree(devices *AvailableDevices) {
	purego.SyscallN(a.Table.AvailableDevicesFree, uintptr(unsafe.Pointer(devices)))
}

// CoreGetProperty calls ov_core_get_property.
func (a *API) CoreGetProperty(core Core, deviceName, propertyKey *byte, propertyValue **byte) Status {
	return status(purego.SyscallN(a.Table.CoreGetProperty, uintptr(core), uintptr(unsafe.Pointer(deviceName)),
		uintptr(unsafe.Pointer(propertyKey)), uintptr(unsafe.Pointer(propertyValue))))
}

// CoreSetProperty calls ov_core_set_property for one property: its ellipsis is one key and one value.
func (a *API) CoreSetProperty(core Core, deviceName, key, value *byte) Status {
	return status(purego.SyscallN(a.Table.CoreSetProperty, uintptr(core), uintptr(unsafe.Pointer(deviceName)),
		uintptr(unsafe.Pointer(key)), uintptr(unsafe.Pointer(value))))
}

// CoreAddExtension calls ov_core_add_extension.
func (a *API) CoreAddExtension(core Core, path *byte) Status {
	return status(purego.SyscallN(a.Table.CoreAddExtension, uintptr(core), uintptr(unsafe.Pointer(path))))
}

// CoreReadModel calls ov_core_read_model.
func (a *API) CoreReadModel(core Core, modelPath, binPath *byte, model *Model) Status {
	return status(purego.SyscallN(a.Table.CoreReadModel, uintptr(core), uintptr(unsafe.Pointer(modelPath)),
		uintptr(unsafe.Pointer(binPath)), uintptr(unsafe.Pointer(model))))
}

// MaxCompileProperties is how many pairs CoreCompileModel can pass: purego's 32 arguments less the five
// named ones, halved.
const MaxCompileProperties = 13

// CoreCompileModel calls ov_core_compile_model; its ellipsis is the C strings of properties, keys and
// values in turn, at most 2*MaxCompileProperties. They are addresses already, so the caller keeps them
// pinned (runtime.Pinner) until the call returns.
func (a *API) CoreCompileModel(core Core, model Model, deviceName *byte, propertyArgsSize Size,
	compiledModel *CompiledModel, properties *[2 * MaxCompileProperties]uintptr) Status {
	p := properties
	return status(purego.SyscallN(a.Table.CoreCompileModel, uintptr(core), uintptr(model),
		uintptr(unsafe.Pointer(deviceName)), uintptr(propertyArgsSize), uintptr(unsafe.Pointer(compiledModel)),
		p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11], p[12],
		p[13], p[14], p[15], p[16], p[17], p[18], p[19], p[20], p[21], p[22], p[23], p[24], p[25]))
}

// CoreImportModel calls ov_core_import_model.
func (a *API) CoreImportModel(core Core, content *byte, contentSize Size, deviceName *byte, compiledModel *CompiledModel) Status {
	return status(purego.SyscallN(a.Table.CoreImportModel, uintptr(core), uintptr(unsafe.Pointer(content)), uintptr(contentSize),
		uintptr(unsafe.Pointer(deviceName)), uintptr(unsafe.Pointer(compiledModel))))
}

// ModelFree calls ov_model_free.
func (a *API) ModelFree(model Model) {
	purego.SyscallN(a.Table.ModelFree, uintptr(model))
}

// ModelInputsSize calls ov_model_inputs_size.
func (a *API) ModelInputsSize(model Model, inputSize *Size) Status {
	return status(purego.SyscallN(a.Table.ModelInputsSize, uintptr(model), uintptr(unsafe.Pointer(inputSize))))
}

// ModelOutputsSize calls ov_model_outputs_size.
func (a *API) ModelOutputsSize(model Model, outputSize *Size) Status {
	return status(purego.SyscallN(a.Table.ModelOutputsSize, uintptr(model), uintptr(unsafe.Pointer(outputSize))))
}

// ModelConstInputByIndex calls ov_model_const_input_by_index.
func (a *API) ModelConstInputByIndex(model Model, index Size, inputPort *ConstPort) Status {
	return status(purego.SyscallN(a.Table.ModelConstInputByIndex, uintptr(model), uintptr(index),
		uintptr(unsafe.Pointer(inputPort))))
}

// ModelConstOutputByIndex calls ov_model_const_output_by_index.
func (a *API) ModelConstOutputByIndex(model Model, index Size, outputPort *ConstPort) Status {
	return status(purego.SyscallN(a.Table.ModelConstOutputByIndex, uintptr(model), uintptr(index),
		uintptr(unsafe.Pointer(outputPort))))
}

// ModelIsDynamic calls ov_model_is_dynamic.
func (a *API) ModelIsDynamic(model Model) bool {
	r1, _, _ := purego.SyscallN(a.Table.ModelIsDynamic, uintptr(model))
	return byte(r1) != 0
}

// ModelReshape calls ov_model_reshape.
func (a *API) ModelReshape(model Model, tensorNames **byte, partialShapes *PartialShape, size Size) Status {
	return status(purego.SyscallN(a.Table.ModelReshape, uintptr(model), uintptr(unsafe.Pointer(tensorNames)),
		uintptr(unsafe.Pointer(partialShapes)), uintptr(size)))
}

// PortGetAnyName calls ov_port_get_any_name.
func (a *API) PortGetAnyName(port ConstPort, tensorName **byte) Status {
	return status(purego.SyscallN(a.Table.PortGetAnyName, uintptr(port), uintptr(unsafe.Pointer(tensorName))))
}

// PortGetElementType calls ov_port_get_element_type.
func (a *API) PortGetElementType(port ConstPort, tensorType *ElementType) Status {
	return status(purego.SyscallN(a.Table.PortGetElementType, uintptr(port), uintptr(unsafe.Pointer(tensorType))))
}

// PortGetPartialShape calls ov_port_get_partial_shape.
func (a *API) PortGetPartialShape(port ConstPort, partialShape *PartialShape) Status {
	return status(purego.SyscallN(a.Table.PortGetPartialShape, uintptr(port), uintptr(unsafe.Pointer(partialShape))))
}

// PartialShapeFree calls ov_partial_shape_free.
func (a *API) PartialShapeFree(partialShape *PartialShape) {
	purego.SyscallN(a.Table.PartialShapeFree, uintptr(unsafe.Pointer(partialShape)))
}

// OutputConstPortFree calls ov_output_const_port_free.
func (a *API) OutputConstPortFree(port ConstPort) {
	purego.SyscallN(a.Table.OutputConstPortFree, uintptr(port))
}

// CompiledModelInputsSize calls ov_compiled_model_inputs_size.
func (a *API) CompiledModelInputsSize(compiledModel CompiledModel, size *Size) Status {
	return status(purego.SyscallN(a.Table.CompiledModelInputsSize, uintptr(compiledModel), uintptr(unsafe.Pointer(size))))
}

// CompiledModelOutputsSize calls ov_compiled_model_outputs_size.
func (a *API) CompiledModelOutputsSize(compiledModel CompiledModel, size *Size) Status {
	return status(purego.SyscallN(a.Table.CompiledModelOutputsSize, uintptr(compiledModel), uintptr(unsafe.Pointer(size))))
}

// CompiledModelInputByIndex calls ov_compiled_model_input_by_index.
func (a *API) CompiledModelInputByIndex(compiledModel CompiledModel, index Size, inputPort *ConstPort) Status {
	return status(purego.SyscallN(a.Table.CompiledModelInputByIndex, uintptr(compiledModel), uintptr(index),
		uintptr(unsafe.Pointer(inputPort))))
}

// CompiledModelOutputByIndex calls ov_compiled_model_output_by_index.
func (a *API) CompiledModelOutputByIndex(compiledModel CompiledModel, index Size, outputPort *ConstPort) Status {
	return status(purego.SyscallN(a.Table.CompiledModelOutputByIndex, uintptr(compiledModel), uintptr(index),
		uintptr(unsafe.Pointer(outputPort))))
}

// CompiledModelCreateInferRequest calls ov_compiled_model_create_infer_request.
func (a *API) CompiledModelCreateInferRequest(compiledModel CompiledModel, inferRequest *InferRequest) Status {
	return status(purego.SyscallN(a.Table.CompiledModelCreateInferRequest, uintptr(compiledModel),
		uintptr(unsafe.Pointer(inferRequest))))
}

// CompiledModelGetProperty calls ov_compiled_model_get_property.
func (a *API) CompiledModelGetProperty(compiledModel CompiledModel, propertyKey *byte, propertyValue **byte) Status {
	return status(purego.SyscallN(a.Table.CompiledModelGetProperty, uintptr(compiledModel),
		uintptr(unsafe.Pointer(propertyKey)), uintptr(unsafe.Pointer(propertyValue))))
}

// CompiledModelExportModel calls ov_compiled_model_export_model.
func (a *API) CompiledModelExportModel(compiledModel CompiledModel, exportModelPath *byte) Status {
	return status(purego.SyscallN(a.Table.CompiledModelExportModel, uintptr(compiledModel), uintptr(unsafe.Pointer(exportModelPath))))
}

// CompiledModelFree calls ov_compiled_model_free.
func (a *API) CompiledModelFree(compiledModel CompiledModel) {
	purego.SyscallN(a.Table.CompiledModelFree, uintptr(compiledModel))
}

// InferRequestSetInputTensorByIndex calls ov_infer_request_set_input_tensor_by_index.
func (a *API) InferRequestSetInputTensorByIndex(inferRequest InferRequest, idx Size, tensor Tensor) Status {
	return status(a.hot(a.Table.InferRequestSetInputTensorByIndex, uintptr(inferRequest), uintptr(idx),
		uintptr(tensor)))
}

// InferRequestSetOutputTensorByIndex calls ov_infer_request_set_output_tensor_by_index.
func (a *API) InferRequestSetOutputTensorByIndex(inferRequest InferRequest, idx Size, tensor Tensor) Status {
	return status(a.hot(a.Table.InferRequestSetOutputTensorByIndex, uintptr(inferRequest), uintptr(idx),
		uintptr(tensor)))
}

// InferRequestGetOutputTensorByIndex calls ov_infer_request_get_output_tensor_by_index.
func (a *API) InferRequestGetOutputTensorByIndex(inferRequest InferRequest, idx Size, tensor *Tensor) Status {
	return status(purego.SyscallN(a.Table.InferRequestGetOutputTensorByIndex, uintptr(inferRequest), uintptr(idx),
		uintptr(unsafe.Pointer(tensor))))
}

// InferRequestInfer calls ov_infer_request_infer.
func (a *API) InferRequestInfer(inferRequest InferRequest) Status {
	return status(a.hot(a.Table.InferRequestInfer, uintptr(inferRequest)))
}

// InferRequestStartAsync calls ov_infer_request_start_async.
func (a *API) InferRequestStartAsync(inferRequest InferRequest) Status {
	return status(purego.SyscallN(a.Table.InferRequestStartAsync, uintptr(inferRequest)))
}

// InferRequestWaitFor calls ov_infer_request_wait_for.
func (a *API) InferRequestWaitFor(inferRequest InferRequest, timeout int64) Status {
	return status(purego.SyscallN(a.Table.InferRequestWaitFor, uintptr(inferRequest), uintptr(timeout)))
}

// InferRequestCancel calls ov_infer_request_cancel.
func (a *API) InferRequestCancel(inferRequest InferRequest) Status {
	return status(purego.SyscallN(a.Table.InferRequestCancel, uintptr(inferRequest)))
}

// InferRequestFree calls ov_infer_request_free.
func (a *API) InferRequestFree(inferRequest InferRequest) {
	purego.SyscallN(a.Table.InferRequestFree, uintptr(inferRequest))
}

// TensorCreate calls ov_tensor_create.
func (a *API) TensorCreate(elementType ElementType, shape Shape, tensor *Tensor) Status {
	return status(purego.SyscallN(a.Table.TensorCreate, uintptr(elementType), uintptr(shape.Rank),
		uintptr(unsafe.Pointer(shape.Dims)), uintptr(unsafe.Pointer(tensor))))
}

// TensorCreateFromHostPtr calls ov_tensor_create_from_host_ptr.
func (a *API) TensorCreateFromHostPtr(elementType ElementType, shape Shape, hostPtr unsafe.Pointer, tensor *Tensor) Status {
	return status(purego.SyscallN(a.Table.TensorCreateFromHostPtr, uintptr(elementType), uintptr(shape.Rank),
		uintptr(unsafe.Pointer(shape.Dims)), uintptr(hostPtr), uintptr(unsafe.Pointer(tensor))))
}

// TensorCreateFromStringArray calls ov_tensor_create_from_string_array.
func (a *API) TensorCreateFromStringArray(stringArray **byte, arraySize Size, shape Shape, tensor *Tensor) Status {
	return status(purego.SyscallN(a.Table.TensorCreateFromStringArray, uintptr(unsafe.Pointer(stringArray)),
		uintptr(arraySize), uintptr(shape.Rank), uintptr(unsafe.Pointer(shape.Dims)),
		uintptr(unsafe.Pointer(tensor))))
}

// TensorGetShape calls ov_tensor_get_shape.
func (a *API) TensorGetShape(tensor Tensor, shape *Shape) Status {
	return status(a.hot(a.Table.TensorGetShape, uintptr(tensor), uintptr(unsafe.Pointer(shape))))
}

// TensorGetElementType calls ov_tensor_get_element_type.
func (a *API) TensorGetElementType(tensor Tensor, elementType *ElementType) Status {
	return status(purego.SyscallN(a.Table.TensorGetElementType, uintptr(tensor), uintptr(unsafe.Pointer(elementType))))
}

// TensorGetByteSize calls ov_tensor_get_byte_size.
func (a *API) TensorGetByteSize(tensor Tensor, byteSize *Size) Status {
	return status(a.hot(a.Table.TensorGetByteSize, uintptr(tensor), uintptr(unsafe.Pointer(byteSize))))
}

// TensorData calls ov_tensor_data.
func (a *API) TensorData(tensor Tensor, data *unsafe.Pointer) Status {
	return status(a.hot(a.Table.TensorData, uintptr(tensor), uintptr(unsafe.Pointer(data))))
}

// TensorFree calls ov_tensor_free.
func (a *API) TensorFree(tensor Tensor) {
	purego.SyscallN(a.Table.TensorFree, uintptr(tensor))
}

// ShapeFree calls ov_shape_free.
func (a *API) ShapeFree(shape *Shape) Status {
	return status(a.hot(a.Table.ShapeFree, uintptr(unsafe.Pointer(shape))))
}
