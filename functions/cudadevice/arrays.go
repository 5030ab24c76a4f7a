package cudadevice

import (
	"encoding/binary"
	"errors"
	"io"

	"genfn/bindings/cuda"
	"genfn/bindings/kernels"
)

// word is the size of an array's values in bytes.
const word = 4

// Arrays are arrays of float32 values in the device's memory, which are freed together. Work on them is queued in the
// device's stream, so failures of kernels show in a later call, and in Counted, Fetch and Close at the latest. Not safe for
// concurrent use.
type Arrays struct {
	device  *Device
	made    []io.Closer
	count   *counter
	picture *cuda.Buffer // of Image
}

// counter is how many values were not finite: on the device, and on its way to the host.
type counter struct {
	device *cuda.Buffer
	host   *cuda.HostBuffer
	told   *cuda.Event
}

// NewArrays returns no arrays yet. The caller closes them.
func (d *Device) NewArrays() *Arrays { return &Arrays{device: d} }

// Close frees all arrays, after the work that uses them. It may be called twice.
func (a *Arrays) Close() error {
	var errs []error
	for _, b := range a.made {
		errs = append(errs, b.Close())
	}
	a.made, a.count, a.picture = nil, nil, nil
	return errors.Join(errs...)
}

// keep has Close close what was made.
func keep[C io.Closer](a *Arrays, c C, err error) (C, error) {
	if err == nil {
		a.made = append(a.made, c)
	}
	return c, err
}

// Do runs f on the device's thread, so that its calls switch no threads. f must not wait for anything but the device.
func (a *Arrays) Do(f func() error) error { return a.device.device.Do(f) }

func (a *Arrays) malloc(owner string, bytes int64) (*cuda.Buffer, error) {
	b, err := a.device.device.Malloc(owner, bytes)
	return keep(a, b, err)
}

// Make allocates an array of n values, whose content is not defined.
func (a *Arrays) Make(n int) (cuda.View, error) {
	b, err := a.malloc("array", int64(n)*word)
	if err != nil {
		return cuda.View{}, err
	}
	return b.All(), nil
}

// Len is the number of values of an array, 0 for the zero View.
func (a *Arrays) Len(v cuda.View) int { return int(v.Bytes()) / word }

// Slice is n values of an array, from one on. What lies outside of it is no array: its use is an error.
func (a *Arrays) Slice(v cuda.View, from, n int) cuda.View {
	s, err := v.Slice(int64(from)*word, int64(n)*word)
	if err != nil {
		return cuda.View{}
	}
	return s
}

// Copy queues a copy of src to dst.
func (a *Arrays) Copy(dst, src cuda.View) error { return a.device.stream.Copy(dst, src) }

// Write copies values of the host to dst, and waits for it.
func (a *Arrays) Write(dst cuda.View, src []float32) error { return a.device.stream.WriteF32(dst, src) }

// Fetch copies an array to the host, after the work in the stream.
func (a *Arrays) Fetch(v cuda.View) ([]float32, error) {
	out := make([]float32, a.Len(v))
	return out, a.device.stream.ReadF32(out, v)
}

// Step queues one scheduler step.
func (a *Arrays) Step(args *kernels.DeviceStepArgs) error {
	return a.device.kernels.Step(a.device.stream, args)
}

// Scale queues dst = src*mul + add.
func (a *Arrays) Scale(dst, src cuda.View, mul, add float32) error {
	return a.device.kernels.Scale(a.device.stream, dst, src, mul, add)
}

// OnHost fetches arrays, has f change them and writes them back.
func (a *Arrays) OnHost(f func(values ...[]float32), arrays ...cuda.View) error {
	values := make([][]float32, len(arrays))
	var err error
	for i, v := range arrays {
		if values[i], err = a.Fetch(v); err != nil {
			return err
		}
	}
	f(values...)
	for i, v := range arrays {
		if err := a.Write(v, values[i]); err != nil {
			return err
		}
	}
	return nil
}

// Count queues counting the values of an array that are NaN or infinite, and telling the host, which does not wait.
func (a *Arrays) Count(v cuda.View) error {
	if a.count == nil {
		if err := a.openCounter(); err != nil {
			return err
		}
	}
	c, stream := a.count, a.device.stream
	if err := a.device.kernels.CountNonFinite(stream, c.device.All(), v); err != nil {
		return err
	}
	if err := stream.Copy(c.host.All(), c.device.All()); err != nil {
		return err
	}
	return stream.Record(c.told)
}

func (a *Arrays) openCounter() (err error) {
	c := &counter{}
	d := a.device.device
	if c.device, err = a.malloc("counter", 8); err != nil {
		return err
	}
	if c.host, err = d.MallocHost("counter", 8); err != nil {
		return err
	}
	a.made = append(a.made, c.host)
	if c.told, err = d.NewEvent("counter", false); err != nil {
		return err
	}
	a.made = append(a.made, c.told)
	a.count = c
	return nil
}

// Counted returns the last Count once it is told. Without wait it is not asked for.
func (a *Arrays) Counted(wait bool) (n int, known bool, err error) {
	c := a.count
	if c == nil {
		return 0, false, errors.New("cudadevice: Counted before Count")
	}
	if !wait {
		return 0, false, nil
	}
	if err := c.told.Synchronize(); err != nil {
		return 0, false, err
	}
	return int(binary.NativeEndian.Uint64(c.host.Bytes())), true, nil //nolint:gosec // at most the length of an array
}

// Image fetches an image of 3 x height x width values as bytes of height x width x 3, as kernels.Set.ImageToU8 makes them.
func (a *Arrays) Image(src cuda.View, height, width int) ([]byte, error) {
	n := int64(3 * height * width)
	if a.picture == nil || a.picture.Bytes() != n {
		b, err := a.malloc("picture", n)
		if err != nil {
			return nil, err
		}
		a.picture = b
	}
	if err := a.device.kernels.ImageToU8(a.device.stream, a.picture.All(), src, 3, height, width); err != nil {
		return nil, err
	}
	pixels := make([]byte, n)
	return pixels, a.device.stream.Read(pixels, a.picture.All())
}
