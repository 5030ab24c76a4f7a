package cuda

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"genfn/bindings/cuda/internal/cudart"
	"genfn/bindings/cuda/internal/driver"
	"genfn/bindings/dynlib"
)

// driverNames are where the driver's library is looked for.
var driverNames = []string{"libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1"}

// openDriver loads the driver's library and starts it.
func (r *Runtime) openDriver(path string) error {
	names := driverNames
	if path != "" {
		names = []string{path}
	}
	library, err := dynlib.Open("the NVIDIA driver's library libcuda", names)
	if err != nil {
		return fmt.Errorf("cuda: %w", withRemedy(err))
	}
	if err := library.Bind(&r.driver.Table); err != nil {
		return errors.Join(fmt.Errorf("cuda: %w", err), library.Close())
	}
	version := new(int32)
	if err := r.driverCall("get driver version", func(a *driver.API) driver.Status { return a.DriverGetVersion(version) }); err != nil {
		return err
	}
	r.driverVersion = Version(*version)
	return nil // the library stays loaded
}

// driverCall makes a call of the driver that depends on no device.
func (r *Runtime) driverCall(op string, f func(a *driver.API) driver.Status) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return r.driverFailure(op, f(&r.driver))
}

// driverFailure makes the error of a driver's status; nil for success. Its words are the runtime library's, which has
// the same numbers.
func (r *Runtime) driverFailure(op string, code driver.Status) error {
	if code == 0 {
		return nil
	}
	if r.api.Table.GetErrorName == 0 { // the runtime library is loaded after the driver's
		return &Error{Op: op, Code: int(code), Name: "CUresult", Text: "the NVIDIA driver failed"}
	}
	return failure(&r.api, op, cudart.Status(code))
}

// Identity is what the driver says of a device, without a context on it.
type Identity struct {
	Name string // "NVIDIA H100 80GB HBM3"
	UUID string // 32 lower-case hexadecimal digits; of a MIG device its own
}

// Identify asks the driver who a device is. The ordinals are those of DeviceCount.
func (r *Runtime) Identify(ordinal int) (id Identity, err error) {
	if err := r.use(); err != nil {
		return id, err
	}
	if err := r.driverCall("start the driver", func(a *driver.API) driver.Status { return a.Init(0) }); err != nil {
		return id, err
	}
	device := new(driver.Device)
	if err := r.driverCall(fmt.Sprintf("get device %d", ordinal), func(a *driver.API) driver.Status {
		return a.DeviceGet(device, int32(ordinal)) //nolint:gosec // a small number, or refused
	}); err != nil {
		return id, err
	}
	name, uuid := make([]byte, 256), new(driver.UUID)
	if err := r.driverCall("get device name", func(a *driver.API) driver.Status {
		return a.DeviceGetName(&name[0], int32(len(name)), *device)
	}); err != nil {
		return id, err
	}
	if err := r.driverCall("get device UUID", func(a *driver.API) driver.Status { return a.DeviceGetUUIDV2(uuid, *device) }); err != nil {
		return id, err
	}
	text, _, _ := strings.Cut(string(name), "\x00")
	return Identity{Name: text, UUID: hex.EncodeToString(uuid.Bytes[:])}, nil
}

// KernelDriver returns the version of NVIDIA's kernel module, "570.86.10", as people name a driver; "" if the system
// does not tell.
func KernelDriver() string {
	text, err := os.ReadFile("/sys/module/nvidia/version")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
