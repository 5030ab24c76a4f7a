package virtualgpu

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Groups of OpenCL calls: a fault may name a group in place of a call, and its effect may stick to one.
const (
	GroupDevice = "device" // finding devices, making contexts and queues
	GroupBuild  = "build"  // making and building programs and kernels
	GroupMemory = "memory" // allocations
	GroupQueue  = "queue"  // work, transfers and waiting
	GroupAll    = "all"
)

// calls are the OpenCL calls that can fail, with their group, as in native/vgpu/calls.h.
var calls = map[string]string{
	"clGetDeviceIDs":                     GroupDevice,
	"clCreateContext":                    GroupDevice,
	"clCreateCommandQueue":               GroupDevice,
	"clCreateCommandQueueWithProperties": GroupDevice,
	"clCreateProgramWithSource":          GroupBuild,
	"clCreateProgramWithBinary":          GroupBuild,
	"clBuildProgram":                     GroupBuild,
	"clCompileProgram":                   GroupBuild,
	"clLinkProgram":                      GroupBuild,
	"clCreateKernel":                     GroupBuild,
	"clCreateKernelsInProgram":           GroupBuild,
	"clCreateBuffer":                     GroupMemory,
	"clCreateImage":                      GroupMemory,
	"clHostMemAllocINTEL":                GroupMemory,
	"clDeviceMemAllocINTEL":              GroupMemory,
	"clSharedMemAllocINTEL":              GroupMemory,
	"clEnqueueNDRangeKernel":             GroupQueue,
	"clEnqueueReadBuffer":                GroupQueue,
	"clEnqueueWriteBuffer":               GroupQueue,
	"clEnqueueCopyBuffer":                GroupQueue,
	"clEnqueueFillBuffer":                GroupQueue,
	"clEnqueueMapBuffer":                 GroupQueue,
	"clEnqueueUnmapMemObject":            GroupQueue,
	"clEnqueueMarkerWithWaitList":        GroupQueue,
	"clEnqueueBarrierWithWaitList":       GroupQueue,
	"clEnqueueMemcpyINTEL":               GroupQueue,
	"clEnqueueMemFillINTEL":              GroupQueue,
	"clFlush":                            GroupQueue,
	"clFinish":                           GroupQueue,
	"clWaitForEvents":                    GroupQueue,
}

// groups are the names a fault can stick to.
var groups = []string{GroupDevice, GroupBuild, GroupMemory, GroupQueue, GroupAll}

// flippable are the calls whose numbers a fault can change.
var flippable = []string{"clEnqueueNDRangeKernel", "clEnqueueReadBuffer", "clEnqueueMemcpyINTEL"}

// Fault is what goes wrong at which OpenCL call. Exactly one of Error, Delay, Hang, Crash and Flip says what.
type Fault struct {
	Call  string        // name of an OpenCL call, or a group
	Error Code          // the call does nothing and returns this error
	Delay time.Duration // the call starts later, by at most an hour, in whole microseconds
	Hang  bool          // the call never returns
	Crash Crash         // the process ends with this signal
	Flip  int           // so many random bits of what the call gives out are inverted

	After       uint64  // calls that go well before the first one counted
	Every       uint64  // of the calls counted, only each n-th is meant; 0 and 1: all
	Probability float64 // of those meant, the share that goes wrong; 0 and 1: all
	Seed        uint64  // of the random numbers for Probability and Flip
	Times       uint64  // how often it goes wrong, then never again; 0: without end
	Kernel      string  // only kernels with this in their name count; of clEnqueueNDRangeKernel
	Once        string  // absolute path: it goes wrong only if this file can be made, so once for all processes
	Sticky      string  // a group whose calls all fail with Error from then on, whatever becomes of the specification: a dead context
}

// Faults is a specification: each call is tried against all of them in turn, until one with an Error fails it.
//
// As text it is one fault a line or between semicolons, a call or group and then key=value words, "hang" alone:
//
//	clFlush error=CL_OUT_OF_RESOURCES after=3 times=1
//	clWaitForEvents error=-14 sticky=queue      # the context is dead
//	memory error=-4 every=5 probability=0.5 seed=7
//	clFinish delay=250ms; clEnqueueNDRangeKernel flip=64
//	clEnqueueNDRangeKernel hang kernel=gemm once=/tmp/once
type Faults []Fault

