package capi_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/headeraudit"
)

var rules = headeraudit.Rules{
	Types: map[string]string{
		"size_t": "Size", "int64_t": "int64", "bool": "bool", "void": "",
		"ov_status_e": "Status", "ov_element_type_e": "ElementType",
		"ov_core_t*": "Core", "ov_model_t*": "Model", "ov_output_const_port_t*": "ConstPort",
		"ov_compiled_model_t*": "CompiledModel", "ov_infer_request_t*": "InferRequest", "ov_tensor_t*": "Tensor",
		"ov_shape_t": "Shape", "ov_partial_shape_t": "PartialShape", "ov_dimension_t": "Dimension", "ov_rank_t": "Dimension",
		"ov_version_t": "Version", "ov_available_devices_t": "AvailableDevices",
		"char": "byte", "void*": "unsafe.Pointer",
	},
	Underlying: map[string]string{
		"Size": "uintptr", "Status": "int32", "ElementType": "uint32",
		"Core": "uintptr", "Model": "uintptr", "ConstPort": "uintptr", "CompiledModel": "uintptr", "InferRequest": "uintptr", "Tensor": "uintptr",
	},
	Words:  map[string][]string{"Shape": {"uintptr($.Rank)", "uintptr(unsafe.Pointer($.Dims))"}},
	Prefix: "ov",
}

func parseHeaders(source string) headeraudit.Headers {
	return headeraudit.ParseHeaders(source, regexp.MustCompile(`OPENVINO_C_API\(([^)]*)\)\s*(\w+)\s*\(([^;]*)\)\s*;`))
}

// sources are the files of this package that the audit reads.
func sources(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, name := range []string{"table.go", "types.go", "calls.go"} {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		all = append(all, string(b))
	}
	return all
}

// release reads the C headers of an installed release.
func release(t *testing.T, name string) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("..", "..", "..", "..", ".runtime", name, "openvino", "include", "openvino", "c", "*.h"))
	require.NoError(t, err)
	require.NotEmpty(t, paths, "no headers of OpenVINO in .runtime/%s: run `make runtime`, and `make test` for the older release", name)
	var all strings.Builder
	for _, path := range paths {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		all.Write(b)
	}
	return all.String()
}

func TestBindingsAgreeWithHeaders(t *testing.T) {
	releases := map[string]headeraudit.Headers{
		"2026.4": parseHeaders(release(t, "openvino")),
		"2024.6": parseHeaders(release(t, "openvino-2024.6")),
	}
	b, err := headeraudit.ParseBindings(sources(t)...)
	require.NoError(t, err)
	assert.Greater(t, b.Symbols(), 45)
	assert.Empty(t, rules.Audit(releases, b))
}

