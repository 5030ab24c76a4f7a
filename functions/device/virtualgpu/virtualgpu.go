// Package virtualgpu shows runner processes a virtual Intel GPU: Intel's OpenCL runtime for CPUs behind a layer that
// presents it as a GPU (native/vgpu), so that OpenVINO's own GPU plugin runs on a machine without one. Faults can be
// injected into a process while it runs. It is for tests and for trying what happens when a GPU fails; it is slow.
//
// The layer's memory count is the device's: what the plugin holds now, in bytes, for others to read.
package virtualgpu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Environment variables that the layer reads; native/vgpu/README.md documents them.
const (
	envFaults    = "GENFN_VGPU_FAULTS"
	envFaultFile = "GENFN_VGPU_FAULT_FILE"
	envCache     = "GENFN_VGPU_CACHE"
	envCounter   = "GENFN_VGPU_COUNTER"
	envMemory    = "GENFN_VGPU_MEMORY"
	envMaxAlloc  = "GENFN_VGPU_MAX_ALLOC"
	envOptions   = "GENFN_VGPU_OPTIONS"
)

// Config says what the virtual GPU is like.
type Config struct {
	Dir       string // of its parts, as deploy/vgpu/install.sh makes it; "": Find looks for it
	Faults    string // a specification, see Check; ""
	FaultFile string // file with one that is read again when it changes; see WriteFaults. ""
	Cache     string // folder of compiled kernels; "": none, and each process compiles all of its own
	Counter   string // file with the memory count of each process, whose id takes the place of %p; see ReadCount. ""
	Memory    int64  // bytes of device memory; 0: that of the machine
	MaxAlloc  int64  // bytes of the largest allocation; 0: half of Memory
	Optimized bool   // let kernels be optimised: ten times as long to compile, faster afterwards
}

// parts are what Dir must hold.
var parts = []string{"libgenfn_vgpu.so", "lib/libintelocl.so", "lib/libOpenCL.so.1", "lib/libtbb.so.12", "vendors/intel.icd"}

// Find returns the folder of the parts: dir, or GENFN_VGPU_DIR, or .runtime/vgpu here or beside the program's
// folder. The error names what is missing and the remedy.
func Find(dir string) (string, error) {
	candidates := []string{dir}
	if dir == "" {
		candidates = []string{os.Getenv("GENFN_VGPU_DIR")}
	}
	if candidates[0] == "" {
		candidates = []string{filepath.Join(".runtime", "vgpu")}
		if exe, err := os.Executable(); err == nil {
			candidates = append(candidates, filepath.Join(filepath.Dir(exe), "..", ".runtime", "vgpu"))
		}
	}
	var problems []error
	for _, c := range candidates {
		c, err := filepath.Abs(c)
		if err == nil {
			err = complete(c)
		}
		if err == nil {
			return c, nil
		}
		problems = append(problems, err)
	}
	return "", fmt.Errorf("the virtual GPU is not installed, run `make vgpu`: %w", errors.Join(problems...))
}

func complete(dir string) error {
	for _, part := range parts {
		if _, err := os.Stat(filepath.Join(dir, part)); err != nil {
			return err
		}
	}
	return nil
}

// Environment returns the variables for a process that is to see the device, and makes the folder of the cache.
func (c Config) Environment() ([]string, error) {
	dir, err := Find(c.Dir)
	if err != nil {
		return nil, err
	}
	if err := Check(c.Faults); err != nil {
		return nil, err
	}
	env := []string{
		"OPENCL_LAYERS=" + filepath.Join(dir, "libgenfn_vgpu.so"),
		"OCL_ICD_VENDORS=" + filepath.Join(dir, "vendors") + "/",
		"LD_LIBRARY_PATH=" + strings.Trim(filepath.Join(dir, "lib")+":"+os.Getenv("LD_LIBRARY_PATH"), ":"),
		// OpenVINO ships an older oneTBB under the same name, with which Intel's runtime does not load, silently.
		"LD_PRELOAD=" + strings.Trim(filepath.Join(dir, "lib", "libtbb.so.12")+":"+os.Getenv("LD_PRELOAD"), ":"),
	}
	options := "-cl-opt-disable"
	if c.Optimized {
		options = ""
	}
	if c.Cache != "" {
		if err := os.MkdirAll(c.Cache, 0o700); err != nil {
			return nil, fmt.Errorf("kernel cache of the virtual GPU: %w", err)
		}
	}
	for name, value := range map[string]string{
		envFaults: c.Faults, envFaultFile: c.FaultFile, envCache: c.Cache, envCounter: c.Counter, envOptions: options,
		envMemory: bytes(c.Memory), envMaxAlloc: bytes(c.MaxAlloc),
	} {
		env = append(env, name+"="+value)
	}
	return env, nil
}

func bytes(n int64) string {
	if n <= 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// WriteFaults puts a specification into a file, in one step. "" ends all faults.
func WriteFaults(file, specification string) error {
	if err := Check(specification); err != nil {
		return err
	}
	part, err := os.CreateTemp(filepath.Dir(file), ".faults-")
	if err != nil {
		return fmt.Errorf("faults of the virtual GPU: %w", err)
	}
	_, err = part.WriteString(specification + "\n")
	if err = errors.Join(err, part.Close()); err == nil {
		err = os.Rename(part.Name(), file)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("faults of the virtual GPU: %w", err), os.Remove(part.Name()))
	}
	return nil
}

// Count is the device memory of one process, in bytes.
type Count struct {
	Now, Peak   int64
	Limit       int64 // 0: none
	Allocations int64
}

const (
	countMagic = 0x316e74637570676e // "ngpuctn1"
	countBytes = 5 * 8
)

// ReadCount reads the memory count of a process, also of one that has ended.
func ReadCount(file string) (Count, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return Count{}, err
	}
	if len(raw) < countBytes || binary.LittleEndian.Uint64(raw) != countMagic {
		return Count{}, fmt.Errorf("%s is no memory count of the virtual GPU", file)
	}
	at := func(i int) int64 { return int64(binary.LittleEndian.Uint64(raw[8*i:])) } //nolint:gosec // bytes of this machine
	return Count{Now: at(1), Peak: at(2), Limit: at(3), Allocations: at(4)}, nil
}

// OwnCount reads the memory count of this process; ok is false if it has no virtual GPU that counts.
func OwnCount() (c Count, ok bool) {
	file := os.Getenv(envCounter)
	if file == "" {
		return Count{}, false
	}
	c, err := ReadCount(CountFile(file, os.Getpid()))
	return c, err == nil
}

// CountFile is the memory count's file of a process for a Config.Counter.
func CountFile(counter string, pid int) string {
	return strings.Replace(counter, "%p", strconv.Itoa(pid), 1)
}

// SweepCounts removes the files that processes which are gone have left for a Config.Counter.
func SweepCounts(counter string) {
	before, after, _ := strings.Cut(counter, "%p")
	files, err := filepath.Glob(before + "*" + after)
	if err != nil {
		return
	}
	for _, file := range files {
		pid := strings.TrimSuffix(strings.TrimPrefix(file, before), after)
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, os.ErrNotExist) {
			_ = os.Remove(file) // somebody else may have
		}
	}
}
