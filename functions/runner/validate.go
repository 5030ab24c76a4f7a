package runner

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"genfn/bindings/openvino"
	"genfn/bindings/tensor"
	"genfn/events"
	"genfn/functions/device/tuning"
	"genfn/functions/device/virtualgpu"
	"genfn/functions/runner/protocol"
)

// Checks of a device's validation, in their order.
const (
	checkDriver      = "driver"
	checkProperties  = "properties"
	checkMemory      = "memory"
	checkComputation = "computation"
)

// minDeviceMemory is what a device must have free to be worth a try: the smallest useful models need more.
const minDeviceMemory = 64 << 20

// validate looks at a device before any model is loaded: what it and its driver say of themselves, whether it has
// the properties it is to be used with, its memory, and whether it computes right. It goes on after a failed check
// as far as that makes sense, so that all that is wrong is told at once.
func (e *openVINO) validate(core *openvino.Core, device string) *protocol.Validation {
	v := newValidation(device)
	name, err := core.Property(device, "FULL_DEVICE_NAME")
	v.Name = name
	if err == nil {
		v.Driver = driverOf(core.Property, device)
	}
	if !v.check(checkDriver, describeDriver(core.Property, device, name, v.Driver), err) {
		return v.Validation
	}
	plan, err := e.checkProperties(core, device)
	v.Properties, v.Tuning = plan.Properties, plan.Settings
	v.check(checkProperties, fmt.Sprintf("%d set", len(v.Properties)), err)
	v.Memory, err = deviceMemory(core.Property, device, v.Class)
	v.check(checkMemory, describeMemory(v.Memory), errors.Join(err, enough(v.Memory)))
	v.check(checkComputation, "a product of matrices is right to the last value", e.compute(core, device))
	return v.Validation
}

// validation is one that is being made.
type validation struct {
	*protocol.Validation
	device string
}

func newValidation(device string) validation {
	memory := protocol.DeviceMemory{Total: unknownBytes, Used: unknownBytes, Free: unknownBytes}
	return validation{&protocol.Validation{Class: events.ClassOf(device), Memory: memory}, device}
}

// check adds a check, with err in place of the detail if it failed. It returns whether it did not.
func (v validation) check(name, detail string, err error) bool {
	c := events.DeviceCheck{Name: name, OK: err == nil, Detail: detail}
	if err != nil {
		c.Detail = err.Error()
		if v.Error == nil {
			v.Error = classify(err, "validate "+name, v.device).Err
		}
	}
	v.Checks = append(v.Checks, c)
	return err == nil
}

// enough returns gpu_out_of_memory if too little is free to begin with.
func enough(m protocol.DeviceMemory) error {
	if m.Free < 0 || m.Free >= minDeviceMemory {
		return nil
	}
	return events.Errorf(events.CodeGPUOutOfMemory, "%d MiB of %d MiB are free before anything is loaded", m.Free>>20, m.Total>>20)
}

// checkProperties plans how the device is used, and returns an error for a configured property that it does not have, or
// does not take with that value.
func (e *openVINO) checkProperties(core *openvino.Core, device string) (tuning.Plan, error) {
	supported, err := core.SupportedProperties(device)
	if err != nil {
		return tuning.Plan{}, err
	}
	plan, err := e.plan(core.Property, device, supported)
	if err != nil {
		return plan, err
	}
	for _, key := range slices.Sorted(maps.Keys(e.hello.Properties)) {
		if err := core.SetProperty(device, key, e.hello.Properties[key]); err != nil {
			f := events.Errorf(events.CodeInvalidRequest, "the device %s does not take the property %s=%s", device, key, e.hello.Properties[key])
			f.Field, f.Expected, f.Detail, f.Cause = "property", "a value that OpenVINO's manual lists for it", err.Error(), err
			f.Advice = "Leave it out, or give another value; some properties can only be read."
			return plan, f
		}
	}
	return plan, nil
}

// unknownBytes says that a driver does not tell a count of bytes.
const unknownBytes = -1

// deviceMemory asks the device for its memory. Where the driver gives no free count, what this process does not
// use counts as free. The counts are those of the core that property asks: each has its own context.
func deviceMemory(property properties, device, class string) (protocol.DeviceMemory, error) {
	m := protocol.DeviceMemory{Total: unknownBytes, Used: unknownBytes, Free: unknownBytes}
	if class != events.DeviceGPU {
		return m, nil // that of the host, which the instance watches
	}
	total, err := property(device, "GPU_DEVICE_TOTAL_MEM_SIZE")
	if err != nil {
		return m, err
	}
	if m.Total, err = strconv.ParseInt(strings.TrimSpace(total), 10, 64); err != nil {
		return m, fmt.Errorf("device memory of %s: %w", device, err)
	}
	if own, ok := virtualgpu.OwnMemory(device); ok {
		m.Used = own.Current
	} else if statistics, err := property(device, "GPU_MEMORY_STATISTICS"); err == nil { // older drivers do not have it
		m.Used = sumStatistics(statistics)
	}
	if m.Used >= 0 {
		m.Free = max(0, m.Total-m.Used)
	}
	return m, nil
}

// sumStatistics adds up what GPU_MEMORY_STATISTICS lists by kind of allocation: "{cl_mem:12,usm_device:34}".
// The plugin's words have differed between releases, so every number after a colon counts.
func sumStatistics(text string) (sum int64) {
	for _, field := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune("{}, ;\n", r) }) {
		_, number, ok := strings.Cut(field, ":")
		if !ok {
			number = field
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64); err == nil {
			sum += n
		}
	}
	return sum
}

