package cuda_test

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/cuda/cudatest"
	"genfn/bindings/headeraudit"
)

// layer is a raw layer with the headers it is compared with.
type layer struct {
	headers []string
	symbols int
	rules   headeraudit.Rules
}

var layers = map[string]layer{
	"cudart": {[]string{"cuda_runtime_api.h", "driver_types.h", "vector_types.h"}, 37, headeraudit.Rules{
		Types: map[string]string{
			"size_t": "Size", "int": "int32", "unsigned int": "uint32", "float": "float32", "char": "byte", "void": "", "void*": "Address",
			"cudaError_t": "Status", "cudaStream_t": "Stream", "cudaEvent_t": "Event", "cudaMemPool_t": "MemPool", "cudaLibrary_t": "Library", "cudaKernel_t": "Kernel",
			"enum cudaDeviceAttr": "DeviceAttr", "enum cudaMemcpyKind": "MemcpyKind", "enum cudaMemPoolAttr": "MemPoolAttr",
			"enum cudaJitOption": "JitOption", "enum cudaLibraryOption": "LibraryOption",
			"dim3": "Dim3", "cudaLaunchConfig_t": "LaunchConfig", "cudaLaunchAttribute*": "Address",
		},
		Underlying: map[string]string{
			"Size": "uintptr", "Address": "uintptr", "Status": "int32", "Stream": "uintptr", "Event": "uintptr", "MemPool": "uintptr", "Library": "uintptr", "Kernel": "uintptr",
			"DeviceAttr": "uint32", "MemcpyKind": "uint32", "MemPoolAttr": "uint32", "JitOption": "uint32", "LibraryOption": "uint32",
		},
		Prefix: "cuda",
	}},
	"driver": {[]string{"cuda.h"}, 10, headeraudit.Rules{
		Types: map[string]string{
			"int": "int32", "unsigned int": "uint32", "char": "byte", "char[16]": "[16]byte", "void*": "Address",
			"CUresult": "Status", "CUdevice": "Device", "CUmodule": "Module", "CUfunction": "Function", "CUstream": "Stream", "CUuuid": "UUID",
		},
		Underlying: map[string]string{"Address": "uintptr", "Status": "int32", "Device": "int32", "Module": "uintptr", "Function": "uintptr", "Stream": "uintptr"},
		Prefix:     "cu",
	}},
	"nvrtc": {[]string{"nvrtc.h"}, 13, headeraudit.Rules{
		Types:      map[string]string{"size_t": "Size", "int": "int32", "char": "byte", "nvrtcResult": "Status", "nvrtcProgram": "Program"},
		Underlying: map[string]string{"Size": "uintptr", "Status": "int32", "Program": "uintptr"},
		Prefix:     "nvrtc",
	}},
}

var (
	function = regexp.MustCompile(`(?m)^ *([\w ]+?[\w*]) *\b((?:cuda|cu|nvrtc)[A-Z]\w*)\(([^;{}()]*)\)\s*;`)
	// noise are CUDA's words that change nothing for a caller in C.
	noise = regexp.MustCompile(`\b(extern|__host__|__cudart_builtin__|__device_builtin__|CUDARTAPI|CUDAAPI)\b|__dv\(\w+\)`)
	// renamed are functions that a header declares under a name which it defines as another: line 13 declares
	// cuDeviceGetUuid, and means the symbol cuDeviceGetUuid_v2.
	renamed = regexp.MustCompile(`(?m)^#define (cu\w+) +(cu\w+_v\d)\b`)
	result  = regexp.MustCompile(`\bCUresult +(\w+)\(`)
	// vector is dim3, the one struct that is no typedef.
	vector = regexp.MustCompile(`struct +dim3\s*\{\s*([^;]*;)[^}]*`)
)

// parsedHeaders are headersOf, read once: they are long.
func parsedHeaders(t *testing.T, name string, line int) headeraudit.Headers {
	t.Helper()
	key := fmt.Sprint(name, line)
	if known, ok := parsed.Load(key); ok {
		return known.(headeraudit.Headers)
	}
	h := headeraudit.ParseHeaders(headersOf(t, layers[name], line), function)
	parsed.Store(key, h)
	return h
}

