package capi_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// goTypes are the Go types that stand for C types.
var goTypes = map[string]string{
	"cl_int": "Int", "cl_uint": "Uint", "size_t": "Size", "cl_device_type": "DeviceType", "cl_device_info": "DeviceInfo",
	"cl_platform_id": "Platform", "cl_device_id": "Device",
	"cl_uint*": "*Uint", "size_t*": "*Size", "cl_platform_id*": "*Platform", "cl_device_id*": "*Device", "void*": "*byte",
}

// underlying are what those types are made of, so that each has the width it has in C.
var underlying = map[string]string{
	"Int": "int32", "Uint": "uint32", "Size": "uintptr", "DeviceType": "uint64", "DeviceInfo": "uint32", "Platform": "uintptr", "Device": "uintptr",
}

var (
	cComment  = regexp.MustCompile(`(?s)/\*.*?\*/`)
	spaces    = regexp.MustCompile(`\s+`)
	goField   = regexp.MustCompile("(?s)((?:\t// ?[^\n]*\n)+)\t\\w+ +uintptr `sym:\"(\\w+)\"`")
	goMethod  = regexp.MustCompile(`(?s)func \(a \*API\) (\w+)\(([^)]*)\) (\w+) \{\n\s*r1, _, _ := purego\.SyscallN\(a\.Table\.(\w+), (.*?)\)\n\treturn (\w+)\(int32\(r1\)\)`)
	goNamed   = regexp.MustCompile(`(?m)^\t\w+ +\w+ = ([^/]+?) +// (CL_\w+)`)
	goType    = regexp.MustCompile(`(?m)^\t(\w+) (u?int32|uint64|uintptr)$`)
	cConstant = regexp.MustCompile(`(?m)^#define (CL_\w+)\s+(\(?[-0-9x][^/\n]*?\)?)\s*(?:/\*.*)?$`)
)

// prototype returns "result name(type, type)" of a C function in the headers or in a comment, "" if it is not there.
func prototype(source, name string) string {
	source = spaces.ReplaceAllString(cComment.ReplaceAllString(source, ""), " ")
	for _, noise := range []string{"extern ", "CL_API_ENTRY ", "CL_API_CALL "} {
		source = strings.ReplaceAll(source, noise, "")
	}
	m := regexp.MustCompile(`(\w+) ` + name + `\(([^)]*)\)`).FindStringSubmatch(source)
	if m == nil {
		return ""
	}
	var params []string
	for param := range strings.SplitSeq(m[2], ",") {
		words := strings.Fields(strings.ReplaceAll(param, "*", " * "))
		params = append(params, strings.Join(words[:len(words)-1], ""))
	}
	return m[1] + " " + name + "(" + strings.Join(params, ", ") + ")"
}

// number reads an integer as C or Go writes it: 0x1010, -1, (1 << 2).
func number(text string) (int64, error) {
	text = strings.Trim(text, "() ")
	if one, shift, ok := strings.Cut(text, "<<"); ok {
		n, err := strconv.ParseInt(strings.TrimSpace(one), 0, 64)
		if err != nil {
			return 0, err
		}
		by, err := strconv.ParseUint(strings.TrimSpace(shift), 0, 6)
		return n << by, err
	}
	return strconv.ParseInt(text, 0, 64)
}

// audit lists where the bindings and the headers disagree, and how many functions and constants it has compared.
func audit(headers, own string) (findings []string, functions, constants int) {
	complain := func(format string, args ...any) { findings = append(findings, fmt.Sprintf(format, args...)) }
	for _, m := range goType.FindAllStringSubmatch(own, -1) {
		if want := underlying[m[1]]; m[2] != want {
			complain("type %s is %s, expected %s", m[1], m[2], want)
		}
	}
	commented := map[string]string{}
	for _, m := range goField.FindAllStringSubmatch(own, -1) {
		commented[m[2]] = prototype(strings.ReplaceAll(m[1], "//", ""), m[2])
	}
	for _, m := range goMethod.FindAllStringSubmatch(own, -1) {
		functions++
		name := "cl" + m[1]
		want := prototype(headers, name)
		if want == "" || commented[name] != want {
			complain("%s: the comment has %q, the headers %q", name, commented[name], want)
		}
		if got := name + methodTypes(m[2]) + " " + m[3]; got != expectedMethod(want) {
			complain("%s: the method is %s, expected %s", name, got, expectedMethod(want))
		}
		if m[4] != m[1] || m[5] != arguments(m[2]) || m[6] != m[3] {
			complain("%s: the call is of %s with (%s) as %s", name, m[4], m[5], m[6])
		}
	}
	known := map[string]string{}
	for _, m := range cConstant.FindAllStringSubmatch(headers, -1) {
		known[m[1]] = m[2]
	}
	for _, m := range goNamed.FindAllStringSubmatch(own, -1) {
		constants++
		got, err := number(m[1])
		want, wantErr := number(known[m[2]])
		if err != nil || wantErr != nil || got != want {
			complain("%s is %s, in the headers %q", m[2], m[1], known[m[2]])
		}
	}
	return findings, functions, constants
}