// Crash is a signal that ends the process.
type Crash string

// The crashes.
const (
	CrashSegmentation Crash = "SIGSEGV"
	CrashAbort        Crash = "SIGABRT"
)

// Code is an OpenCL error code, negative.
type Code int32

// codeNames are the names of OpenCL's headers, as in native/vgpu/errors.h.
var codeNames = map[Code]string{
	-1: "CL_DEVICE_NOT_FOUND", -2: "CL_DEVICE_NOT_AVAILABLE", -3: "CL_COMPILER_NOT_AVAILABLE",
	-4: "CL_MEM_OBJECT_ALLOCATION_FAILURE", -5: "CL_OUT_OF_RESOURCES", -6: "CL_OUT_OF_HOST_MEMORY",
	-7: "CL_PROFILING_INFO_NOT_AVAILABLE", -8: "CL_MEM_COPY_OVERLAP", -11: "CL_BUILD_PROGRAM_FAILURE", -12: "CL_MAP_FAILURE",
	-14: "CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST", -15: "CL_COMPILE_PROGRAM_FAILURE", -16: "CL_LINKER_NOT_AVAILABLE",
	-17: "CL_LINK_PROGRAM_FAILURE", -30: "CL_INVALID_VALUE", -33: "CL_INVALID_DEVICE", -34: "CL_INVALID_CONTEXT",
	-36: "CL_INVALID_COMMAND_QUEUE", -37: "CL_INVALID_HOST_PTR", -38: "CL_INVALID_MEM_OBJECT", -42: "CL_INVALID_BINARY",
	-43: "CL_INVALID_BUILD_OPTIONS", -44: "CL_INVALID_PROGRAM", -45: "CL_INVALID_PROGRAM_EXECUTABLE", -46: "CL_INVALID_KERNEL_NAME",
	-48: "CL_INVALID_KERNEL", -49: "CL_INVALID_ARG_INDEX", -50: "CL_INVALID_ARG_VALUE", -51: "CL_INVALID_ARG_SIZE",
	-52: "CL_INVALID_KERNEL_ARGS", -54: "CL_INVALID_WORK_GROUP_SIZE", -55: "CL_INVALID_WORK_ITEM_SIZE",
	-57: "CL_INVALID_EVENT_WAIT_LIST", -58: "CL_INVALID_EVENT", -59: "CL_INVALID_OPERATION", -61: "CL_INVALID_BUFFER_SIZE",
	-63: "CL_INVALID_GLOBAL_WORK_SIZE",
}

// String returns the name of OpenCL's headers, or the number of a code without one here.
func (c Code) String() string {
	if name, ok := codeNames[c]; ok {
		return name
	}
	return strconv.Itoa(int(c))
}

func parseCode(s string) (Code, error) {
	for code, name := range codeNames {
		if s == name {
			return code, nil
		}
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n >= 0 || n < minCode {
		return 0, fmt.Errorf("expected the name of an OpenCL error such as CL_OUT_OF_RESOURCES, or its number, %d to -1", minCode)
	}
	return Code(n), nil
}

// minCode bounds what is taken for an error code; extensions use numbers down to -1200 or so.
const minCode = -9999

// maxDelay bounds Fault.Delay; longer ones are Hang.
const maxDelay = time.Hour

// maxFlip bounds Fault.Flip.
const maxFlip = 1 << 20

// maxName and maxPath bound Fault.Kernel and Fault.Once.
const (
	maxName = 128
	maxPath = 256
)

// maxFaults is how many faults a specification can have, maxText how long its text may be.
const (
	maxFaults = 64
	maxText   = 16 << 10
)

// ParseFaults reads a specification. The layer reads the same grammar (native/fault/parse.c); what is an error
// here is an error there.
func ParseFaults(text string) (Faults, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("fault specification of %d bytes: expected at most %d", len(text), maxText)
	}
	var list Faults
	for line := range strings.SplitSeq(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		for part := range strings.SplitSeq(line, ";") {
			words := strings.FieldsFunc(part, func(r rune) bool { return r == ' ' || r == '\t' || r == '\r' })
			if len(words) == 0 {
				continue
			}
			f, err := parseFault(words)
			if err != nil {
				return nil, fmt.Errorf("fault specification, %q: %w", strings.TrimSpace(part), err)
			}
			list = append(list, f)
		}
	}
	return list, list.check()
}

