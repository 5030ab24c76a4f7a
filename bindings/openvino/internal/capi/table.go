// Package capi is the raw layer over OpenVINO's C API: a table of symbols, each under its C prototype,
// and one Go method a symbol that converts the arguments, nothing more. It checks nothing: a null
// handle is a SIGSEGV. The safe layer above it is the only importer.
//
// A test compares the prototypes, the methods' parameters and the arguments of the calls with the C
// headers of the release.
//
// These details have caused bugs:
//   - A Go pointer becomes a uintptr inside the argument list of SyscallN and nowhere else: the stack
//     may move in between.
//   - A status is a C int: the low 32 bits of the result. A bool is its low 8 bits.
//   - ov_shape_t by value is 16 bytes in two integer registers: rank, then dims. It must not straddle
//     the sixth register.
//   - ov_core_set_property takes exactly one pair, whatever its ellipsis suggests.
//   - ov_get_error_info returns a static text, ov_get_last_err_msg one to be freed with ov_free.
package capi

// Table holds the addresses of the C functions that genfn calls.
type Table struct {
	// ov_status_e ov_get_openvino_version(ov_version_t* version);
	GetOpenVINOVersion uintptr `sym:"ov_get_openvino_version"`
	// void ov_version_free(ov_version_t* version);
	VersionFree uintptr `sym:"ov_version_free"`
	// const char* ov_get_error_info(ov_status_e status);
	GetErrorInfo uintptr `sym:"ov_get_error_info"`
	// const char* ov_get_last_err_msg();
	GetLastErrMsg uintptr `sym:"ov_get_last_err_msg"`
	// void ov_free(const char* content);
	Free uintptr `sym:"ov_free"`

	// ov_status_e ov_core_create(ov_core_t** core);
	CoreCreate uintptr `sym:"ov_core_create"`
	// void ov_core_free(ov_core_t* core);
	CoreFree uintptr `sym:"ov_core_free"`
	// ov_status_e ov_core_get_available_devices(const ov_core_t* core, ov_available_devices_t* devices);
	CoreGetAvailableDevices uintptr `sym:"ov_core_get_available_devices"`
	// void ov_available_devices_free(ov_available_devices_t* devices);
	AvailableDevicesFree uintptr `sym:"ov_available_devices_free"`
	// ov_status_e ov_core_get_property(const ov_core_t* core, const char* device_name,
	//	const char* property_key, char** property_value);
	CoreGetProperty uintptr `sym:"ov_core_get_property"`
	// ov_status_e ov_core_set_property(const ov_core_t* core, const char* device_name, ...);
	CoreSetProperty uintptr `sym:"ov_core_set_property"`
	// Not in release 2024.6.
	//
	// ov_status_e ov_core_add_extension(const ov_core_t* core, const char* path);
	CoreAddExtension uintptr `sym:"ov_core_add_extension,optional"`
	// ov_status_e ov_core_read_model(const ov_core_t* core, const char* model_path,
	//	const char* bin_path, ov_model_t** model);
	CoreReadModel uintptr `sym:"ov_core_read_model"`
	// ov_status_e ov_core_compile_model(const ov_core_t* core, const ov_model_t* model,
	//	const char* device_name, const size_t property_args_size,
	//	ov_compiled_model_t** compiled_model, ...);
	CoreCompileModel uintptr `sym:"ov_core_compile_model"`
	// ov_status_e ov_core_import_model(const ov_core_t* core, const char* content,
	//	const size_t content_size, const char* device_name, ov_compiled_model_t** compiled_model);
	CoreImportModel uintptr `sym:"ov_core_import_model"`

	// void ov_model_free(ov_model_t* model);
	ModelFree uintptr `sym:"ov_model_free"`
	// ov_status_e ov_model_inputs_size(const ov_model_t* model, size_t* input_size);
	ModelInputsSize uintptr `sym:"ov_model_inputs_size"`
	// ov_status_e ov_model_outputs_size(const ov_model_t* model, size_t* output_size);
	ModelOutputsSize uintptr `sym:"ov_model_outputs_size"`
	// ov_status_e ov_model_const_input_by_index(const ov_model_t* model, const size_t index,
	//	ov_output_const_port_t** input_port);
	ModelConstInputByIndex uintptr `sym:"ov_model_const_input_by_index"`
	// ov_status_e ov_model_const_output_by_index(const ov_model_t* model, const size_t index,
	//	ov_output_const_port_t** output_port);
	ModelConstOutputByIndex uintptr `sym:"ov_model_const_output_by_index"`
	// bool ov_model_is_dynamic(const ov_model_t* model);
	ModelIsDynamic uintptr `sym:"ov_model_is_dynamic"`
	// ov_status_e ov_model_reshape(const ov_model_t* model, const char** tensor_names,
	//	const ov_partial_shape_t* partial_shapes, size_t size);
	ModelReshape uintptr `sym:"ov_model_reshape"`

	// ov_status_e ov_port_get_any_name(const ov_output_const_port_t* port, char** tensor_name);
	PortGetAnyName uintptr `sym:"ov_port_get_any_name"`
	// ov_status_e ov_port_get_element_type(const ov_output_const_port_t* port,
	//	ov_element_type_e* tensor_type);
	PortGetElementType uintptr `sym:"ov_port_get_element_type"`
	// ov_status_e ov_port_get_partial_shape(const ov_output_const_port_t* port,
	//	ov_partial_shape_t* partial_shape);
	PortGetPartialShape uintptr `sym:"ov_port_get_partial_shape"`
	// void ov_partial_shape_free(ov_partial_shape_t* partial_shape);
	PartialShapeFree uintptr `sym:"ov_partial_shape_free"`
	// void ov_output_const_port_free(ov_output_const_port_t* port);
	OutputConstPortFree uintptr `sym:"ov_output_const_port_free"`

	// ov_status_e ov_compiled_model_inputs_size(const ov_compiled_model_t* compiled_model, size_t* size);
	CompiledModelInputsSize uintptr `sym:"ov_compiled_model_inputs_size"`
	// ov_status_e ov_compiled_model_outputs_size(const ov_compiled_model_t* compiled_model, size_t* size);
	CompiledModelOutputsSize uintptr `sym:"ov_compiled_model_outputs_size"`
	// ov_status_e ov_compiled_model_input_by_index(const ov_compiled_model_t* compiled_model,
	//	const size_t index, ov_output_const_port_t** input_port);
	CompiledModelInputByIndex uintptr `sym:"ov_compiled_model_input_by_index"`
	// ov_status_e ov_compiled_model_output_by_index(const ov_compiled_model_t* compiled_model,
	//	const size_t index, ov_output_const_port_t** output_port);
	CompiledModelOutputByIndex uintptr `sym:"ov_compiled_model_output_by_index"`
	// ov_status_e ov_compiled_model_create_infer_request(const ov_compiled_model_t* compiled_model,
	//	ov_infer_request_t** infer_request);
	CompiledModelCreateInferRequest uintptr `sym:"ov_compiled_model_create_infer_request"`
	// ov_status_e ov_compiled_model_get_property(const ov_compiled_model_t* compiled_model,
	//	const char* property_key, char** property_value);
	CompiledModelGetProperty uintptr `sym:"ov_compiled_model_get_property"`
	// ov_status_e ov_compiled_model_export_model(const ov_compiled_model_t* compiled_model,
	//	const char* export_model_path);
	CompiledModelExportModel uintptr `sym:"ov_compiled_model_export_model"`
	// void ov_compiled_model_free(ov_compiled_model_t* compiled_model);
	CompiledModelFree uintptr `sym:"ov_compiled_model_free"`

	// ov_status_e ov_infer_request_set_input_tensor_by_index(ov_infer_request_t* infer_request,
	//	const size_t idx, const ov_tensor_t* tensor);
	InferRequestSetInputTensorByIndex uintptr `sym:"ov_infer_request_set_input_tensor_by_index"`
	// ov_status_e ov_infer_request_set_output_tensor_by_index(ov_infer_request_t* infer_request,
	//	const size_t idx, const ov_tensor_t* tensor);
	InferRequestSetOutputTensorByIndex uintptr `sym:"ov_infer_request_set_output_tensor_by_index"`
	// ov_status_e ov_infer_request_get_output_tensor_by_index(const ov_infer_request_t* infer_request,
	//	const size_t idx, ov_tensor_t** tensor);
	InferRequestGetOutputTensorByIndex uintptr `sym:"ov_infer_request_get_output_tensor_by_index"`
	// ov_status_e ov_infer_request_infer(ov_infer_request_t* infer_request);
	InferRequestInfer uintptr `sym:"ov_infer_request_infer"`
	// ov_status_e ov_infer_request_start_async(ov_infer_request_t* infer_request);
	InferRequestStartAsync uintptr `sym:"ov_infer_request_start_async"`
	// ov_status_e ov_infer_request_wait_for(ov_infer_request_t* infer_request, const int64_t timeout);
	InferRequestWaitFor uintptr `sym:"ov_infer_request_wait_for"`
	// ov_status_e ov_infer_request_cancel(ov_infer_request_t* infer_request);
	InferRequestCancel uintptr `sym:"ov_infer_request_cancel"`
	// void ov_infer_request_free(ov_infer_request_t* infer_request);
	InferRequestFree uintptr `sym:"ov_infer_request_free"`

	// ov_status_e ov_tensor_create(const ov_element_type_e type, const ov_shape_t shape,
	//	ov_tensor_t** tensor);
	TensorCreate uintptr `sym:"ov_tensor_create"`
	// ov_status_e ov_tensor_create_from_host_ptr(const ov_element_type_e type, const ov_shape_t shape,
	//	void* host_ptr, ov_tensor_t** tensor);
	TensorCreateFromHostPtr uintptr `sym:"ov_tensor_create_from_host_ptr"`
	// Not in release 2024.6.
	//
	// ov_status_e ov_tensor_create_from_string_array(const char** string_array,
	//	const size_t array_size, const ov_shape_t shape, ov_tensor_t** tensor);
	TensorCreateFromStringArray uintptr `sym:"ov_tensor_create_from_string_array,optional"`
	// ov_status_e ov_tensor_get_shape(const ov_tensor_t* tensor, ov_shape_t* shape);
	TensorGetShape uintptr `sym:"ov_tensor_get_shape"`
	// ov_status_e ov_tensor_get_element_type(const ov_tensor_t* tensor, ov_element_type_e* type);
	TensorGetElementType uintptr `sym:"ov_tensor_get_element_type"`
	// ov_status_e ov_tensor_get_byte_size(const ov_tensor_t* tensor, size_t* byte_size);
	TensorGetByteSize uintptr `sym:"ov_tensor_get_byte_size"`
	// ov_status_e ov_tensor_data(const ov_tensor_t* tensor, void** data);
	TensorData uintptr `sym:"ov_tensor_data"`
	// void ov_tensor_free(ov_tensor_t* tensor);
	TensorFree uintptr `sym:"ov_tensor_free"`
	// ov_status_e ov_shape_free(ov_shape_t* shape);
	ShapeFree uintptr `sym:"ov_shape_free"`
}
