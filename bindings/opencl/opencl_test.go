package opencl

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/dynlib"
	"genfn/bindings/opencl/internal/capi"
)

// fakeOpenCL is a loader with two platforms: one without a GPU, one with two GPUs of which the second tells only its
// name and driver.
const fakeOpenCL = `
#include <stdint.h>
#include <string.h>
typedef int32_t cl_int; typedef uint32_t cl_uint; typedef uint64_t cl_ulong;
static int say(const void *v, size_t n, size_t size, void *out, size_t *ret) {
	if (ret) *ret = n;
	if (out) { if (size < n) return -30; memcpy(out, v, n); }
	return 0;
}
cl_int clGetPlatformIDs(cl_uint n, uintptr_t *p, cl_uint *count) {
	if (FAIL_PLATFORMS) return FAIL_PLATFORMS;
	if (count) *count = 2;
	for (cl_uint i = 0; p && i < n && i < 2; i++) p[i] = 10 + i;
	return 0;
}
cl_int clGetDeviceIDs(uintptr_t platform, cl_ulong type, cl_uint n, uintptr_t *d, cl_uint *count) {
	if (type != 4) return -31;
	if (platform == 10) return -1;
	if (platform != 11) return -32;
	if (count) *count = 2;
	for (cl_uint i = 0; d && i < n && i < 2; i++) d[i] = 20 + i;
	return 0;
}
cl_int clGetDeviceInfo(uintptr_t d, cl_uint what, size_t size, void *out, size_t *ret) {
	cl_ulong memory = 8ull << 30, most = 4ull << 30; cl_uint yes = 1, place[4] = {0, 3, 0, 1};
	uint8_t uuid[16] = {0x86, 0x80, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14};
	if (what == 0x102B) return d == 20 ? say("Arc ", 5, size, out, ret) : say("Flex", 5, size, out, ret);
	if (what == 0x102D) return d == 20 ? say("24.35.1", 8, size, out, ret) : say("9", 2, size, out, ret);
	if (d != 20) return -30;
	if (what == 0x101F) return say(&memory, 8, size, out, ret);
	if (what == 0x1010) return say(&most, 8, size, out, ret);
	if (what == 0x1035) return say(&yes, 4, size, out, ret);
	if (what == 0x106A) return say(uuid, 16, size, out, ret);
	if (what == 0x410F) return say(place, 16, size, out, ret);
	if (what == 0x102F) return say("OpenCL 3.0", 11, size, out, ret);
	return -30;
}
`

func fake(t *testing.T, failPlatforms string) *capi.API {
	t.Helper()
	source, library := filepath.Join(t.TempDir(), "cl.c"), filepath.Join(t.TempDir(), "libfakecl.so")
	require.NoError(t, os.WriteFile(source, []byte(fakeOpenCL), 0o600))
	out, err := exec.CommandContext(t.Context(), "gcc", "-shared", "-fPIC", "-DFAIL_PLATFORMS="+failPlatforms, "-o", library, source).CombinedOutput()
	require.NoError(t, err, string(out))
	l, err := dynlib.Open("a fake OpenCL", []string{library})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	api := new(capi.API)
	require.NoError(t, l.Bind(&api.Table))
	return api
}

func TestGPUs(t *testing.T) {
	list, err := gpus(fake(t, "0"))
	require.NoError(t, err)
	require.Equal(t, []Device{
		{Name: "Arc", DriverVersion: "24.35.1", Version: "OpenCL 3.0", GlobalMemory: 8 << 30, MaxAllocation: 4 << 30, HostUnified: true,
			UUID: "8680010203040506" + "0708090a0b0c0d0e", PCI: "0000:03:00.1"},
		{Name: "Flex", DriverVersion: "9"},
	}, list)
}

func TestNoDriverIsNoError(t *testing.T) {
	list, err := gpus(fake(t, "-1001"))
	require.NoError(t, err)
	require.Empty(t, list)
	_, err = gpus(fake(t, "-6"))
	require.ErrorContains(t, err, "clGetPlatformIDs failed with -6")
}

func TestMatch(t *testing.T) {
	list := []Device{
		{Name: "Arc A770", UUID: "aa", PCI: "0000:03:00.0", DriverVersion: "1"},
		{Name: "Arc A770", UUID: "bb", PCI: "0000:04:00.0", DriverVersion: "2"},
		{Name: "UHD", LUID: "cc", DriverVersion: "3"},
	}
	for name, c := range map[string]struct {
		wanted       Wanted
		version, how string
	}{
		"uuid":                {Wanted{UUID: "bb", Name: "UHD"}, "2", "UUID"},
		"luid":                {Wanted{UUID: "zz", LUID: "cc"}, "3", "LUID"},
		"pci":                 {Wanted{PCI: "0000:03:00.0"}, "1", "PCI address"},
		"name that one has":   {Wanted{Name: "UHD (iGPU)"}, "3", "name"},
		"order":               {Wanted{Name: "Arc A770 (dGPU)", Ordinal: 1, Ordinals: 3}, "2", "order"},
		"two of a name":       {Wanted{Name: "Arc A770", Ordinal: 1, Ordinals: 2}, "", ""},
		"nothing is known":    {Wanted{}, "", ""},
		"beyond the list":     {Wanted{Ordinal: 3, Ordinals: 3}, "", ""},
		"not a GPU of a list": {Wanted{Ordinal: -1, Ordinals: 3}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d, how, ok := Match(list, c.wanted)
			assert.Equal(t, c.version != "", ok)
			assert.Equal(t, c.version, d.DriverVersion)
			assert.Equal(t, c.how, how)
		})
	}
}