// WriteFaults replaces the fault file of Options.FaultFile in one step: a process that reads it finds the old text or
// the new one, which must be a good specification. The counts of all its faults start anew. "" ends all faults that do
// not stick.
func WriteFaults(path, text string) (err error) {
	if _, err := ParseFaults(text); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".faults-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.WriteString(text + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func parseFault(words []string) (Fault, error) {
	f := Fault{Call: words[0]}
	seen := map[string]bool{}
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		if seen[key] {
			return f, fmt.Errorf("%q: given twice", word)
		}
		seen[key] = true
		if err := f.set(key, value, word); err != nil {
			return f, fmt.Errorf("%q: %w", word, err)
		}
	}
	return f, nil
}

// set reads one word, key=value.
func (f *Fault) set(key, value, word string) (err error) {
	switch key {
	case "error":
		f.Error, err = parseCode(value)
	case "delay":
		f.Delay, err = parseDelay(value)
	case "hang":
		if f.Hang = true; word != "hang" {
			err = errors.New("hang takes no value")
		}
	case "crash":
		f.Crash = Crash(value)
		if f.Crash != CrashSegmentation && f.Crash != CrashAbort {
			err = fmt.Errorf("expected %s or %s", CrashSegmentation, CrashAbort)
		}
	case "flip":
		var n uint64
		n, err = parseCount(value, 1)
		f.Flip = int(min(n, maxFlip+1))
	case "after":
		f.After, err = parseCount(value, 0)
	case "every":
		f.Every, err = parseCount(value, 1)
	case "times":
		f.Times, err = parseCount(value, 1)
	case "seed":
		f.Seed, err = parseCount(value, 0)
	case "probability":
		f.Probability, err = parseProbability(value)
	case "kernel":
		if f.Kernel = value; value == "" || len(value) >= maxName {
			err = errors.New("expected a part of a kernel's name")
		}
	case "once":
		if f.Once = value; !filepath.IsAbs(value) || len(value) >= maxPath {
			err = errors.New("expected the absolute path of a file to make")
		}
	case "sticky":
		if f.Sticky = value; !slices.Contains(groups, value) {
			err = fmt.Errorf("expected one of %s", strings.Join(groups, ", "))
		}
	default:
		err = errors.New("expected error=, delay=, hang, crash=, flip=, after=, every=, times=, probability=, seed=, sticky=, kernel= or once=")
	}
	return err
}

// parseCount reads a whole number of decimal digits, at most 2^63-1.
func parseCount(s string, least uint64) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || n < least {
		return 0, fmt.Errorf("expected a whole number, %d or more", least)
	}
	return n, nil
}

// parseDelay reads a whole number of us, ms or s.
func parseDelay(s string) (time.Duration, error) {
	for _, unit := range []struct {
		name string
		size time.Duration
	}{{"us", time.Microsecond}, {"ms", time.Millisecond}, {"s", time.Second}} {
		digits, ok := strings.CutSuffix(s, unit.name)
		if !ok {
			continue
		}
		if n, err := parseCount(digits, 1); err == nil && n <= uint64(maxDelay/unit.size) {
			return time.Duration(n) * unit.size, nil
		}
		break
	}
	return 0, errors.New("expected a whole number of us, ms or s, at most an hour, such as 250ms")
}

// parseProbability reads a decimal fraction above 0, at most 1.
func parseProbability(s string) (float64, error) {
	p, err := strconv.ParseFloat(s, 64)
	if strings.Trim(s, "0123456789.") != "" || err != nil || p <= 0 || p > 1 {
		return 0, errors.New("expected a decimal fraction above 0, at most 1")
	}
	return p, nil
}

// String returns the text of the specification, one fault after the other between semicolons.
func (l Faults) String() string {
	parts := make([]string, len(l))
	for i, f := range l {
		parts[i] = f.String()
	}
	return strings.Join(parts, "; ")
}

