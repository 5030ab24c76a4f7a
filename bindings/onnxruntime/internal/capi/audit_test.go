package capi_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/headeraudit"
	"genfn/bindings/onnxruntime/internal/capi"
)

var rules = headeraudit.Rules{
	Types: map[string]string{
		"size_t": "Size", "int64_t": "int64", "int": "int32", "char": "byte", "void": "", "void*": "Address",
		"OrtStatus*": "Status", "OrtEnv*": "Env", "OrtSession*": "Session", "OrtSessionOptions*": "SessionOptions", "OrtRunOptions*": "RunOptions",
		"OrtValue*": "Value", "OrtMemoryInfo*": "MemoryInfo", "OrtIoBinding*": "IoBinding", "OrtTypeInfo*": "TypeInfo",
		"OrtTensorTypeAndShapeInfo*": "TensorInfo", "OrtAllocator*": "Allocator", "OrtCUDAProviderOptionsV2*": "CUDAProviderOptions",
		"OrtErrorCode": "ErrorCode", "OrtLoggingLevel": "LoggingLevel", "GraphOptimizationLevel": "GraphOptimizationLevel",
		"ONNXTensorElementDataType": "ElementType", "OrtAllocatorType": "AllocatorType", "OrtMemType": "MemType",
	},
	Underlying: map[string]string{
		"Size": "uintptr", "Address": "uintptr", "Status": "uintptr", "Env": "uintptr", "Session": "uintptr", "SessionOptions": "uintptr", "RunOptions": "uintptr",
		"Value": "uintptr", "MemoryInfo": "uintptr", "IoBinding": "uintptr", "TypeInfo": "uintptr", "TensorInfo": "uintptr", "Allocator": "uintptr", "CUDAProviderOptions": "uintptr",
		"ErrorCode": "uint32", "LoggingLevel": "uint32", "GraphOptimizationLevel": "uint32", "ElementType": "uint32", "AllocatorType": "int32", "MemType": "int32",
	},
}

var (
	function = regexp.MustCompile(`(?m)^ *([\w ]+?[\w*]) *\b([A-Z]\w*)\(([^;{}()]*)\);`)
	numbered = regexp.MustCompile(`(?m)^/\* (\d+) \*/.*?\b(\w+)\(`)
)

func read(t *testing.T, names ...string) string {
	t.Helper()
	var all []string
	for _, name := range names {
		b, err := os.ReadFile(filepath.FromSlash(name))
		require.NoError(t, err)
		all = append(all, string(b))
	}
	return strings.Join(all, "\x00")
}

// audit compares the prototypes with the sources, which are separated by NUL.
func audit(t *testing.T, prototypes, own string) []string {
	t.Helper()
	b, err := headeraudit.ParseBindings(strings.Split(own, "\x00")...)
	require.NoError(t, err)
	return rules.Audit(map[string]headeraudit.Headers{"1.31": headeraudit.ParseHeaders(prototypes, function)}, b)
}

const prototypes = "testdata/prototypes.h"

var sources = []string{"table.go", "types.go", "calls.go"}

func TestPrototypesAgree(t *testing.T) {
	assert.Empty(t, audit(t, read(t, prototypes), read(t, sources...)))
}

func TestSlotsAgree(t *testing.T) {
	slots := map[string]string{}
	for _, m := range numbered.FindAllStringSubmatch(read(t, prototypes), -1) {
		slots[m[2]] = m[1]
	}
	table := reflect.TypeFor[capi.Table]()
	require.Equal(t, len(slots), table.NumField(), "each function once")
	for i := range table.NumField() {
		tag := table.Field(i).Tag
		assert.Equal(t, slots[tag.Get("sym")], tag.Get("slot"), tag.Get("sym"))
	}
}

func TestAuditFindsPlantedDefects(t *testing.T) {
	header, own := read(t, prototypes), read(t, sources...)
	for name, c := range map[string]struct{ old, planted, finding string }{
		"argument left out": {"uintptr(session), uintptr(runOptions), uintptr(bindingPtr)", "uintptr(session), uintptr(bindingPtr)", "RunWithBinding (1.31): call passes ("},
		"int for size_t":    {"pDataLen Size", "pDataLen int32", "CreateTensorWithDataAsOrtValue (1.31): parameter 3 is int32 in Go, size_t in C"},
		"other function":    {"purego.SyscallN(a.Table.ReleaseValue,", "purego.SyscallN(a.Table.ReleaseSession,", `ReleaseValue (1.31): method calls "ReleaseSession"`},
		"status dropped":    {"RunOptionsSetTerminate(options RunOptions) Status {", "RunOptionsSetTerminate(options RunOptions) {", `RunOptionsSetTerminate (1.31): method returns "" for OrtStatus*`},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, own, c.old, "nothing to plant the defect in")
			findings := audit(t, header, strings.ReplaceAll(own, c.old, c.planted))
			assert.Contains(t, strings.Join(findings, "\n"), c.finding)
		})
	}
}
