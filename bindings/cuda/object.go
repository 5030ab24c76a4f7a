package cuda

import (
	"sync/atomic"

	"genfn/bindings/tensor"
)

// object is what everything that belongs to a device has: one owner who closes it, and users (calls in progress,
// objects made from it) that keep the native object until they are done.
type object struct {
	device *Device
	kind   string
	parent *object // kept until this one is freed; nil for none
	free   func()  // runs on the device's thread; not on a dead device
	record *tensor.Record

	refs   atomic.Int64 // the owner and the users
	closed atomic.Bool
}

// init makes the object live, with free to release it natively, recorded under owner.
func (o *object) init(d *Device, kind, owner string, bytes int64, parent *object, free func()) {
	o.device, o.kind, o.parent, o.free = d, kind, parent, free
	o.record = d.runtime.ledger.Add(kind, owner, bytes)
	if parent != nil {
		parent.refs.Add(1) // the parent is in use by the call that makes this object
	}
	o.refs.Store(1)
}

// use keeps the object from being freed until done. It is an error after Close.
func (o *object) use() error {
	for {
		n := o.refs.Load()
		if n <= 0 || o.closed.Load() {
			return closedError(o.kind)
		}
		if o.refs.CompareAndSwap(n, n+1) {
			return nil
		}
	}
}

// done ends a use.
func (o *object) done() {
	for o != nil && o.refs.Add(-1) == 0 {
		if o.free != nil && o.device.Dead() == nil {
			o.device.run(o.free)
		}
		o.record.Release()
		if o == &o.device.object {
			o.device.end()
		}
		o = o.parent
	}
}

// close gives up the owner's share, once; on a zero object it does nothing.
func (o *object) close() {
	if o.refs.Load() > 0 && o.closed.CompareAndSwap(false, true) {
		o.done()
	}
}
