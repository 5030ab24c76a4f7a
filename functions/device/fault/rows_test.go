package fault

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/events"
)

// TestEveryRowIsReachable: no number, name or word of a row is taken by an earlier row.
func TestEveryRowIsReachable(t *testing.T) {
	seen := map[string]bool{}
	for _, table := range tables() {
		for _, r := range table.rows {
			require.False(t, seen[r.name], "%s: two rows", r.name)
			seen[r.name] = true
			require.NotEmpty(t, r.message, r.name)
			require.NotEmpty(t, r.source, "%s: a row says where it is known from", r.name)
			require.NotZero(t, len(r.status)+len(r.names)+len(r.texts), r.name)
			for _, status := range r.status {
				f := Classify(Evidence{Runtime: table.runtime, Status: status})
				require.Equal(t, r.name, f.Rule, "%s %d", table.runtime, status)
				require.Equal(t, strconv.Itoa(status), f.Err.DriverCode)
			}
			for _, name := range r.names {
				text := quote(table.runtime, name)
				require.Equal(t, r.name, Classify(Evidence{Runtime: RuntimeOpenVINO, Status: -1, Text: text}).Rule, text)
			}
			for _, text := range r.texts {
				require.Equal(t, strings.ToLower(text), text, "%s: texts are in lower case", r.name)
				for _, said := range []string{text, strings.ToUpper(text)} {
					require.Equal(t, r.name, Classify(Evidence{Runtime: RuntimeOpenVINO, Status: -1, Text: "Exception: " + said + " here"}).Rule, said)
				}
			}
		}
	}
	require.Greater(t, len(seen), 70)
}

// quote writes a name as its runtime does.
func quote(runtime Runtime, name string) string {
	switch runtime {
	case RuntimeOpenCL:
		return "[GPU] " + name + " exception.\n\tmore"
	case RuntimeCUDA:
		return "Status Message: CUDA error " + name + ":words"
	default:
		return "X failure 1: " + name + " ; GPU=0"
	}
}

// TestNamesGoWithNumbers: where a row has as many names as numbers, they say the same of one thing.
func TestNamesGoWithNumbers(t *testing.T) {
	x := rows()
	for _, c := range []struct {
		runtime Runtime
		status  int
		name    string
	}{
		{RuntimeOpenCL, -5, "CL_OUT_OF_RESOURCES"}, {RuntimeOpenCL, -54, "CL_INVALID_WORK_GROUP_SIZE"}, {RuntimeOpenCL, -36, "CL_INVALID_COMMAND_QUEUE"},
		{RuntimeCUDA, 700, "cudaErrorIllegalAddress"}, {RuntimeCUDA, 2, "cudaErrorMemoryAllocation"}, {RuntimeNVML, 15, "NVML_ERROR_GPU_IS_LOST"},
	} {
		require.NotNil(t, x.names[c.name], c.name)
		require.Same(t, x.names[c.name], x.status[c.runtime][c.status], c.name)
	}
}

// TestRequiredNumbers are the ones that must be told apart whatever else changes.
func TestRequiredNumbers(t *testing.T) {
	for _, c := range []struct {
		runtime  Runtime
		statuses []int
		class    Class
		replace  bool
	}{
		{RuntimeOpenCL, []int{-5, -14, -9, -36, -38, -48, -52}, ClassFatal, true},
		{RuntimeOpenCL, []int{-4}, ClassMemory, true},
		{RuntimeOpenCL, []int{-61}, ClassMemory, false},
		{RuntimeOpenCL, []int{-6}, ClassHost, true},
		{RuntimeOpenCL, []int{-11}, ClassRequest, false},
		{RuntimeOpenCL, []int{-54}, ClassRequest, true},
		{RuntimeCUDA, []int{700, 710, 714, 715, 716, 717, 718, 719, 214, 220, 226, 911, 999}, ClassFatal, true},
		{RuntimeCUDA, []int{702}, ClassHang, true},
		{RuntimeCUDA, []int{712, 12345}, ClassFatal, true}, // not known here, so it fails closed
		{RuntimeCUDA, []int{2}, ClassMemory, false},
		{RuntimeCUDA, []int{35, 100}, ClassHost, true},
		{RuntimeONNXRuntime, []int{1, 6, 11, 4, 5, 8}, ClassFatal, true},
		{RuntimeONNXRuntime, []int{2, 9}, ClassRequest, false},
		{RuntimeONNXRuntime, []int{3, 7, 10, 14}, ClassHost, false},
		{RuntimeNVRTC, []int{6, 7}, ClassHost, true},
		{RuntimeNVML, []int{15, 16}, ClassFatal, true},
		{RuntimeXid, []int{13, 31, 43, 45, 68, 46, 62, 64, 79, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158}, ClassFatal, true},
	} {
		for _, status := range c.statuses {
			f := Classify(Evidence{Runtime: c.runtime, Status: status, Device: "GPU.0"})
			require.Equal(t, c.class, f.Class, "%s %d", c.runtime, status)
			require.Equal(t, c.replace, f.Replace, "%s %d", c.runtime, status)
		}
	}
	for status, action := range map[int]Action{13: ActionFreshRunner, 79: ActionOtherDevice, 119: ActionOtherDevice} {
		require.Equal(t, action, Classify(Evidence{Runtime: RuntimeXid, Status: status}).Action, "Xid %d", status)
	}
}