// expectedMethod is how the method of a C prototype must look.
func expectedMethod(prototype string) string {
	result, rest, _ := strings.Cut(prototype, " ")
	name, params, _ := strings.Cut(strings.TrimSuffix(rest, ")"), "(")
	var out []string
	for param := range strings.SplitSeq(params, ", ") {
		out = append(out, goTypes[param])
	}
	return name + "(" + strings.Join(out, ", ") + ") " + goTypes[result]
}

func methodTypes(params string) string {
	var out []string
	for param := range strings.SplitSeq(params, ", ") {
		_, typ, _ := strings.Cut(param, " ")
		out = append(out, typ)
	}
	return "(" + strings.Join(out, ", ") + ")"
}

// arguments are the words of SyscallN that pass the parameters.
func arguments(params string) string {
	var out []string
	for param := range strings.SplitSeq(params, ", ") {
		name, typ, _ := strings.Cut(param, " ")
		if strings.HasPrefix(typ, "*") {
			name = "unsafe.Pointer(" + name + ")"
		}
		out = append(out, "uintptr("+name+")")
	}
	return strings.Join(out, ", ")
}

func sources(t *testing.T) (headers, own string) {
	t.Helper()
	folder := filepath.Join("..", "..", "..", "..", ".runtime", "vgpu", "include", "CL")
	var all strings.Builder
	for _, name := range []string{"cl.h", "cl_ext.h"} {
		text, err := os.ReadFile(filepath.Join(folder, name))
		require.NoError(t, err, "no OpenCL headers: run `make vgpu`")
		all.Write(text)
	}
	text, err := os.ReadFile("capi.go")
	require.NoError(t, err)
	return all.String(), string(text)
}

func TestBindingsAgreeWithHeaders(t *testing.T) {
	findings, functions, constants := audit(sources(t))
	assert.Empty(t, findings)
	assert.Equal(t, 3, functions)
	assert.Equal(t, 15, constants)
}

func TestAuditFindsPlantedDefects(t *testing.T) {
	headers, own := sources(t)
	for name, c := range map[string]struct{ old, new, finding string }{
		"wrong constant":     {"0x102D // CL_DRIVER_VERSION", "0x102E // CL_DRIVER_VERSION", "CL_DRIVER_VERSION is 0x102E"},
		"wrong width":        {"DeviceType uint64", "DeviceType uint32", "type DeviceType is uint32"},
		"wrong comment":      {"cl_uint num_entries, cl_platform_id * platforms", "cl_ulong num_entries, cl_platform_id * platforms", "clGetPlatformIDs: the comment has"},
		"wrong parameter":    {"numEntries Uint, platforms", "numEntries Size, platforms", "clGetPlatformIDs: the method is"},
		"arguments swapped":  {"uintptr(platform), uintptr(deviceType)", "uintptr(deviceType), uintptr(platform)", "clGetDeviceIDs: the call is of"},
		"other function":     {"SyscallN(a.Table.GetDeviceInfo", "SyscallN(a.Table.GetDeviceIDs", "clGetDeviceInfo: the call is of GetDeviceIDs"},
		"another result":     {"paramValueSizeRet *Size) Int", "paramValueSizeRet *Size) Uint", "clGetDeviceInfo: the method is"},
		"misspelt constant":  {"// CL_DEVICE_UUID_KHR", "// CL_DEVICE_UUID_XYZ", "CL_DEVICE_UUID_XYZ is 0x106A, in the headers \"\""},
		"wrong shift":        {"1 << 2 // CL_DEVICE_TYPE_GPU", "1 << 3 // CL_DEVICE_TYPE_GPU", "CL_DEVICE_TYPE_GPU is 1 << 3"},
		"argument left out":  {"uintptr(numEntries), uintptr(unsafe.Pointer(platforms)), ", "uintptr(numEntries), ", "clGetPlatformIDs: the call is of"},
		"address of pointer": {"uintptr(unsafe.Pointer(paramValue)), ", "uintptr(unsafe.Pointer(&paramValue)), ", "clGetDeviceInfo: the call is of"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, own, c.old, "nothing to plant the defect in")
			findings, _, _ := audit(headers, strings.ReplaceAll(own, c.old, c.new))
			assert.Contains(t, strings.Join(findings, "\n"), c.finding)
		})
	}
}
