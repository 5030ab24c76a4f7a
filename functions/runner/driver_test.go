package runner

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/opencl"
	"genfn/functions/runner/protocol"
)

// told is a device that has these properties.
func told(values map[string]string) properties {
	return func(_, key string) (string, error) {
		value, ok := values[key]
		if !ok {
			return "", errors.New("unsupported property")
		}
		return value, nil
	}
}

func TestGPUAsOpenCLNamesIt(t *testing.T) {
	arc := told(map[string]string{
		"FULL_DEVICE_NAME": "Arc A770 (dGPU)", "AVAILABLE_DEVICES": "0 1 2", "DEVICE_UUID": "8680A056000000000300000000000000",
		"DEVICE_LUID": "0000000000000000", "DEVICE_PCI_INFO": "{domain: 0 bus: 3 device: 0x1f function: 1}",
	})
	w := wantedGPU(arc, "GPU.2")
	require.Equal(t, opencl.Wanted{Name: "Arc A770 (dGPU)", UUID: "8680a056000000000300000000000000", PCI: "0000:03:1f.1", Ordinal: 2, Ordinals: 3}, w)
	bare := told(map[string]string{"FULL_DEVICE_NAME": "UHD", "DEVICE_PCI_INFO": "{domain: 0 bus: 0 device: 0x0 function: 0}"})
	require.Equal(t, opencl.Wanted{Name: "UHD", Ordinal: 0, Ordinals: 1}, wantedGPU(bare, "GPU"), "what names nothing is left out")
}

func TestDriverInWords(t *testing.T) {
	nothing := told(nil)
	require.Nil(t, driverOf(nothing, "CPU"), "a CPU has no driver")
	assert.Equal(t, "AMD EPYC", describeDriver(nothing, "CPU", "AMD EPYC", nil))
	assert.Equal(t, "Arc, Intel driver 24.35, OpenCL 3.0", describeDriver(nothing, "GPU", "Arc", &protocol.Driver{Version: "24.35", Vendor: "Intel", OpenCL: "OpenCL 3.0"}))
	assert.Equal(t, "Arc, driver version unknown: no loader", describeDriver(nothing, "GPU", "Arc", &protocol.Driver{Why: "no loader"}))
}