// TestAuditFindsPlantedDefects changes the headers or the bindings and expects the audit to tell.
func TestAuditFindsPlantedDefects(t *testing.T) {
	header, own := release(t, "openvino"), strings.Join(sources(t), "\x00")
	for name, c := range map[string]struct {
		in       string // header or own
		old, new string
		finding  string
	}{
		"missing symbol":           {"header", "ov_core_get_available_devices(", "ov_core_list_devices(", "ov_core_get_available_devices: not in the headers"},
		"missing optional symbol":  {"header", "ov_core_add_extension(", "ov_core_extend(", "ov_core_add_extension: in no header"},
		"symbol misspelt":          {"own", `sym:"ov_core_free"`, `sym:"ov_core_fre"`, "ov_core_fre: "},
		"parameter added in C":     {"header", "ov_infer_request_infer(ov_infer_request_t* infer_request)", "ov_infer_request_infer(ov_infer_request_t* infer_request, int64_t timeout)", "ov_infer_request_infer (R): method takes 1 parameters, the function 2"},
		"parameter removed in C":   {"header", "ov_core_add_extension(const ov_core_t* core, const char* path)", "ov_core_add_extension(const ov_core_t* core)", "ov_core_add_extension (R): method takes 2 parameters, the function 1"},
		"integer for a pointer":    {"header", "ov_core_add_extension(const ov_core_t* core, const char* path)", "ov_core_add_extension(const ov_core_t* core, const int64_t path)", "ov_core_add_extension (R): parameter 2 is *byte in Go, int64_t in C"},
		"float for an integer":     {"header", "const int64_t timeout", "const double timeout", "ov_infer_request_wait_for (R): parameter 2"},
		"other handle":             {"header", "ov_model_free(ov_model_t* model)", "ov_model_free(ov_core_t* model)", "ov_model_free (R): parameter 1 is Model in Go, ov_core_t* in C"},
		"struct by value in C":     {"header", "ov_tensor_get_shape(const ov_tensor_t* tensor, ov_shape_t* shape)", "ov_tensor_get_shape(const ov_tensor_t* tensor, ov_shape_t shape)", "ov_tensor_get_shape (R): parameter 2 is *Shape in Go, ov_shape_t in C"},
		"pointer to struct in C":   {"header", "ov_tensor_create(const ov_element_type_e type, const ov_shape_t shape,", "ov_tensor_create(const ov_element_type_e type, const ov_shape_t* shape,", "ov_tensor_create (R): parameter 2 is Shape in Go, ov_shape_t* in C"},
		"other result":             {"header", "OPENVINO_C_API(bool)\nov_model_is_dynamic", "OPENVINO_C_API(ov_status_e)\nov_model_is_dynamic", `ov_model_is_dynamic (R): method returns "bool" for ov_status_e`},
		"struct field added":       {"header", "int64_t* dims;  //!< the dims of shape", "int64_t* dims; size_t capacity;", "struct Shape has (int64, *int64) in Go, (int64_t, int64_t*, size_t) in C"},
		"variadic no more":         {"header", "const char* device_name, ...);", "const char* device_name);", "ov_core_set_property (R): "},
		"int for size_t":           {"own", "type Size uintptr", "type Size int32", "type Size is int32, not uintptr"},
		"int64 for a C enum":       {"own", "type Status int32", "type Status int64", "type Status is int64, not int32"},
		"int for size_t parameter": {"own", "ModelConstInputByIndex(model Model, index Size,", "ModelConstInputByIndex(model Model, index int32,", "ov_model_const_input_by_index (R): parameter 2 is int32 in Go, size_t in C"},
		"struct taken for pointer": {"own", "a.Table.TensorCreate, uintptr(elementType), uintptr(shape.Rank),\n\t\tuintptr(unsafe.Pointer(shape.Dims))", "a.Table.TensorCreate, uintptr(elementType),\n\t\tuintptr(unsafe.Pointer(&shape))", "ov_tensor_create (R): call passes ("},
		"argument left out":        {"own", "purego.SyscallN(a.Table.CoreReadModel, uintptr(core), uintptr(unsafe.Pointer(modelPath)),", "purego.SyscallN(a.Table.CoreReadModel, uintptr(core),", "ov_core_read_model (R): call passes ("},
		"arguments swapped":        {"own", "a.Table.InferRequestWaitFor, uintptr(inferRequest), uintptr(timeout)", "a.Table.InferRequestWaitFor, uintptr(timeout), uintptr(inferRequest)", "ov_infer_request_wait_for (R): call passes ("},
		"other function called":    {"own", "purego.SyscallN(a.Table.ModelFree,", "purego.SyscallN(a.Table.TensorFree,", `ov_model_free (R): method calls "TensorFree"`},
		"wrong comment":            {"own", "// void ov_model_free(ov_model_t* model);", "// void ov_model_free(ov_core_t* model);", "ov_model_free (R): prototype in the comment"},
		"no comment":               {"own", "// void ov_model_free(ov_model_t* model);", "//", "ov_model_free (R): prototype in the comment"},
		"wrong result":             {"own", "func (a *API) ModelIsDynamic(model Model) bool {", "func (a *API) ModelIsDynamic(model Model) Status {", `ov_model_is_dynamic (R): method returns "Status" for bool`},
		"field of other symbol":    {"own", "\tModelFree uintptr `sym", "\tModelRelease uintptr `sym", "ov_model_free: field is called ModelRelease"},
	} {
		t.Run(name, func(t *testing.T) {
			h, o := header, own
			if c.in == "header" {
				require.Contains(t, h, c.old, "nothing to plant the defect in")
				h = strings.ReplaceAll(h, c.old, c.new)
			} else {
				require.Contains(t, o, c.old, "nothing to plant the defect in")
				o = strings.ReplaceAll(o, c.old, c.new)
			}
			b, err := headeraudit.ParseBindings(strings.Split(o, "\x00")...)
			require.NoError(t, err)
			findings := strings.Join(rules.Audit(map[string]headeraudit.Headers{"R": parseHeaders(h)}, b), "\n")
			assert.Contains(t, findings, c.finding)
		})
	}
}

func TestStructByValueMustNotStraddleTheRegisters(t *testing.T) {
	const header = `OPENVINO_C_API(void) ov_many(size_t a, size_t b, size_t c, size_t d, size_t e, const ov_shape_t shape);`
	const own = "package capi\ntype Table struct {\n// void ov_many(size_t a, size_t b, size_t c, size_t d, size_t e, const ov_shape_t shape);\nMany uintptr `sym:\"ov_many\"`\n}\n" +
		"func (a *API) Many(b, c, d, e, f Size, shape Shape) { purego.SyscallN(a.Table.Many, uintptr(b), uintptr(c), uintptr(d), uintptr(e), uintptr(f), uintptr(shape.Rank), uintptr(unsafe.Pointer(shape.Dims))) }"
	b, err := headeraudit.ParseBindings(own)
	require.NoError(t, err)
	assert.Contains(t, strings.Join(rules.Audit(map[string]headeraudit.Headers{"R": parseHeaders(header)}, b), "\n"), "straddles")
}
