package openvino

import (
	"context"
	"fmt"
	"sync"
	"time"

	"genfn/bindings/openvino/internal/capi"
)

// Request runs inferences of a compiled model, one at a time.
type Request struct {
	object
	handle capi.InferRequest
	name   string

	mu              sync.Mutex    // held during an inference
	inputs, outputs []*Tensor     // set by the caller, kept from being freed; nil where not set
	took            time.Duration // by the last inference with these tensors; 0: there was none
}

func (q *Request) use() error {
	if q == nil {
		return closedError("request")
	}
	return q.object.use()
}

// Close frees the request, after the inference in progress if there is one.
func (q *Request) Close() error {
	if q != nil {
		q.close()
	}
	return nil
}

func (q *Request) letGo() {
	for _, tensors := range [][]*Tensor{q.inputs, q.outputs} {
		for _, t := range tensors {
			if t != nil {
				t.done()
			}
		}
	}
}

// SetInput makes t the i-th input of the following inferences. The request shares t's memory and keeps
// it until another tensor takes its place or the request is closed, even if t is closed before.
func (q *Request) SetInput(i int, t *Tensor) error {
	return q.set("input", i, t, true)
}

// SetOutput makes t the i-th output: the following inferences write into it. It is kept as an input is.
func (q *Request) SetOutput(i int, t *Tensor) error {
	return q.set("output", i, t, false)
}

func (q *Request) set(what string, i int, t *Tensor, input bool) error {
	if err := q.use(); err != nil {
		return err
	}
	defer q.done()
	if !q.mu.TryLock() {
		return fmt.Errorf("openvino: set %s %d of %s: %w", what, i, q.name, ErrBusy)
	}
	defer q.mu.Unlock()
	slots := q.outputs
	if input {
		slots = q.inputs
	}
	if i < 0 || i >= len(slots) {
		return fmt.Errorf("openvino: %s has no %s %d: it has %d", q.name, what, i, len(slots))
	}
	if err := t.use(); err != nil {
		return err
	}
	d := q.runtime.domains.acquireHot()
	var code capi.Status
	if input {
		code = d.api.InferRequestSetInputTensorByIndex(q.handle, capi.Size(i), t.handle)
	} else {
		code = d.api.InferRequestSetOutputTensorByIndex(q.handle, capi.Size(i), t.handle)
	}
	if code != capi.OK {
		err := d.failure(fmt.Sprintf("set %s %d of %s", what, i, q.name), code)
		q.runtime.domains.releaseHot(d)
		t.done()
		return err
	}
	q.runtime.domains.releaseHot(d)
	previous := slots[i]
	slots[i] = t // its use passes to the slot
	if previous != t {
		q.took = 0
	}
	if previous != nil {
		previous.done()
	}
	return nil
}

// Infer runs the model. When ctx ends first, the inference is asked to stop and the error wraps ctx's;
// that happens between two operations on the CPU, and not at all on devices that cannot, nor for an
// inference whose last run with the same tensors took less than 10 ms. Infer always
// returns after the inference has ended.
func (q *Request) Infer(ctx context.Context) error {
	if err := q.use(); err != nil {
		return err
	}
	defer q.done()
	if !q.mu.TryLock() {
		return fmt.Errorf("openvino: infer %s: %w", q.name, ErrBusy)
	}
	defer q.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("openvino: infer %s: %w", q.name, err)
	}
	d := q.runtime.domains.acquireHot()
	defer q.runtime.domains.releaseHot(d)
	began := time.Now()
	var code capi.Status
	if brief := q.took > 0 && q.took < slice; brief || ctx.Done() == nil {
		code = d.api.InferRequestInfer(q.handle)
	} else {
		code = d.inferWith(ctx, q.handle)
	}
	q.took = time.Since(began)
	if code == capi.OK {
		return nil
	}
	q.took = 0
	err := d.failure("infer "+q.name, code)
	err.cause = ctx.Err()
	return err
}

// slice is how long a wait for an inference lasts before ctx is looked at again.
const slice = 10 * time.Millisecond

// inferWith runs an inference until it ends or, some time after ctx does, has been stopped. Only the
// asynchronous form can be, which costs several times as much for a model that computes next to nothing:
// in a compiled model of one stream and one thread OpenVINO ignores a cancel of the other (seen with
// 2024.6 and 2026.4; with more threads it obeys).
func (d *domain) inferWith(ctx context.Context, request capi.InferRequest) capi.Status {
	if code := d.api.InferRequestStartAsync(request); code != capi.OK {
		return code
	}
	for {
		code := d.api.InferRequestWaitFor(request, slice.Milliseconds())
		if code != capi.ResultNotReady {
			return code
		}
		if ctx.Err() != nil {
			d.api.InferRequestCancel(request) // where it does nothing, the inference runs to its end
		}
	}
}

// Output returns the i-th output of the last inference: the tensor set for it, or the request's own,
// whose elements are good until the next inference. The caller closes the Tensor.
func (q *Request) Output(i int) (*Tensor, error) {
	if err := q.use(); err != nil {
		return nil, err
	}
	defer q.done()
	if !q.mu.TryLock() {
		return nil, fmt.Errorf("openvino: output %d of %s: %w", i, q.name, ErrBusy)
	}
	defer q.mu.Unlock()
	if i < 0 || i >= len(q.outputs) {
		return nil, fmt.Errorf("openvino: %s has no output %d: it has %d", q.name, i, len(q.outputs))
	}
	handle := new(capi.Tensor)
	if err := q.runtime.call(fmt.Sprintf("output %d of %s", i, q.name), func(a *capi.API) capi.Status {
		return a.InferRequestGetOutputTensorByIndex(q.handle, capi.Size(i), handle)
	}); err != nil {
		return nil, err
	}
	return q.runtime.newTensor(*handle, q.name, &q.object, nil)
}
