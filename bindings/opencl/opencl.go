// Package opencl asks OpenCL what it knows of GPUs: their driver's version above all, which OpenVINO's C API does not
// tell. It computes nothing.
//
// These details have caused bugs:
//   - The loader, libOpenCL, stays in the process once it is open: it has loaded drivers, whose threads may run.
//   - A platform without a GPU answers CL_DEVICE_NOT_FOUND, and a loader without a platform -1001: neither is a failure.
//   - Several platforms may show the same GPU, such as two installed releases of its driver.
package opencl

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"genfn/bindings/dynlib"
	"genfn/bindings/opencl/internal/capi"
)

// Device is what OpenCL says of a GPU. What a driver does not tell is empty or 0.
type Device struct {
	Name          string
	Vendor        string
	DriverVersion string // CL_DRIVER_VERSION, in the vendor's own form: "24.35.30872.22"
	Version       string // CL_DEVICE_VERSION: "OpenCL 3.0 NEO"
	GlobalMemory  int64  // bytes
	MaxAllocation int64  // bytes
	HostUnified   bool   // its memory is the host's
	UUID          string // of the device: 32 lower-case hexadecimal digits
	LUID          string // 16 of them, on Windows only
	PCI           string // "0000:03:00.0"
}

// names of the loader, in the order they are tried.
var names = []string{"libOpenCL.so.1", "libOpenCL.so"}

var load = sync.OnceValues(func() (*capi.API, error) {
	library, err := dynlib.Open("the OpenCL loader", names)
	if err != nil {
		return nil, err
	}
	api := new(capi.API)
	if err := library.Bind(&api.Table); err != nil {
		return nil, errors.Join(err, library.Close())
	}
	return api, nil
})

// Error is a status of OpenCL that is a failure.
type Error struct {
	Op     string // the function
	Status int    // cl_int
}

func (e *Error) Error() string { return fmt.Sprintf("opencl: %s failed with %d", e.Op, e.Status) }

func check(op string, status capi.Int) error {
	if status == capi.Success {
		return nil
	}
	return &Error{op, int(status)}
}

// GPUs lists the GPUs of all platforms. Without the loader the error is a *dynlib.NotFoundError; without a driver or a
// GPU the list is empty. A driver that crashes or hangs takes the process with it: ask in one that may die.
func GPUs() ([]Device, error) {
	api, err := load()
	if err != nil {
		return nil, err
	}
	return gpus(api)
}

func gpus(api *capi.API) (list []Device, err error) {
	var count capi.Uint
	status := api.GetPlatformIDs(0, nil, &count)
	if status == capi.PlatformNotFoundKHR || status == capi.Success && count == 0 {
		return nil, nil
	}
	platforms := make([]capi.Platform, count)
	if err := errors.Join(check("clGetPlatformIDs", status), check("clGetPlatformIDs", api.GetPlatformIDs(count, first(platforms), nil))); err != nil {
		return nil, err
	}
	var errs []error
	for _, platform := range platforms {
		found, err := devicesOf(api, platform)
		errs = append(errs, err)
		for _, d := range found {
			if !slices.ContainsFunc(list, func(o Device) bool { return d.UUID != "" && d.UUID == o.UUID }) {
				list = append(list, d)
			}
		}
	}
	if len(list) > 0 { // one driver that is broken does not hide what another knows
		return list, nil
	}
	return nil, errors.Join(errs...)
}

// first is the address of the first element, nil if there is none.
func first[T any](s []T) *T {
	if len(s) == 0 {
		return nil
	}
	return &s[0]
}

