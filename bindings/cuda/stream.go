package cuda

import (
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"genfn/bindings/cuda/internal/cudart"
)

// Stream is a queue of work on a device, done in order. Streams do not wait for each other.
type Stream struct {
	object
	handle cudart.Stream
}

// NewStream makes a stream. The caller closes it.
func (d *Device) NewStream(owner string) (*Stream, error) {
	if err := d.use(); err != nil {
		return nil, err
	}
	defer d.done()
	handle := new(cudart.Stream)
	if err := d.call("create stream", func(a *cudart.API) cudart.Status {
		return a.StreamCreateWithFlags(handle, cudart.StreamNonBlocking)
	}); err != nil {
		return nil, err
	}
	s := &Stream{handle: *handle}
	s.init(d, "stream", owner, 0, &d.object, func() {
		_ = d.check(failure(&d.runtime.api, "destroy stream", d.runtime.api.StreamDestroy(s.handle)))
	})
	return s, nil
}

func (s *Stream) use() error {
	if s == nil {
		return closedError("stream")
	}
	return s.object.use()
}

// Handle returns the cudaStream_t, for another library that works in the stream. It is good until Close.
func (s *Stream) Handle() uintptr { return uintptr(s.handle) }

// Close gives the stream up. Work in it goes on.
func (s *Stream) Close() error {
	if s != nil {
		s.close()
	}
	return nil
}

// call makes one call with the stream in use.
func (s *Stream) call(op string, f func(a *cudart.API, stream cudart.Stream) cudart.Status) error {
	if err := s.use(); err != nil {
		return err
	}
	defer s.done()
	return s.device.call(op, func(a *cudart.API) cudart.Status { return f(a, s.handle) })
}

// Synchronize waits until all work in the stream is done, and returns the error of any of it. A kernel that hangs
// hangs it: only the end of the process helps.
func (s *Stream) Synchronize() error {
	return s.call("synchronize stream", (*cudart.API).StreamSynchronize)
}

const notReady cudart.Status = 600

// Idle reports whether all work in the stream is done.
func (s *Stream) Idle() (idle bool, err error) {
	err = s.call("query stream", func(a *cudart.API, stream cudart.Stream) cudart.Status {
		return orNotReady(&idle, a.StreamQuery(stream))
	})
	return idle && err == nil, err
}

// orNotReady takes "not ready" for an answer.
func orNotReady(ready *bool, code cudart.Status) cudart.Status {
	*ready = code != notReady
	if code == notReady {
		return cudart.Success
	}
	return code
}

// Copy queues a copy of src to dst, which have the same size, in either direction or within the device. With pinned
// memory it returns at once; the memory must not change, and not be read, before the stream has done it.
func (s *Stream) Copy(dst, src View) error {
	if dst.bytes != src.bytes {
		return fmt.Errorf("cuda: copy of %d bytes to %d", src.bytes, dst.bytes)
	}
	return s.with(fmt.Sprintf("copy %d bytes", src.bytes), []View{dst, src}, func(a *cudart.API, stream cudart.Stream) cudart.Status {
		return a.MemcpyAsync(dst.address, src.address, cudart.Size(src.bytes), cudart.MemcpyDefault, stream)
	})
}

// Fill queues setting every byte of dst to value.
func (s *Stream) Fill(dst View, value byte) error {
	return s.with(fmt.Sprintf("fill %d bytes", dst.bytes), []View{dst}, func(a *cudart.API, stream cudart.Stream) cudart.Status {
		return a.MemsetAsync(dst.address, int32(value), cudart.Size(dst.bytes), stream)
	})
}

// with makes one call with the stream and memory in use.
func (s *Stream) with(op string, views []View, f func(a *cudart.API, stream cudart.Stream) cudart.Status) error {
	if err := s.use(); err != nil {
		return err
	}
	defer s.done()
	for _, v := range views {
		if err := v.use(s.device); err != nil {
			return err
		}
		defer v.object.done()
	}
	return s.device.call(op, func(a *cudart.API) cudart.Status { return f(a, s.handle) })
}

// Write copies host memory to dst, which has the same size, and waits for it.
func (s *Stream) Write(dst View, src []byte) error {
	return s.copyHost(dst, src, func(a *cudart.API, host cudart.Address, stream cudart.Stream) cudart.Status {
		return a.MemcpyAsync(dst.address, host, cudart.Size(dst.bytes), cudart.MemcpyDefault, stream)
	})
}

// Read copies src to host memory of the same size and waits for it.
func (s *Stream) Read(dst []byte, src View) error {
	return s.copyHost(src, dst, func(a *cudart.API, host cudart.Address, stream cudart.Stream) cudart.Status {
		return a.MemcpyAsync(host, src.address, cudart.Size(src.bytes), cudart.MemcpyDefault, stream)
	})
}

// WriteF32 is Write for float32 values.
func (s *Stream) WriteF32(dst View, src []float32) error { return s.Write(dst, bytesOf(src)) }