// String returns the fault's text.
func (f Fault) String() string {
	words := []string{f.Call}
	add := func(set bool, word string) {
		if set {
			words = append(words, word)
		}
	}
	add(f.Error != 0, "error="+f.Error.String())
	add(f.Delay != 0, "delay="+formatDelay(f.Delay))
	add(f.Hang, "hang")
	add(f.Crash != "", "crash="+string(f.Crash))
	add(f.Flip != 0, "flip="+strconv.Itoa(f.Flip))
	for _, n := range []struct {
		key   string
		value uint64
	}{{"after", f.After}, {"every", f.Every}, {"times", f.Times}} {
		add(n.value != 0, n.key+"="+strconv.FormatUint(n.value, 10))
	}
	add(f.Probability != 0, "probability="+strconv.FormatFloat(f.Probability, 'f', -1, 64))
	add(f.Seed != 0, "seed="+strconv.FormatUint(f.Seed, 10))
	add(f.Sticky != "", "sticky="+f.Sticky)
	add(f.Kernel != "", "kernel="+f.Kernel)
	add(f.Once != "", "once="+f.Once)
	return strings.Join(words, " ")
}

func formatDelay(d time.Duration) string {
	switch {
	case d%time.Second == 0:
		return strconv.FormatInt(int64(d/time.Second), 10) + "s"
	case d%time.Millisecond == 0:
		return strconv.FormatInt(int64(d/time.Millisecond), 10) + "ms"
	}
	return strconv.FormatInt(int64(d/time.Microsecond), 10) + "us"
}

// check says what is wrong with faults made in Go or read from text.
func (l Faults) check() error {
	if len(l) > maxFaults {
		return fmt.Errorf("fault specification with %d faults: expected at most %d", len(l), maxFaults)
	}
	for _, f := range l {
		if err := f.check(); err != nil {
			return fmt.Errorf("fault specification, %q: %w", f, err)
		}
	}
	return nil
}

func (f Fault) check() error {
	if _, known := calls[f.Call]; !known && !slices.Contains(groups, f.Call) {
		return fmt.Errorf("%q: expected an OpenCL call that can fail (such as clFlush, clEnqueueNDRangeKernel, clCreateBuffer), or one of the groups %s",
			f.Call, strings.Join(groups, ", "))
	}
	actions := 0
	for _, set := range []bool{f.Error != 0, f.Delay != 0, f.Hang, f.Crash != "", f.Flip != 0} {
		if set {
			actions++
		}
	}
	if actions != 1 {
		return fmt.Errorf("expected exactly one of error=, delay=, hang, crash= and flip=, found %d", actions)
	}
	switch {
	case f.Error > 0 || f.Error < minCode:
		return fmt.Errorf("error=%d: expected %d to -1", f.Error, minCode)
	case f.Delay < 0 || f.Delay > maxDelay || f.Delay%time.Microsecond != 0:
		return fmt.Errorf("delay=%s: expected whole microseconds, at most an hour", f.Delay)
	case f.Crash != "" && f.Crash != CrashSegmentation && f.Crash != CrashAbort:
		return fmt.Errorf("crash=%s: expected %s or %s", f.Crash, CrashSegmentation, CrashAbort)
	case f.Flip < 0 || f.Flip > maxFlip:
		return fmt.Errorf("flip=%d: expected 1 to %d", f.Flip, maxFlip)
	case f.Flip != 0 && !slices.Contains(flippable, f.Call):
		return fmt.Errorf("flip=%d: expected the call to be one of %s", f.Flip, strings.Join(flippable, ", "))
	case math.IsNaN(f.Probability) || f.Probability < 0 || f.Probability > 1:
		return fmt.Errorf("probability=%v: expected above 0, at most 1", f.Probability)
	case max(f.After, f.Every, f.Times, f.Seed) > math.MaxInt64:
		return errors.New("after=, every=, times= and seed= are below 2^63")
	case f.Kernel != "" && f.Call != "clEnqueueNDRangeKernel":
		return errors.New("kernel= is for clEnqueueNDRangeKernel")
	case strings.ContainsAny(f.Kernel+f.Once, " \t\r\n;#"):
		return errors.New("kernel= and once= take no blanks, semicolons and number signs")
	case f.Sticky != "" && f.Error == 0:
		return errors.New("sticky= needs error=")
	case f.Sticky != "" && !slices.Contains(groups, f.Sticky):
		return fmt.Errorf("sticky=%s: expected one of %s", f.Sticky, strings.Join(groups, ", "))
	}
	return nil
}
