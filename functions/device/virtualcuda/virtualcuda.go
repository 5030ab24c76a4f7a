// Package virtualcuda runs genfn's CUDA parts on a machine without an NVIDIA GPU, with faults on request.
//
// `make vcuda` builds a library (native/vcuda) that stands in for CUDA's runtime library, driver and NVML, and puts NVRTC, the
// real one, beside it. A child process that gets the environment of Installation.Env, and the folder for its libraries,
// sees the virtual devices. The environment works only in a new process: the loader and the library read it once.
package virtualcuda

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"genfn/bindings/dynlib"
)

// DirEnv is the environment variable that names the folder `make vcuda` filled.
const DirEnv = "GENFN_VCUDA_DIR"

// MaxDevices is how many devices a process can be shown.
const MaxDevices = 8

// minMemory is the least memory of a device, in bytes.
const minMemory = 16 << 20

// parts are the libraries in an installation's folder: what stands in for CUDA and NVML, and NVRTC.
var parts = []string{"libcuda.so.1", "libcudart.so.13", "libnvrtc.so.13", "libnvidia-ml.so.1"}

// Installation is the virtual CUDA device's folder.
type Installation struct {
	Libraries string // absolute folder of the libraries
}

// Find returns the installation that GENFN_VCUDA_DIR names or `make vcuda` fills.
func Find() (*Installation, error) {
	dirs := dynlib.InstallDirs(DirEnv, "vcuda")
	for _, dir := range dirs {
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
			continue
		}
		libraries, err := filepath.Abs(filepath.Join(dir, "lib"))
		if err != nil {
			return nil, fmt.Errorf("virtual CUDA device: %w", err)
		}
		for _, part := range parts {
			if _, err := os.Stat(filepath.Join(libraries, part)); err != nil {
				return nil, missing(part, libraries)
			}
		}
		return &Installation{libraries}, nil
	}
	return nil, missing(parts[0], strings.Join(dirs, ", "))
}

func missing(part, searched string) error {
	return fmt.Errorf("virtual CUDA device: %s not found in %s: run `make vcuda`, or name the folder it filled with %s", part, searched, DirEnv)
}

// Options say what a process sees. The zero value is one healthy device of 4 GiB.
type Options struct {
	Faults    string // specification, from the start on (native/vcuda/README.md); the library tells what is wrong with it
	FaultFile string // with another, which is read again whenever it changes; it need not exist
	Memory    int64  // bytes of each device, 0: 4 GiB
	Devices   int    // 0: 1
}

// Env returns what to add to the environment of a process that is to see the virtual devices. LD_LIBRARY_PATH of this
// process is kept behind the virtual device's entry, and so is GENFN_VCUDA_VERBOSE.
func (in *Installation) Env(o Options) ([]string, error) {
	if o.Memory != 0 && o.Memory < minMemory {
		return nil, fmt.Errorf("virtual CUDA device: memory of %d bytes: expected at least %d", o.Memory, minMemory)
	}
	if o.Devices < 0 || o.Devices > MaxDevices {
		return nil, fmt.Errorf("virtual CUDA device: %d devices: expected 1 to %d", o.Devices, MaxDevices)
	}
	file := o.FaultFile
	if file != "" {
		var err error
		if file, err = filepath.Abs(file); err != nil {
			return nil, fmt.Errorf("virtual CUDA device: %w", err)
		}
	}
	path := in.Libraries
	if others := os.Getenv("LD_LIBRARY_PATH"); others != "" {
		path += ":" + others
	}
	return []string{
		"LD_LIBRARY_PATH=" + path, "GENFN_VCUDA_FAULTS=" + o.Faults, "GENFN_VCUDA_FAULT_FILE=" + file,
		"GENFN_VCUDA_MEMORY=" + strconv.FormatInt(cmp.Or(o.Memory, 4<<30), 10), "GENFN_VCUDA_DEVICES=" + strconv.Itoa(cmp.Or(o.Devices, 1)),
	}, nil
}
