package fault

import (
	"slices"
	"strings"
	"sync"

	"genfn/events"
)

// row is one thing that is known: how a runtime says it, what it means, and where that is known from.
type row struct {
	name    string   // unique over all tables
	status  []int    // the runtime's numbers for it
	names   []string // the runtime's names for those numbers, as they stand in texts
	texts   []string // parts of its words in lower case, any of which tells it, whoever passed them on
	verdict verdict
	title   string // for people; "": that of the code
	message string // for people; {device} is the device
	advice  string // for people; "": that of the code
	source  string // where the meaning is known from
}

// table is what is known of one runtime.
type table struct {
	runtime Runtime
	rows    []row
}

// tables are all that is known. The words are tried in this order, from the particular to the general.
func tables() []table {
	return []table{
		{RuntimeOpenVINO, openvinoRows}, {RuntimeOpenCL, openclRows}, {RuntimeCUDA, cudaRows}, {runtimeCUDALibrary, cudaLibraryRows},
		{RuntimeNVRTC, nvrtcRows}, {RuntimeONNXRuntime, onnxruntimeRows}, {RuntimeNVML, nvmlRows}, {RuntimeXid, xidRows},
		{runtimeHost, hostRows}, {runtimeAny, generalRows},
	}
}

// Tables that no Evidence.Runtime asks for by number.
const (
	runtimeCUDALibrary Runtime = "cuda_library" // cuBLAS and cuDNN, which ONNX Runtime calls
	runtimeHost        Runtime = "host"
	runtimeAny         Runtime = "any"
)

// index finds rows.
type index struct {
	status map[Runtime]map[int]*row
	names  map[string]*row
	texts  []textRow
}

type textRow struct {
	runtime Runtime
	text    string
	row     *row
}

var rows = sync.OnceValue(func() index {
	x := index{status: map[Runtime]map[int]*row{}, names: map[string]*row{}}
	for _, t := range tables() {
		x.status[t.runtime] = map[int]*row{}
		for i := range t.rows {
			r := &t.rows[i]
			for _, status := range r.status {
				x.status[t.runtime][status] = r
			}
			for _, name := range r.names {
				x.names[name] = r
			}
			for _, text := range r.texts {
				x.texts = append(x.texts, textRow{t.runtime, text, r})
			}
		}
	}
	return x
})

// byText returns the first row whose words are in text, nil if there is none.
func (x index) byText(text string) *row { return firstIn(x.texts, text) }

// byTextOf is byText among the rows of one runtime.
func (x index) byTextOf(runtime Runtime, text string) *row {
	return firstIn(slices.DeleteFunc(slices.Clone(x.texts), func(t textRow) bool { return t.runtime != runtime }), text)
}

func firstIn(texts []textRow, text string) *row {
	text = strings.ToLower(text)
	for _, t := range texts {
		if strings.Contains(text, t.text) {
			return t.row
		}
	}
	return nil
}

// The verdicts that many rows share.
var (
	contextLost = verdict{ClassFatal, ActionFreshRunner, true, events.CodeDeviceLost}
	needsReset  = verdict{ClassFatal, ActionOtherDevice, true, events.CodeDeviceLost}
	gpuError    = verdict{ClassFatal, ActionFreshRunner, true, events.CodeGPURuntimeError}
	ownMistake  = verdict{ClassFatal, ActionFreshRunner, true, events.CodeInternal}

	noRoom      = verdict{ClassMemory, ActionLadder, false, events.CodeGPUOutOfMemory} // refused before any work
	noRoomDirty = verdict{ClassMemory, ActionLadder, true, events.CodeGPUOutOfMemory}  // in the middle of work
	hostMemory  = verdict{ClassHost, ActionLadder, true, events.CodeHostOutOfMemory}

	notNow      = verdict{ClassTransient, ActionRetry, false, events.CodeDeviceUnavailable}
	noDevice    = verdict{ClassHost, ActionOtherDevice, true, events.CodeDeviceUnavailable}
	hostTrouble = verdict{ClassHost, ActionOtherDevice, true, events.CodeInternal}
	badModel    = verdict{ClassHost, ActionReject, false, events.CodeModelInvalid}

	unsupported = verdict{ClassRequest, ActionOtherDevice, false, events.CodeModelLoadFailed}
	refused     = verdict{ClassRequest, ActionReject, false, events.CodeInvalidRequest}
	stopped     = verdict{ClassStopped, ActionNone, false, events.CodeCancelled}
)

// Advice that many rows share.
const (
	adviceMoment  = "Send the request again in a moment. If it stays so, look at the state of the device with genfn devices."
	adviceSmaller = "Try a smaller size, fewer images, or a guidance scale of 1, which halves the work of each step. " +
		"Or allow the CPU as a fallback, or serve the model on a device with more memory."
	adviceHostMemory = "Try a smaller size or fewer images, or give the machine or the container of the instance more memory; with several slots, serve with fewer."
	adviceDriver     = "Send the request again. If it keeps happening, update the driver of the device, or serve the model on another one."
	adviceReset      = "Reset the device or restart its machine, and send the request again. Until then serve the model on another device."
	adviceInstall    = "Install or repair the driver of the device on the instance's machine (genfn devices lists what is usable there), or serve the model on another device."
	adviceOther      = "Serve the model on another device (genfn instance --device CPU), or export it again for this one."
	adviceModel      = "Export or copy the model folder again; genfn model check tells what is wrong with it."
)