func TestUnknownFailsClosed(t *testing.T) {
	for _, e := range []Evidence{
		{}, {Runtime: RuntimeOpenVINO, Status: -1}, {Runtime: RuntimeCUDA, Status: 4711, Text: "gibberish"}, {Runtime: "abacus", Status: 1, Text: "a bead fell off"},
		{Err: errors.New("disk on fire")}, {Err: events.Errorf(events.CodeInternal, "x")}, {Err: &events.Error{Code: "brand_new"}},
		{Runtime: RuntimeOpenVINO, Status: -1, Text: "x", Err: events.Errorf(events.CodeInternal, "unet: the inference failed")},
	} {
		f := Classify(e)
		require.Equal(t, ClassFatal, f.Class, "%+v", e)
		require.True(t, f.Replace, "%+v", e)
		require.Equal(t, ActionFreshRunner, f.Action)
		require.NotEmpty(t, f.Err.Message)
		require.NotEmpty(t, f.Err.Advice)
	}
}

// TestEveryCodeHasAVerdict: a new code of the vocabulary must be thought of here.
func TestEveryCodeHasAVerdict(t *testing.T) {
	want := map[events.Code]Class{
		events.CodeInvalidRequest: ClassRequest, events.CodeModelNotFound: ClassRequest, events.CodeModelInvalid: ClassHost, events.CodeModelLoadFailed: ClassRequest,
		events.CodeDeviceUnavailable: ClassHost, events.CodeGPUOutOfMemory: ClassMemory, events.CodeHostOutOfMemory: ClassHost, events.CodeGPURuntimeError: ClassFatal,
		events.CodeDeviceLost: ClassFatal, events.CodeHang: ClassHang, events.CodeNumericalError: ClassNumerical, events.CodeDeadlineExceeded: ClassStopped,
		events.CodeCancelled: ClassStopped, events.CodeQueueFull: ClassRequest, events.CodePermissionDenied: ClassRequest, events.CodeInternal: ClassFatal,
	}
	for code, class := range want {
		err := events.Errorf(code, "it happened")
		f := Of(err)
		require.Equal(t, class, f.Class, code)
		require.Equal(t, "code_"+string(code), f.Rule)
		require.Equal(t, err.Retriable, f.Err.Retriable)
		require.Equal(t, "it happened", f.Err.Message)
		require.NotSame(t, err, f.Err)
		require.Equal(t, class == ClassFatal || class == ClassHang, f.Replace, code)
	}
}