var parsed sync.Map

// headersOf are the headers of a layer in one line of CUDA, in the C that the audit reads.
func headersOf(t *testing.T, l layer, line int) string {
	t.Helper()
	var all strings.Builder
	for _, name := range l.headers {
		text, err := os.ReadFile(filepath.Join(cudatest.Installed(t, line), "include", name))
		require.NoError(t, err)
		writeCode(&all, string(text))
	}
	text := noise.ReplaceAllString(all.String(), "")
	names := map[string]string{}
	for _, m := range renamed.FindAllStringSubmatch(text, -1) {
		names[m[1]] = m[2]
	}
	text = result.ReplaceAllStringFunc(text, func(declaration string) string {
		name := result.FindStringSubmatch(declaration)[1]
		return "CUresult " + cmp.Or(names[name], name) + "("
	})
	text = regexp.MustCompile(`typedef +struct +(\w+) *\{`).ReplaceAllString(text, "typedef struct $1 {")
	return vector.ReplaceAllString(text, "typedef struct { $1 } dim3;\n")
}

// writeCode leaves the comments out, which are nine tenths of these headers and slow to search.
func writeCode(out *strings.Builder, text string) {
	for more := true; more; {
		var code string
		code, text, more = strings.Cut(text, "/*")
		out.WriteString(code)
		_, text, _ = strings.Cut(text, "*/")
	}
}

// rawSources are the Go files of a layer.
func rawSources(t *testing.T, name string) []string {
	t.Helper()
	var all []string
	for _, file := range []string{"table.go", "calls.go", "types.go"} {
		text, err := os.ReadFile(filepath.Join("internal", name, file))
		require.NoError(t, err)
		all = append(all, string(text))
	}
	return all
}

func TestBindingsAgreeWithHeaders(t *testing.T) {
	for name, l := range layers {
		t.Run(name, func(t *testing.T) {
			releases := map[string]headeraudit.Headers{"13.5": parsedHeaders(t, name, 13), "12.9": parsedHeaders(t, name, 12)}
			b, err := headeraudit.ParseBindings(rawSources(t, name)...)
			require.NoError(t, err)
			assert.Equal(t, l.symbols, b.Symbols())
			assert.Empty(t, l.rules.Audit(releases, b))
		})
	}
}

// TestConstantsAgreeWithHeaders: flags, attributes and error numbers.
func TestConstantsAgreeWithHeaders(t *testing.T) {
	own := rawSources(t, "cudart")
	for _, name := range []string{"device.go", "errors.go"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		own = append(own, string(text))
	}
	releases := map[string]headeraudit.Headers{"13.5": parsedHeaders(t, "cudart", 13), "12.9": parsedHeaders(t, "cudart", 12)}
	findings, known := headeraudit.AuditConstants(releases, own...)
	assert.Empty(t, findings)
	assert.Equal(t, 28, known)
	for old, wrong := range map[string]string{"38  // cudaDevAttrL2CacheSize": "39  // cudaDevAttrL2CacheSize", "1 // cudaStreamNonBlocking": "2 // cudaStreamNonBlocking"} {
		text := strings.Join(own, "\n")
		require.Contains(t, text, old, "nothing to plant the defect in")
		findings, _ = headeraudit.AuditConstants(releases, strings.ReplaceAll(text, old, wrong))
		assert.Len(t, findings, 2, "in both lines")
	}
}