// ReadF32 is Read for float32 values.
func (s *Stream) ReadF32(dst []float32, src View) error { return s.Read(bytesOf(dst), src) }

// bytesOf is the memory of values.
func bytesOf(v []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*len(v))
}

func (s *Stream) copyHost(v View, host []byte, f func(a *cudart.API, host cudart.Address, stream cudart.Stream) cudart.Status) error {
	if v.bytes != int64(len(host)) {
		return fmt.Errorf("cuda: copy between %d bytes of the host and %d of the device", len(host), v.bytes)
	}
	if len(host) == 0 {
		return nil
	}
	pinned := pin(&host[0])
	defer pinned.Unpin()
	return s.with(fmt.Sprintf("copy %d bytes", v.bytes), []View{v}, func(a *cudart.API, stream cudart.Stream) cudart.Status {
		if code := f(a, addressOf(&host[0]), stream); code != cudart.Success {
			return code
		}
		return a.StreamSynchronize(stream)
	})
}

// MallocAsync allocates memory of the device's pool for work that is queued in the stream from now on, recorded under
// owner. Closing it frees it after the work that is in the stream then; the stream is kept until then.
func (s *Stream) MallocAsync(owner string, bytes int64) (*Buffer, error) {
	if err := s.use(); err != nil {
		return nil, err
	}
	defer s.done()
	return s.device.malloc(owner, bytes, &s.object,
		func(a *cudart.API, address *cudart.Address, size cudart.Size) cudart.Status {
			return a.MallocAsync(address, size, s.handle)
		},
		func(a *cudart.API, address cudart.Address) cudart.Status { return a.FreeAsync(address, s.handle) })
}

// Event marks a point in a stream.
type Event struct {
	object
	handle cudart.Event
}

// NewEvent makes an event; with timing Elapsed can be asked, which costs a little. The caller closes it.
func (d *Device) NewEvent(owner string, timing bool) (*Event, error) {
	if err := d.use(); err != nil {
		return nil, err
	}
	defer d.done()
	flags := uint32(cudart.EventBlockingSync)
	if !timing {
		flags |= cudart.EventDisableTiming
	}
	handle := new(cudart.Event)
	if err := d.call("create event", func(a *cudart.API) cudart.Status { return a.EventCreateWithFlags(handle, flags) }); err != nil {
		return nil, err
	}
	e := &Event{handle: *handle}
	e.init(d, "event", owner, 0, &d.object, func() {
		_ = d.check(failure(&d.runtime.api, "destroy event", d.runtime.api.EventDestroy(e.handle)))
	})
	return e, nil
}

// Close gives the event up.
func (e *Event) Close() error {
	if e != nil {
		e.close()
	}
	return nil
}

func (e *Event) call(op string, f func(a *cudart.API, event cudart.Event) cudart.Status) error {
	if e == nil {
		return closedError("event")
	}
	if err := e.use(); err != nil {
		return err
	}
	defer e.done()
	return e.device.call(op, func(a *cudart.API) cudart.Status { return f(a, e.handle) })
}

// Record marks the point that the stream has reached now.
func (s *Stream) Record(e *Event) error {
	return e.call("record event", func(a *cudart.API, event cudart.Event) cudart.Status { return a.EventRecord(event, s.handle) })
}

// Wait has the work that is queued from now on wait for the event.
func (s *Stream) Wait(e *Event) error {
	return e.call("wait for event", func(a *cudart.API, event cudart.Event) cudart.Status { return a.StreamWaitEvent(s.handle, event, 0) })
}

// Synchronize waits until the event's point is reached. Without a Record there is nothing to wait for.
func (e *Event) Synchronize() error {
	return e.call("synchronize event", (*cudart.API).EventSynchronize)
}

// Reached reports whether the event's point is reached.
func (e *Event) Reached() (reached bool, err error) {
	err = e.call("query event", func(a *cudart.API, event cudart.Event) cudart.Status {
		return orNotReady(&reached, a.EventQuery(event))
	})
	return reached && err == nil, err
}

// Elapsed returns the time from the point of e to that of end, both reached; it counts in half microseconds.
func (e *Event) Elapsed(end *Event) (time.Duration, error) {
	if end == nil {
		return 0, closedError("event")
	}
	if err := end.use(); err != nil {
		return 0, err
	}
	defer end.done()
	ms := new(float32)
	err := e.call("get elapsed time", func(a *cudart.API, event cudart.Event) cudart.Status {
		return a.EventElapsedTime(ms, event, end.handle)
	})
	return time.Duration(float64(*ms) * float64(time.Millisecond)), err
}

// pin keeps what p points to where it is until Unpin.
func pin[T any](p *T) *runtime.Pinner {
	pinner := new(runtime.Pinner)
	pinner.Pin(p)
	return pinner
}

// addressOf is the address of memory that is pinned.
func addressOf[T any](p *T) cudart.Address { return cudart.Address(uintptr(unsafe.Pointer(p))) }
