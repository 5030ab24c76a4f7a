package nvml

import (
	"context"
	"errors"
	"sync"
	"time"

	"genfn/bindings/nvml/internal/capi"
)

// Xids are reports of the kernel driver that something failed on a device, by number:
// https://docs.nvidia.com/deploy/xid-errors
type Xids struct {
	library *Library
	set     capi.EventSet

	mu     sync.Mutex // held by a wait
	closed bool
}

// xidEvents are the events that are Xids.
const xidEvents = 8 // nvmlEventTypeXidCriticalError

// unknownXid is what NVML gives for an Xid that it does not know the number of (nvmlEventData_t).
const unknownXid = 999

// Xids begins to collect the Xids of the device. The caller closes it. On some devices, such as parts of one (MIG), the
// driver does not tell them: ErrNotSupported.
func (d *Device) Xids() (*Xids, error) {
	x := &Xids{}
	if err := d.call("make event set", func(a *capi.API, _ capi.Device) capi.Status {
		if a.Table.EventSetWaitV2 == 0 {
			return capi.FunctionNotFound
		}
		return a.EventSetCreate(&x.set)
	}); err != nil {
		return nil, err
	}
	x.library = d.library
	if err := d.call("register for Xids", func(a *capi.API, d capi.Device) capi.Status { return a.DeviceRegisterEvents(d, xidEvents, x.set) }); err != nil {
		return nil, errors.Join(err, x.Close())
	}
	return x, nil
}

// waitSlice is how long a wait inside the library takes: it cannot be interrupted.
const waitSlice = 100 * time.Millisecond

// Wait returns the number of the next Xid, 999 for one without. It ends early with the error of ctx, within 0.1 s. Of
// several waits at a time one waits for the other.
func (x *Xids) Wait(ctx context.Context) (int, error) {
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		number, found, err := x.poll()
		if err != nil || found {
			return number, err
		}
	}
}

// poll waits for a slice of time.
func (x *Xids) poll() (number int, found bool, err error) {
	const op = "wait for Xids"
	if x == nil {
		return 0, false, closedError(op)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return 0, false, closedError(op)
	}
	e := new(capi.EventData)
	err = x.library.call(op, always, func(a *capi.API) capi.Status { return a.EventSetWaitV2(x.set, e, uint32(waitSlice/time.Millisecond)) })
	if known := (*Error)(nil); errors.As(err, &known) && known.Code == int(capi.Timeout) {
		return 0, false, nil
	}
	if err != nil || e.EventType&xidEvents == 0 {
		return 0, false, err
	}
	return int(min(e.EventData, unknownXid)), true, nil //nolint:gosec // bounded
}

// Close ends the collection. It waits for a wait that is under way, 0.1 s at most, and may be called twice.
func (x *Xids) Close() error {
	if x == nil || x.library == nil {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return nil
	}
	x.closed = true
	err := x.library.call("free event set", always, func(a *capi.API) capi.Status { return a.EventSetFree(x.set) })
	if errors.Is(err, ErrClosed) { // which freed it
		return nil
	}
	return err
}