// TestAuditFindsPlantedDefects changes the headers or the bindings and expects the audit to tell.
func TestAuditFindsPlantedDefects(t *testing.T) {
	for name, c := range map[string]struct {
		layer, in string // header or own
		old, new  string
		finding   string
	}{
		"missing symbol":         {"cudart", "header", "cudaMemGetInfo(", "cudaMemoryInfo(", "cudaMemGetInfo: not in the headers"},
		"parameter added":        {"cudart", "header", "cudaFree(void *devPtr)", "cudaFree(void *devPtr, int when)", "cudaFree (R): method takes 1 parameters, the function 2"},
		"integer for a pointer":  {"cudart", "header", "cudaFreeHost(void *ptr)", "cudaFreeHost(size_t ptr)", "cudaFreeHost (R): parameter 1 is Address in Go, size_t in C"},
		"float for an integer":   {"cudart", "header", "cudaSetDevice(int device)", "cudaSetDevice(float device)", "cudaSetDevice (R): parameter 1 is int32 in Go, float in C"},
		"other handle":           {"cudart", "header", "cudaStreamDestroy(cudaStream_t stream)", "cudaStreamDestroy(cudaEvent_t stream)", "cudaStreamDestroy (R): parameter 1 is Stream in Go"},
		"struct by value":        {"cudart", "header", "cudaLaunchKernelExC(const cudaLaunchConfig_t *config", "cudaLaunchKernelExC(const cudaLaunchConfig_t config", "cudaLaunchKernelExC (R): parameter 1 is *LaunchConfig in Go"},
		"struct field":           {"cudart", "header", "size_t dynamicSmemBytes;", "unsigned int dynamicSmemBytes;", "struct LaunchConfig has (Dim3, Dim3, Size,"},
		"another dimension":      {"cudart", "header", "unsigned int x, y, z;", "unsigned int x, y;", "struct Dim3 has (uint32, uint32, uint32) in Go, (unsigned int, unsigned int) in C"},
		"int for size_t":         {"cudart", "own", "type Size uintptr", "type Size int32", "type Size is int32, not uintptr"},
		"arguments swapped":      {"cudart", "own", "a.Table.MemcpyAsync, uintptr(dst), uintptr(src)", "a.Table.MemcpyAsync, uintptr(src), uintptr(dst)", "cudaMemcpyAsync (R): call passes ("},
		"argument left out":      {"cudart", "own", "a.Table.EventRecord, uintptr(event), uintptr(stream)", "a.Table.EventRecord, uintptr(event)", "cudaEventRecord (R): call passes ("},
		"other function":         {"cudart", "own", "SyscallN(a.Table.EventQuery", "SyscallN(a.Table.EventSynchronize", `cudaEventQuery (R): method calls "EventSynchronize"`},
		"wrong comment":          {"cudart", "own", "// cudaError_t cudaFree(void *devPtr);", "// cudaError_t cudaFree(int devPtr);", "cudaFree (R): prototype in the comment"},
		"renamed symbol":         {"driver", "own", "cuDeviceGetUuid_v2", "cuDeviceGetUuid_v9", "cuDeviceGetUuid_v9: not in the headers"},
		"width of a dimension":   {"driver", "own", "blockDimZ, sharedMemBytes uint32", "blockDimZ, sharedMemBytes uint64", "cuLaunchKernel (R): parameter 2 is uint64 in Go, unsigned int in C"},
		"result":                 {"driver", "own", "func (a *API) Init(flags uint32) Status", "func (a *API) Init(flags uint32) int64", `cuInit (R): method returns "int64"`},
		"handle for its address": {"nvrtc", "own", "DestroyProgram(prog *Program)", "DestroyProgram(prog Program)", "nvrtcDestroyProgram (R): parameter 1 is Program in Go, nvrtcProgram* in C"},
		"string for a list":      {"nvrtc", "header", "const char * const *options", "const char *options", "nvrtcCompileProgram (R): parameter 3 is **byte in Go, char* in C"},
	} {
		t.Run(name, func(t *testing.T) {
			l := layers[c.layer]
			own := strings.Join(rawSources(t, c.layer), "\x00")
			var h headeraudit.Headers
			plant := func(text string) string {
				require.Contains(t, text, c.old, "nothing to plant the defect in")
				return strings.ReplaceAll(text, c.old, c.new)
			}
			if c.in == "own" {
				own, h = plant(own), parsedHeaders(t, c.layer, 13)
			} else {
				h = headeraudit.ParseHeaders(plant(headersOf(t, l, 13)), function)
			}
			b, err := headeraudit.ParseBindings(strings.Split(own, "\x00")...)
			require.NoError(t, err)
			findings := l.rules.Audit(map[string]headeraudit.Headers{"R": h}, b)
			assert.Contains(t, strings.Join(findings, "\n"), c.finding)
		})
	}
}