func TestWords(t *testing.T) {
	asked := "[GPU] Exceeded max size of memory object allocation: requested 28666553344 bytes, but max alloc size supported by device is 4294959104 bytes."
	known := events.Errorf(events.CodeInternal, "unet: the inference failed")
	known.Detail, known.Cause = "openvino: infer: ...", fs.ErrClosed
	f := Classify(Evidence{Runtime: RuntimeOpenVINO, Status: -1, Text: asked, Stage: "denoise step 3 of 20", Device: "GPU.0", Err: fmt.Errorf("around: %w", known)})
	require.Equal(t, "unet: the inference failed: GPU.0 does not allow an allocation of this size: tried to allocate 26.7 GiB, of 4 GiB at most", f.Err.Message)
	require.Equal(t, "GPU out of memory", f.Err.Title)
	require.Contains(t, f.Err.Advice, "smaller size")
	require.Equal(t, "denoise step 3 of 20", f.Err.Stage)
	require.Equal(t, "GPU.0", f.Err.Device)
	require.Equal(t, "-1", f.Err.DriverCode)
	require.Equal(t, asked, f.Err.DriverText)
	require.EqualValues(t, 28666553344, f.Err.RequestedBytes)
	require.Equal(t, "openvino: infer: ...", f.Err.Detail)
	require.ErrorIs(t, f.Err, fs.ErrClosed, "the cause is kept")
	require.Equal(t, "unet: the inference failed", known.Message, "the original is left as it was")

	f = Classify(Evidence{Runtime: RuntimeOpenVINO, Status: -1, Text: "[GPU] clFlush, error code: -5 CL_OUT_OF_RESOURCES", Device: "GPU.1"})
	require.Equal(t, "-5", f.Err.DriverCode)
	require.Equal(t, "the driver of GPU.1 gave up (out of resources): what it was computing is lost", f.Err.Message)

	f = Classify(Evidence{Runtime: RuntimeOpenVINO, Status: -1, Text: "std::bad_alloc", Device: "CPU"})
	require.Equal(t, "Out of memory", f.Err.Title)
	require.Equal(t, "the instance's machine has no memory left", f.Err.Message)
}

func TestOwnErrorsKeepTheirWords(t *testing.T) {
	bad := &events.Error{Code: events.CodeInvalidRequest, Message: "found 7", Field: "/width", Expected: "a multiple of 8"}
	f := Classify(Evidence{Stage: "load", Device: "CPU", Err: fmt.Errorf("x: %w", bad)})
	require.Equal(t, ClassRequest, f.Class)
	require.False(t, f.Replace)
	require.Equal(t, "/width", f.Err.Field)
	require.Equal(t, "found 7", f.Err.Message)
	require.Equal(t, "CPU", f.Err.Device)
	require.Empty(t, bad.Device)
	// An error of the vocabulary with a cause of the operating system stays what it is.
	missing := events.Errorf(events.CodeModelInvalid, "model folder: %w", &fs.PathError{Op: "open", Path: "x", Err: syscall.ENOENT})
	require.Equal(t, events.CodeModelInvalid, Classify(Evidence{Err: missing}).Err.Code)
}

func TestErrorsOfTheOperatingSystem(t *testing.T) {
	_, notExist := os.Open("/no/such/file")
	for rule, err := range map[string]error{
		"host_disk_full":     fmt.Errorf("write: %w", &fs.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}),
		"host_out_of_memory": fmt.Errorf("memfd: %w", syscall.ENOMEM),
		"host_files":         syscall.EMFILE,
		"host_threads":       syscall.EAGAIN,
		"host_permission":    fs.ErrPermission,
		"host_file_missing":  notExist,
		"host_io":            syscall.EIO,
	} {
		f := Classify(Evidence{Err: err, Device: "CPU"})
		require.Equal(t, rule, f.Rule)
		require.Equal(t, ClassHost, f.Class)
		require.Equal(t, err.Error(), f.Err.Detail)
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]int64{
		"Tried to allocate 264.00 MiB (GPU 0":                         264 << 20,
		"Tried to allocate 1.50 GiB":                                  3 << 29,
		"tried to allocate 512 bytes":                                 512,
		"Tried to allocate 20.00 TiB":                                 20 << 40,
		"requested 2305843008391495680 bytes, but":                    2305843008391495680,
		"requested 9223372036854775808 bytes":                         0, // more than 63 bits
		"Required 123456 bytes, already occupied: 5 bytes":            123456,
		"for requested buffer of size 700":                            700,
		"is smaller than requested bytes of 4096":                     4096,
		"runtime: out of memory: cannot allocate 31195136-byte block": 31195136,
		"tried to allocate all of it":                                 0,
		"":                                                            0,
	} {
		require.Equal(t, want, bytesIn(text, askedForms), text)
	}
	require.EqualValues(t, 2<<30, bytesIn("(GPU 0; 2.00 GiB total capacity; 788.51 MiB already allocated)", limitForms))
	require.EqualValues(t, 6<<30, bytesIn("GPU 0 has a total capacty of 6.00 GiB of which", limitForms))
	for n, want := range map[int64]string{0: "0 bytes", 1023: "1023 bytes", 264 << 20: "264 MiB", 28666553344: "26.7 GiB", 2305843008391495680: "2 EiB"} {
		require.Equal(t, want, sayBytes(n))
	}
}