func devicesOf(api *capi.API, platform capi.Platform) ([]Device, error) {
	var count capi.Uint
	status := api.GetDeviceIDs(platform, capi.DeviceTypeGPU, 0, nil, &count)
	if status == capi.DeviceNotFound || status == capi.Success && count == 0 {
		return nil, nil
	}
	ids := make([]capi.Device, count)
	if err := errors.Join(check("clGetDeviceIDs", status), check("clGetDeviceIDs", api.GetDeviceIDs(platform, capi.DeviceTypeGPU, count, first(ids), nil))); err != nil {
		return nil, err
	}
	list := make([]Device, len(ids))
	for i, id := range ids {
		var err error
		if list[i], err = describe(api, id); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// describe asks a device everything. Only its name and its driver's version must be told.
func describe(api *capi.API, id capi.Device) (d Device, err error) {
	name, err := ask(api, id, capi.DeviceName)
	if err != nil {
		return d, err
	}
	version, err := ask(api, id, capi.DriverVersion)
	if err != nil {
		return d, err
	}
	told := func(what capi.DeviceInfo, length int) []byte { // nil: not told, or not in this form
		value, err := ask(api, id, what)
		if err != nil || length > 0 && len(value) != length {
			return nil
		}
		return value
	}
	d = Device{
		Name: text(name), DriverVersion: text(version), Vendor: text(told(capi.DeviceVendor, 0)), Version: text(told(capi.DeviceVersion, 0)),
		GlobalMemory: integer(told(capi.DeviceGlobalMemSize, 8)), MaxAllocation: integer(told(capi.DeviceMaxMemAllocSize, 8)),
		HostUnified: integer(told(capi.DeviceHostUnifiedMemory, 4)) != 0,
		UUID:        identity(told(capi.DeviceUUIDKHR, 16)), PCI: pci(told(capi.DevicePCIBusInfoKHR, 16)),
	}
	if integer(told(capi.DeviceLUIDValidKHR, 4)) != 0 {
		d.LUID = identity(told(capi.DeviceLUIDKHR, 8))
	}
	return d, nil
}

func ask(api *capi.API, id capi.Device, what capi.DeviceInfo) ([]byte, error) {
	const op = "clGetDeviceInfo"
	var size capi.Size
	if err := check(op, api.GetDeviceInfo(id, what, 0, nil, &size)); err != nil {
		return nil, err
	}
	value := make([]byte, size)
	return value, check(op, api.GetDeviceInfo(id, what, size, first(value), nil))
}

func text(value []byte) string {
	words, _, _ := strings.Cut(string(value), "\x00")
	return strings.TrimSpace(words)
}

// integer reads 4 or 8 bytes of this machine, which is little-endian.
func integer(value []byte) int64 {
	switch len(value) {
	case 4:
		return int64(binary.LittleEndian.Uint32(value))
	case 8:
		return int64(min(binary.LittleEndian.Uint64(value), 1<<63-1)) //nolint:gosec // it fits
	}
	return 0
}

// identity is a number that names a device; "" for one of zeros only, which names none.
func identity(value []byte) string {
	if !slices.ContainsFunc(value, func(b byte) bool { return b != 0 }) {
		return ""
	}
	return hex.EncodeToString(value)
}

func pci(value []byte) string {
	if len(value) != 16 {
		return ""
	}
	part := func(i int) uint32 { return binary.LittleEndian.Uint32(value[4*i:]) }
	return fmt.Sprintf("%04x:%02x:%02x.%x", part(0), part(1), part(2), part(3))
}

// Wanted is how another library names a GPU. What it does not tell is empty.
type Wanted struct {
	Name              string
	UUID, LUID, PCI   string // as in Device
	Ordinal, Ordinals int    // it is the so-many-th of so many GPUs, from 0
}

// Match finds a GPU among those that OpenCL lists, by the first that both tell: UUID, LUID, place on the PCI bus, a
// name that only one has, and at last the order, if both list as many. how says which it was; ok is false if nothing
// tells it.
func Match(list []Device, w Wanted) (d Device, how string, ok bool) {
	for _, by := range []struct {
		how    string
		wanted string
		of     func(Device) string
	}{
		{"UUID", w.UUID, func(d Device) string { return d.UUID }},
		{"LUID", w.LUID, func(d Device) string { return d.LUID }},
		{"PCI address", w.PCI, func(d Device) string { return d.PCI }},
	} {
		if d, ok := only(list, func(d Device) bool { return by.wanted != "" && by.of(d) == by.wanted }); ok {
			return d, by.how, true
		}
	}
	// OpenVINO adds "(iGPU)" or "(dGPU)" to the name.
	if d, ok := only(list, func(d Device) bool { return d.Name != "" && strings.HasPrefix(w.Name, d.Name) }); ok {
		return d, "name", true
	}
	if len(list) == w.Ordinals && w.Ordinal >= 0 && w.Ordinal < len(list) {
		return list[w.Ordinal], "order", true
	}
	return Device{}, "", false
}

// only returns the one device that fits; false if none or several do.
func only(list []Device, fits func(Device) bool) (d Device, ok bool) {
	i := slices.IndexFunc(list, fits)
	if i < 0 || slices.ContainsFunc(list[i+1:], fits) {
		return Device{}, false
	}
	return list[i], true
}
