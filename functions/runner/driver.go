package runner

import (
	"fmt"
	"slices"
	"strings"

	"genfn/bindings/opencl"
	"genfn/events"
	"genfn/functions/runner/protocol"
)

// properties reads a property of a device.
type properties func(device, key string) (string, error)

// driverOf asks OpenCL for the driver of a GPU, which OpenVINO's C API does not tell; nil for other devices. A
// driver that cannot be found out is no error: Why tells the reason.
func driverOf(property properties, device string) *protocol.Driver {
	if events.ClassOf(device) != events.DeviceGPU {
		return nil
	}
	list, err := opencl.GPUs()
	if err != nil {
		return &protocol.Driver{Why: err.Error()}
	}
	wanted := wantedGPU(property, device)
	d, how, ok := opencl.Match(list, wanted)
	if !ok {
		return &protocol.Driver{Why: fmt.Sprintf("none of the %d GPUs that OpenCL lists is known to be %s", len(list), wanted.Name)}
	}
	return &protocol.Driver{
		Version: d.DriverVersion, OpenCL: d.Version, Vendor: d.Vendor, Name: d.Name, UUID: d.UUID, PCI: d.PCI, MatchedBy: how,
		Memory: d.GlobalMemory, MaxAllocation: d.MaxAllocation, Unified: d.HostUnified,
	}
}

// wantedGPU is what OpenVINO says of a GPU that OpenCL says too.
func wantedGPU(property properties, device string) opencl.Wanted {
	told := func(key string) string {
		value, err := property(device, key)
		if err != nil || strings.Trim(value, "0") == "" { // not supported, or of zeros only, which name nothing
			return ""
		}
		return strings.ToLower(value)
	}
	w := opencl.Wanted{UUID: told("DEVICE_UUID"), LUID: told("DEVICE_LUID"), PCI: pciAddress(told("DEVICE_PCI_INFO"))}
	w.Name, _ = property(device, "FULL_DEVICE_NAME") // validation has asked it already
	_, number, ok := strings.Cut(device, ".")
	if !ok {
		number = "0" // GPU is a name of GPU.0
	}
	all := strings.Fields(told("AVAILABLE_DEVICES"))
	if len(all) == 0 {
		all = []string{"0"} // told takes the only one for nothing
	}
	w.Ordinal, w.Ordinals = slices.Index(all, number), len(all)
	return w
}

// pciAddress reads "{domain: 0 bus: 3 device: 0x0 function: 0}"; "" for what is no address.
func pciAddress(text string) string {
	var domain, bus, device, function uint
	if _, err := fmt.Sscanf(text, "{domain: %d bus: %d device: 0x%x function: %d}", &domain, &bus, &device, &function); err != nil {
		return ""
	}
	if domain == 0 && bus == 0 && device == 0 && function == 0 { // the host bridge of every machine
		return ""
	}
	return fmt.Sprintf("%04x:%02x:%02x.%x", domain, bus, device, function)
}

// describeDriver puts what is known of a device and its driver on a line.
func describeDriver(property properties, device, name string, driver *protocol.Driver) string {
	words := []string{name}
	switch {
	case driver == nil:
	case driver.Version == "":
		words = append(words, "driver version unknown: "+driver.Why)
	default:
		words = append(words, strings.TrimSpace(driver.Vendor+" driver ")+" "+driver.Version, driver.OpenCL)
	}
	for _, key := range []string{"DEVICE_ARCHITECTURE", "GPU_UARCH_VERSION"} {
		if value, err := property(device, key); err == nil {
			words = append(words, value)
		}
	}
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), ", ")
}
