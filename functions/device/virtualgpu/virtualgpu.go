// Package virtualgpu runs OpenVINO's own Intel GPU plugin on a machine without a GPU, with faults on request.
//
// `make vgpu` installs Intel's OpenCL runtime for CPUs and a layer (native/vgpu) that shows it as an Intel GPU. A
// child process started with the environment of Installation.Env then has the OpenVINO device GPU; the plugin, its
// properties and its error texts are the real ones. The fault file can be changed while the child runs, and the
// layer's count of device memory can be read at any time.
//
// These details have caused bugs:
//   - The environment works only in a new process: the loader reads it before main.
//   - The count of memory is the layer's own: what the plugin allocated, not what a driver would need for it.
//   - The plugin computes in f16 unless INFERENCE_PRECISION_HINT says f32; see native/vgpu/README.md.
package virtualgpu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"genfn/bindings/dynlib"
)

// DirEnv is the environment variable that names the folder `make vgpu` filled.
const DirEnv = "GENFN_VGPU_DIR"

// Installation is a complete set of the virtual GPU's parts.
type Installation struct {
	Dir string // absolute
}

// The parts below Installation.Dir.
const (
	layerFile   = "libgenfn_vgpu.so"
	libraryDir  = "lib"
	runtimeFile = "lib/libintelocl.so"
	loaderFile  = "lib/libOpenCL.so.1"
	tbbFile     = "lib/libtbb.so.12"
)

// MissingError says which part of the virtual GPU is not there.
type MissingError struct {
	Part     string   // file, relative to the folder
	Searched []string // folders
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("virtual GPU: %s not found in %s: run `make vgpu`, or name the folder it filled with %s",
		e.Part, strings.Join(e.Searched, ", "), DirEnv)
}

// Find returns the installation in dir, or with dir "" the first that is there of those that GENFN_VGPU_DIR names
// or `make vgpu` fills. An incomplete or missing one is a *MissingError.
func Find(dir string) (*Installation, error) {
	dirs := []string{dir}
	if dir == "" {
		dirs = dynlib.InstallDirs(DirEnv, "vgpu")
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
			continue
		}
		for _, part := range []string{layerFile, runtimeFile, loaderFile, tbbFile} {
			if _, err := os.Stat(filepath.Join(dir, part)); err != nil {
				return nil, &MissingError{Part: part, Searched: []string{dir}}
			}
		}
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, fmt.Errorf("virtual GPU: %w", err)
		}
		return &Installation{Dir: abs}, nil
	}
	return nil, &MissingError{Part: layerFile, Searched: dirs}
}

// Options say what a process sees of the virtual GPU. The zero value is one healthy device with the memory of the machine.
type Options struct {
	CacheDir    string // folder for compiled kernels, made if missing; "": every process compiles anew
	Faults      Faults // from the start on, beside those of FaultFile
	FaultFile   string // with a specification that is read again whenever it changes; it need not exist
	Memory      int64  // bytes of the device, 0: what the machine has. More is refused with CL_MEM_OBJECT_ALLOCATION_FAILURE
	MaxAlloc    int64  // bytes of one allocation, 0: the runtime's own limit, at most Memory
	CountersDir string // folder for the counts of memory, made if missing; "": none; see ReadMemory
	Devices     int    // 0: 1
}

// Env returns what to add to the environment of a process that is to have the device GPU. The folders of o are made.
// LD_PRELOAD and LD_LIBRARY_PATH of this process are kept, behind the entries of the virtual GPU, and so are
// GENFN_VGPU_BUILD_OPTIONS and GENFN_VGPU_VERBOSE (native/vgpu/README.md).
func (in *Installation) Env(o Options) ([]string, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	env := []string{
		"OPENCL_LAYERS=" + filepath.Join(in.Dir, layerFile),
		"OCL_ICD_FILENAMES=" + filepath.Join(in.Dir, runtimeFile),
		"OCL_ICD_VENDORS=" + filepath.Join(in.Dir, libraryDir) + "/", // holds no .icd: other runtimes of this machine are not seen
		"LD_LIBRARY_PATH=" + join(filepath.Join(in.Dir, libraryDir), os.Getenv("LD_LIBRARY_PATH")),
		// OpenVINO ships an older oneTBB under the same name; Intel's OpenCL runtime does not load with that one.
		"LD_PRELOAD=" + join(filepath.Join(in.Dir, tbbFile), os.Getenv("LD_PRELOAD")),
	}
	for _, v := range []struct{ name, value string }{
		{"GENFN_VGPU_CACHE", o.CacheDir},
		{countersEnv, o.CountersDir},
		{"GENFN_VGPU_FAULT_FILE", o.FaultFile},
	} {
		abs := v.value
		if abs != "" {
			var err error
			if abs, err = filepath.Abs(abs); err != nil {
				return nil, fmt.Errorf("virtual GPU: %w", err)
			}
			if v.name != "GENFN_VGPU_FAULT_FILE" {
				if err := os.MkdirAll(abs, 0o700); err != nil {
					return nil, fmt.Errorf("virtual GPU: %w", err)
				}
			}
		}
		env = append(env, v.name+"="+abs)
	}
	return append(env,
		"GENFN_VGPU_FAULTS="+o.Faults.String(),
		"GENFN_VGPU_MEMORY="+number(o.Memory),
		"GENFN_VGPU_MAX_ALLOC="+number(o.MaxAlloc),
		"GENFN_VGPU_DEVICES="+number(int64(o.Devices)),
	), nil
}

func (o Options) check() error {
	if err := o.Faults.check(); err != nil {
		return err
	}
	for _, v := range []struct {
		name  string
		value int64
	}{{"memory", o.Memory}, {"largest allocation", o.MaxAlloc}} {
		if v.value != 0 && v.value < minMemory {
			return fmt.Errorf("virtual GPU: %s of %d bytes: expected at least %d", v.name, v.value, minMemory)
		}
	}
	if o.Devices < 0 || o.Devices > MaxDevices {
		return fmt.Errorf("virtual GPU: %d devices: expected 1 to %d", o.Devices, MaxDevices)
	}
	return nil
}

// MaxDevices is how many devices a process can be shown.
const MaxDevices = 8

// minMemory is the least memory that the layer takes for one.
const minMemory = 1 << 16

// number returns n, or nothing for the default, 0.
func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// join joins two colon-separated lists, either of which may be empty.
func join(first, rest string) string {
	return strings.TrimSuffix(first+":"+rest, ":")
}
