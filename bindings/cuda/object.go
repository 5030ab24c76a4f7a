package cuda

import (
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
	shares tensor.Shares
}

// init makes the object live, with free to release it natively, recorded under owner.
func (o *object) init(d *Device, kind, owner string, bytes int64, parent *object, free func()) {
	o.device, o.kind, o.parent, o.free = d, kind, parent, free
	o.record = d.runtime.ledger.Add(kind, owner, bytes)
	if parent != nil {
		parent.shares.Add() // the parent is in use by the call that makes this object
	}
	o.shares.Own()
}

// use keeps the object from being freed until done. It is an error after Close.
func (o *object) use() error {
	if !o.shares.Use() {
		return closedError(o.kind)
	}
	return nil
}

// done ends a use.
func (o *object) done() {
	for o != nil && o.shares.Done() {
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
	if o.shares.Close() {
		o.done()
	}
}
