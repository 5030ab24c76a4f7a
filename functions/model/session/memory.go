package session

import (
	"errors"
	"slices"

	"genfn/bindings/openvino"
	"genfn/functions/device/fault"
)

// What a network holds, and ways to hold less.

// Trim closes all compiled forms that are not in use.
func (n *Network) Trim() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	err := n.free(func(*Executable) bool { return true })
	if len(n.ready) == 0 && n.dynamic != nil {
		err = errors.Join(err, n.dynamic.Close())
		n.dynamic = nil
	}
	if len(n.ready) == 0 {
		err = errors.Join(err, n.onnx.Close())
		n.onnx = nil
	}
	return err
}

// KeepOnly closes the compiled forms of other shapes that are not in use, so that compiling for s adds to nothing. A form
// with open dimensions, which all shapes share, stays.
func (n *Network) KeepOnly(s Shapes) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := s.String()
	return n.free(func(e *Executable) bool { return e.key != key })
}

// TrimIdle closes the compiled forms that are not in use, but for the one that was used last.
func (n *Network) TrimIdle() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.evict(1)
}

// free closes the compiled forms that are not in use and that unwanted picks.
func (n *Network) free(unwanted func(*Executable) bool) error {
	var errs []error
	n.ready = slices.DeleteFunc(n.ready, func(e *Executable) bool {
		if e.busy || !unwanted(e) {
			return false
		}
		errs = append(errs, e.close())
		return true
	})
	return errors.Join(errs...)
}

// evict closes the compiled forms that were not used for longest until at most keep are left; those in use stay.
func (n *Network) evict(keep int) error {
	var errs []error
	for i := 0; i < len(n.ready) && len(n.ready) > keep; {
		if n.ready[i].busy {
			i++
			continue
		}
		errs = append(errs, n.ready[i].close())
		n.ready = slices.Delete(n.ready, i, i+1)
	}
	return errors.Join(errs...)
}

// Renew frees the infer requests, with their buffers, of the compiled forms that are not in use and makes them
// again: what a plugin keeps for a request is then given back. A form whose request cannot be made again is closed.
func (n *Network) Renew() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	n.ready = slices.DeleteFunc(n.ready, func(e *Executable) bool {
		if e.busy {
			return false
		}
		err := e.unbind()
		if err == nil {
			err = e.bind()
		}
		if err == nil {
			return false
		}
		errs = append(errs, err, e.close())
		return true
	})
	return errors.Join(errs...)
}

// Resident returns the bytes of the ledger that belong to compiled forms.
func (n *Network) Resident() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	var total int64
	for _, e := range n.ready {
		for _, b := range e.buffers {
			total += b.bytes()
		}
	}
	return total
}

// unbind frees the request and what is bound to it.
func (e *Executable) unbind() error {
	var errs []error
	for _, f := range slices.Backward(e.closers) {
		errs = append(errs, f())
	}
	e.closers, e.infer, e.buffers = nil, nil, nil
	return errors.Join(errs...)
}

func (e *Executable) close() error {
	err := e.unbind()
	if e.owned != nil {
		err = errors.Join(err, e.owned.Close())
		e.owned = nil
	}
	return err
}

// formAtFault reports whether a failed compilation may be the fault of the form that was compiled, so that another
// form is worth a try: not if memory ran out, or the device or the machine failed, as it would for any form.
func formAtFault(err error, device string) bool {
	var native *openvino.Error
	if !errors.As(err, &native) {
		return true
	}
	f := fault.Classify(fault.Evidence{Runtime: fault.RuntimeOpenVINO, Text: native.Detail, Device: device, Err: err})
	switch f.Class {
	case fault.ClassMemory, fault.ClassHost, fault.ClassTransient:
		return false
	case fault.ClassFatal: // a number is the driver's; words alone may mean anything
		return f.Err.DriverCode == ""
	}
	return true
}
