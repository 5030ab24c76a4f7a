package nvml

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/checkout"
	"genfn/bindings/headeraudit"
	"genfn/bindings/nvml/internal/capi"
)

var rules = headeraudit.Rules{
	Types: map[string]string{
		"unsigned int": "uint32", "unsigned long long": "uint64", "char": "byte",
		"nvmlReturn_t": "Status", "nvmlDevice_t": "Device", "nvmlEventSet_t": "EventSet", "nvmlEnableState_t": "EnableState",
		"nvmlTemperatureSensors_t": "TemperatureSensor", "nvmlTemperatureThresholds_t": "TemperatureThreshold",
		"nvmlMemoryErrorType_t": "MemoryErrorType", "nvmlEccCounterType_t": "ECCCounterType", "nvmlPageRetirementCause_t": "PageRetirementCause",
		"nvmlMemory_v2_t": "Memory", "nvmlUtilization_t": "Utilization", "nvmlProcessInfo_t": "ProcessInfo", "nvmlEventData_t": "EventData",
	},
	Underlying: map[string]string{
		"Device": "uintptr", "EventSet": "uintptr", "Status": "uint32", "EnableState": "uint32", "TemperatureSensor": "uint32", "TemperatureThreshold": "uint32",
		"MemoryErrorType": "uint32", "ECCCounterType": "uint32", "PageRetirementCause": "uint32",
	},
	Prefix: "nvml",
}

var (
	function = regexp.MustCompile(`(?m)^ *([\w ]+?[\w*]) *\b(nvml[A-Z]\w*)\(([^;{}()]*)\)\s*;`)
	// noise are NVML's words that change nothing for a caller in C.
	noise = regexp.MustCompile(`\bDECLDIR\b|\bDEPRECATED\([\d.]+\)|^ *typedef +struct +\w+ +\w+;`)
	// long ends numbers.
	long = regexp.MustCompile(`\b(0x[0-9a-fA-F]+)LL\b`)
	// alias is a struct with its name on the next line, or behind a brace without a blank.
	alias = regexp.MustCompile(`typedef +struct +(\w+)\s*\{`)
)

// headersOf is the header of a line, in the C that the audit reads.
func headersOf(t *testing.T, line string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(checkout.Path(t, ".runtime", "cuda"+line), "include", "nvml.h"))
	require.NoError(t, err, "run `make cuda` first")
	text := noise.ReplaceAllString(code(string(raw)), "")
	return alias.ReplaceAllString(long.ReplaceAllString(text, "$1"), "typedef struct $1 {")
}

// code leaves the comments out, which are nine tenths of the header and slow to search.
func code(text string) string {
	var out strings.Builder
	for more := true; more; {
		var before string
		before, text, more = strings.Cut(text, "/*")
		for line := range strings.Lines(before) {
			line, _, _ = strings.Cut(line, "//")
			out.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
		_, text, _ = strings.Cut(text, "*/")
	}
	return out.String()
}

func rawSources(t *testing.T) string {
	t.Helper()
	var all []string
	for _, file := range []string{"table.go", "calls.go", "types.go"} {
		text, err := os.ReadFile(filepath.Join("internal", "capi", file))
		require.NoError(t, err)
		all = append(all, string(text))
	}
	return strings.Join(all, "\x00")
}

func audit(t *testing.T, releases map[string]headeraudit.Headers, own string) []string {
	t.Helper()
	b, err := headeraudit.ParseBindings(strings.Split(own, "\x00")...)
	require.NoError(t, err)
	require.Equal(t, 27, b.Symbols())
	return rules.Audit(releases, b)
}

func TestBindingsAgreeWithHeaders(t *testing.T) {
	releases := map[string]headeraudit.Headers{}
	for _, line := range []string{"12", "13"} {
		releases[line] = headeraudit.ParseHeaders(headersOf(t, line), function)
	}
	assert.Empty(t, audit(t, releases, rawSources(t)))

	own := []string{rawSources(t)}
	for _, name := range []string{"device.go", "ecc.go", "events.go"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		own = append(own, string(text))
	}
	findings, known := headeraudit.AuditConstants(releases, own...)
	assert.Empty(t, findings)
	assert.Equal(t, 22, known)
	assert.Equal(t, uintptr(capi.MemoryVersion&0xffffff), unsafe.Sizeof(capi.Memory{}), "NVML_STRUCT_VERSION")
}

// TestAuditFindsPlantedDefects changes the header or the bindings and expects the audit to tell.
func TestAuditFindsPlantedDefects(t *testing.T) {
	header, sources := headersOf(t, "13"), rawSources(t)
	planted := header
	well := headeraudit.ParseHeaders(header, function)
	var wanted []string
	for _, c := range []struct{ old, new, finding string }{
		{"nvmlDeviceGetPowerUsage(", "nvmlDeviceGetPower(", "nvmlDeviceGetPowerUsage: not in the headers"},
		{"nvmlEventSetFree(nvmlEventSet_t set)", "nvmlEventSetFree(nvmlEventSet_t set, int when)", "method takes 1 parameters, the function 2"},
		{"unsigned long long *clocksThrottleReasons", "unsigned int *clocksThrottleReasons", "parameter 2 is *uint64 in Go, unsigned int* in C"},
		{"unsigned long long reserved;", "unsigned int reserved;", "struct Memory has (uint32, uint64"},
	} {
		require.Contains(t, planted, c.old, "nothing to plant the defect in")
		planted = strings.ReplaceAll(planted, c.old, c.new)
		wanted = append(wanted, c.finding)
	}
	findings := strings.Join(audit(t, map[string]headeraudit.Headers{"R": headeraudit.ParseHeaders(planted, function)}, sources), "\n")
	for _, finding := range wanted {
		assert.Contains(t, findings, finding)
	}
	for _, c := range []struct{ old, new, finding string }{
		{"uintptr(eventTypes), uintptr(set)", "uintptr(set), uintptr(eventTypes)", "nvmlDeviceRegisterEvents (R): call passes ("},
		{"SyscallN(a.Table.Shutdown", "SyscallN(a.Table.InitV2", `nvmlShutdown (R): method calls "InitV2"`},
		{"nvmlDeviceGetCount_v2", "nvmlDeviceGetCount_v1", "nvmlDeviceGetCount_v1: not in the headers"},
		{"EventSet uintptr", "EventSet uint32", "type EventSet is uint32, not uintptr"},
	} {
		require.Contains(t, sources, c.old, "nothing to plant the defect in")
		findings := audit(t, map[string]headeraudit.Headers{"R": well}, strings.ReplaceAll(sources, c.old, c.new))
		assert.Contains(t, strings.Join(findings, "\n"), c.finding)
	}
}