func describeMemory(m protocol.DeviceMemory) string {
	switch {
	case m.Total < 0:
		return "that of the host"
	case m.Used < 0:
		return fmt.Sprintf("%d MiB, the driver does not tell how much is free", m.Total>>20)
	}
	return fmt.Sprintf("%d MiB, %d MiB of it free as far as this process knows", m.Total>>20, m.Free>>20)
}

// validationSide is the side of the matrices of the known computation.
const validationSide = 32

// validationIR is y = relu(x·w), in OpenVINO's IR version 11: x and y f32[n,n], w a constant f32[n,n].
const validationIR = `<?xml version="1.0"?>
<net name="genfn_validation" version="11">
 <layers>
  <layer id="0" name="x" type="Parameter" version="opset1"><data shape="32,32" element_type="f32"/>
   <output><port id="0" precision="FP32" names="x"><dim>32</dim><dim>32</dim></port></output></layer>
  <layer id="1" name="w" type="Const" version="opset1"><data element_type="f32" shape="32,32" offset="0" size="4096"/>
   <output><port id="0" precision="FP32"><dim>32</dim><dim>32</dim></port></output></layer>
  <layer id="2" name="xw" type="MatMul" version="opset1"><data transpose_a="false" transpose_b="false"/>
   <input><port id="0" precision="FP32"><dim>32</dim><dim>32</dim></port><port id="1" precision="FP32"><dim>32</dim><dim>32</dim></port></input>
   <output><port id="2" precision="FP32"><dim>32</dim><dim>32</dim></port></output></layer>
  <layer id="3" name="y" type="ReLU" version="opset1">
   <input><port id="0" precision="FP32"><dim>32</dim><dim>32</dim></port></input>
   <output><port id="1" precision="FP32" names="y"><dim>32</dim><dim>32</dim></port></output></layer>
  <layer id="4" name="result" type="Result" version="opset1">
   <input><port id="0" precision="FP32"><dim>32</dim><dim>32</dim></port></input></layer>
 </layers>
 <edges>
  <edge from-layer="0" from-port="0" to-layer="2" to-port="0"/>
  <edge from-layer="1" from-port="0" to-layer="2" to-port="1"/>
  <edge from-layer="2" from-port="2" to-layer="3" to-port="0"/>
  <edge from-layer="3" from-port="1" to-layer="4" to-port="0"/>
 </edges>
</net>
`

// validationValue is a multiple of 1/8 of at most 5/8: sums of 32 products of two of them are exact in f16 too,
// so every precision must give the same.
func validationValue(i, j, seed int) float32 { return float32((i*7+j*3+seed)%11-5) / 8 }

// compute runs a small known computation on the device and compares every value of its result.
func (e *openVINO) compute(core *openvino.Core, device string) (err error) {
	path, err := writeValidation()
	if err != nil {
		return err
	}
	defer os.RemoveAll(filepath.Dir(path))
	model, err := core.ReadModel(path, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	compiled, err := core.Compile(model, device, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, compiled.Close()) }()
	request, err := compiled.NewRequest()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, request.Close()) }()
	x, err := e.runtime.NewTensor("validation", tensor.F32, tensor.Shape{validationSide, validationSide})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, x.Close()) }()
	for i, values := 0, x.F32(); i < len(values); i++ {
		values[i] = validationValue(i/validationSide, i%validationSide, 0)
	}
	if err := request.SetInput(0, x); err != nil {
		return err
	}
	if err := request.Infer(context.Background()); err != nil { // a hang is for the instance to find
		return err
	}
	y, err := request.Output(0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, y.Close()) }()
	return compareProduct(y.F32())
}

// compareProduct returns numerical_error for the first value that is wrong.
func compareProduct(y []float32) error {
	if len(y) != validationSide*validationSide {
		return wrong("the known computation gave %d values, expected %d", len(y), validationSide*validationSide)
	}
	for i, got := range y {
		var want float32
		for k := range validationSide {
			want += validationValue(i/validationSide, k, 0) * validationValue(k, i%validationSide, 5)
		}
		if want = max(want, 0); got != want {
			return wrong("the known computation is wrong at %d,%d: %g, expected %g", i/validationSide, i%validationSide, got, want)
		}
	}
	return nil
}

// wrong is the numerical_error of a device that cannot be trusted.
func wrong(format string, args ...any) error {
	e := events.Errorf(events.CodeNumericalError, format, args...)
	e.Advice = "Do not use the device: reset it or restart its machine, and update its driver. If it stays so, its memory or the device itself is damaged."
	return e
}

// writeValidation writes the network of the known computation to a folder of its own and returns the .xml.
func writeValidation() (string, error) {
	dir, err := os.MkdirTemp("", "genfn-validation-")
	if err != nil {
		return "", fmt.Errorf("folder for the device's validation: %w", err)
	}
	weights := make([]byte, 0, 4*validationSide*validationSide)
	for i := range validationSide * validationSide {
		weights = binary.LittleEndian.AppendUint32(weights, math.Float32bits(validationValue(i/validationSide, i%validationSide, 5)))
	}
	path := filepath.Join(dir, "validation.xml")
	err = errors.Join(os.WriteFile(path, []byte(validationIR), 0o600), os.WriteFile(filepath.Join(dir, "validation.bin"), weights, 0o600))
	if err != nil {
		return "", errors.Join(fmt.Errorf("the device's validation: %w", err), os.RemoveAll(dir))
	}
	return path, nil
}
