package onnxruntime

import (
	"genfn/bindings/tensor"
)

// object is what every native object has: one owner who closes it, and users (calls in progress, objects made from it)
// that keep the native memory until they are done. So objects may be closed in any order and during calls, and a use
// after Close is an error, never a crash.
type object struct {
	runtime *Runtime
	kind    string
	parent  *object // kept until this one is freed; nil for none
	free    func()
	record  *tensor.Record
	shares  tensor.Shares
}

// init makes the object live, with free to release it natively, recorded under owner. parent is in use by the call that
// makes this object.
func (o *object) init(r *Runtime, kind, owner string, parent *object, free func()) {
	o.runtime, o.kind, o.parent, o.free = r, kind, parent, free
	o.record = r.ledger.Add(kind, owner, 0)
	if parent != nil {
		parent.shares.Add()
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
		o.free()
		o.record.Release()
		o = o.parent
	}
}

// close gives up the owner's share, once; on a zero object it does nothing.
func (o *object) close() {
	if o.shares.Close() {
		o.done()
	}
}
