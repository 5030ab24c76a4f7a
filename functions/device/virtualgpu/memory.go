package virtualgpu

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Memory is the layer's count of the memory that one process has on one virtual device, in bytes.
type Memory struct {
	Current     int64 // allocated now
	Peak        int64 // the most at one time
	Limit       int64 // of the device
	Allocations int64 // that there are now
	Refused     int64 // allocations that were refused for want of memory, ever
}

// countersEnv names Options.CountersDir to the layer and to OwnMemory.
const countersEnv = "GENFN_VGPU_COUNTERS"

// ErrNoCount is returned by ReadMemory for a process that has not touched the virtual GPU.
var ErrNoCount = errors.New("virtual GPU: the process has no count of memory")

// The file of a process is a header and MaxDevices records, all little-endian 64-bit words, which the layer
// (native/vgpu/account.c) keeps mapped: magic, process id, number of devices, start of the process in clock ticks
// since boot; for each device as in Memory.
const (
	counterMagic = 0x31554d454d504756 // "VGPMEMU1"
	headerWords  = 4
	recordWords  = 8
	counterSize  = 8 * (headerWords + MaxDevices*recordWords)
)

// ReadMemory returns the counts of the process's devices, from Options.CountersDir. They stay after its end, for
// whoever asks what it had; see SweepMemory.
func ReadMemory(countersDir string, pid int) ([]Memory, error) {
	list, _, err := readMemory(countersDir, pid)
	return list, err
}

func readMemory(countersDir string, pid int) (list []Memory, start int64, err error) {
	raw, err := os.ReadFile(counterFile(countersDir, pid))
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, fmt.Errorf("%w: %w", ErrNoCount, err)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("virtual GPU: count of memory: %w", err)
	}
	word := func(i int) int64 { return int64(binary.LittleEndian.Uint64(raw[8*i:])) }
	if len(raw) != counterSize || word(0) != counterMagic || word(2) < 1 || word(2) > MaxDevices {
		return nil, 0, fmt.Errorf("virtual GPU: %s is no count of memory of this version", counterFile(countersDir, pid))
	}
	list = make([]Memory, word(2))
	for i := range list {
		at := headerWords + i*recordWords
		list[i] = Memory{Current: word(at), Peak: word(at + 1), Limit: word(at + 2), Allocations: word(at + 3), Refused: word(at + 4)}
	}
	return list, word(3), nil
}

// startOf returns field 22 of /proc/PID/stat (proc(5)), the start of the process, or 0 if there is none.
func startOf(pid int) int64 {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(raw[bytes.LastIndexByte(raw, ')')+1:]), " ") // the second field may hold blanks
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return 0
	}
	start, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return 0
	}
	return start
}

// OwnMemory returns this process's count on an OpenVINO device such as GPU or GPU.1; ok is false if it has none, for
// want of a virtual GPU or of Options.CountersDir.
func OwnMemory(device string) (m Memory, ok bool) {
	dir := os.Getenv(countersEnv)
	if dir == "" {
		return Memory{}, false
	}
	index := 0 // "GPU" is a name of "GPU.0"
	if _, digits, numbered := strings.Cut(device, "."); numbered {
		var err error
		if index, err = strconv.Atoi(digits); err != nil || index < 0 {
			return Memory{}, false
		}
	}
	list, err := ReadMemory(dir, os.Getpid())
	if err != nil || index >= len(list) {
		return Memory{}, false
	}
	return list[index], true
}

// SweepMemory removes the counts of processes that have ended. It is no error if the folder is not there.
func SweepMemory(countersDir string) error {
	entries, err := os.ReadDir(countersDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("virtual GPU: counts of memory: %w", err)
	}
	var failed []error
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if _, start, err := readMemory(countersDir, pid); err == nil && start == startOf(pid) {
			continue
		}
		if err := os.Remove(counterFile(countersDir, pid)); err != nil && !errors.Is(err, os.ErrNotExist) {
			failed = append(failed, fmt.Errorf("virtual GPU: count of memory: %w", err))
		}
	}
	return errors.Join(failed...)
}

func counterFile(dir string, pid int) string { return filepath.Join(dir, strconv.Itoa(pid)) }
