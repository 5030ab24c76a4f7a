package virtualgpu

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"genfn/events"
)

// What a rule of a specification may name, as native/vgpu/fault.c has them.
var (
	calls = []string{
		"alloc", "any", "build", "copy", "wait",
		"clBuildProgram", "clCompileProgram", "clCreateBuffer", "clCreateContext", "clDeviceMemAllocINTEL", "clEnqueueCopyBuffer",
		"clEnqueueMemcpyINTEL", "clEnqueueNDRangeKernel", "clEnqueueReadBuffer", "clEnqueueWriteBuffer", "clFinish", "clFlush",
		"clGetDeviceIDs", "clHostMemAllocINTEL", "clLinkProgram", "clSharedMemAllocINTEL", "clWaitForEvents",
	}
	codes = []string{
		"CL_BUILD_PROGRAM_FAILURE", "CL_DEVICE_NOT_AVAILABLE", "CL_DEVICE_NOT_FOUND", "CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST",
		"CL_IMAGE_FORMAT_MISMATCH", "CL_INVALID_BUFFER_SIZE", "CL_INVALID_COMMAND_QUEUE", "CL_INVALID_CONTEXT", "CL_INVALID_KERNEL",
		"CL_INVALID_KERNEL_ARGS", "CL_INVALID_MEM_OBJECT", "CL_INVALID_OPERATION", "CL_INVALID_VALUE", "CL_INVALID_WORK_GROUP_SIZE",
		"CL_MEM_OBJECT_ALLOCATION_FAILURE", "CL_OUT_OF_HOST_MEMORY", "CL_OUT_OF_RESOURCES", "CL_PROFILING_INFO_NOT_AVAILABLE",
	}
	negative = regexp.MustCompile(`^-[1-9][0-9]{0,3}$`)
)

// maxRules is what the layer takes.
const maxRules = 32

// Check reads a specification of faults as the layer does, and says what is wrong with it: rules separated by ";" or
// blanks, each CALL:OPTION,OPTION... See native/vgpu/README.md.
func Check(specification string) error {
	rules := strings.FieldsFunc(specification, func(r rune) bool { return strings.ContainsRune("; \t\r\n", r) })
	if len(rules) > maxRules {
		return refuse(fmt.Sprintf("%d rules", len(rules)), fmt.Sprintf("at most %d", maxRules))
	}
	for _, rule := range rules {
		if err := checkRule(rule); err != nil {
			return err
		}
	}
	return nil
}

func checkRule(rule string) error {
	call, options, ok := strings.Cut(rule, ":")
	if !ok || !slices.Contains(calls, call) {
		return refuse(rule, "CALL:OPTION,... with a call of "+strings.Join(calls, ", "))
	}
	acts := false
	for _, option := range strings.Split(options, ",") {
		key, value, given := strings.Cut(option, "=")
		switch key {
		case "code", "delay", "hang", "crash", "flip":
			acts = true
		}
		if expected := checkOption(key, value, given); expected != "" {
			return refuse(option, expected)
		}
		if key == "flip" && call != "clEnqueueNDRangeKernel" {
			return refuse(rule, "flip of clEnqueueNDRangeKernel, whose result is spoilt")
		}
	}
	if !acts {
		return refuse(rule, "what is to happen: code, delay, hang, crash or flip")
	}
	return nil
}

// checkOption returns what was expected, "" if the option is right.
func checkOption(key, value string, given bool) string {
	number := func(least int) bool {
		n, err := strconv.Atoi(value)
		return err == nil && n >= least
	}
	switch key {
	case "code":
		if !negative.MatchString(value) && !slices.Contains(codes, value) {
			return "code=-5, or a name such as CL_OUT_OF_RESOURCES"
		}
	case "delay", "after":
		if !number(0) {
			return key + "=NUMBER"
		}
	case "every", "times":
		if !number(1) {
			return key + "=NUMBER of at least 1"
		}
	case "seed":
		if _, err := strconv.ParseInt(value, 10, 64); err != nil {
			return "seed=NUMBER"
		}
	case "probability":
		if p, err := strconv.ParseFloat(value, 64); err != nil || !(p >= 0 && p <= 1) {
			return "probability= a number from 0 to 1"
		}
	case "kernel":
		if value == "" {
			return "kernel= a part of a kernel's name"
		}
	case "once":
		if !filepath.IsAbs(value) {
			return "once= the absolute path of a file to make"
		}
	case "crash":
		if value != "SEGV" && value != "ABRT" {
			return "crash=SEGV or crash=ABRT"
		}
	case "hang", "flip", "sticky":
		if given {
			return key + " without a value"
		}
	default:
		return "code, delay, hang, crash, flip, after, every, times, probability, seed, kernel, once or sticky"
	}
	return ""
}

func refuse(found, expected string) error {
	e := events.Errorf(events.CodeInvalidRequest, "specification of faults: found %q", found)
	e.Field, e.Expected = "faults", expected
	e.Advice = "For example clFlush:code=-5,after=10,times=1 or clWaitForEvents:code=CL_OUT_OF_RESOURCES,sticky"
	return e
}
