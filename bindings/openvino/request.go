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
		code = q.inferWith(ctx, d)
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

// slice is the time from one request to stop an inference to the next, and that of inferences too brief to be stopped.
const slice = 10 * time.Millisecond

// longest is one wait of many for an inference. While a call into C lasts, Go's runtime looks after its thread every 20
// to 100 µs for the first 10 ms, on a processor that the inference needs, and then no more until the call is another:
// waits of 10 ms kept it looking, for 3 % of the inference's CPU time on two cores and as much again for waking up here.
const longest = time.Minute

// inferWith runs an inference until it ends or, some time after ctx does, has been stopped. Only the
// asynchronous form can be, which costs several times as much for a model that computes next to nothing:
// in a compiled model of one stream and one thread OpenVINO ignores a cancel of the other (seen with
// 2024.6 and 2026.4; with more threads it obeys).
func (q *Request) inferWith(ctx context.Context, d *domain) capi.Status {
	if code := d.api.InferRequestStartAsync(q.handle); code != capi.OK {
		return code
	}
	ended, stopped := make(chan struct{}), make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		q.cancel(ended)
	})
	code := capi.ResultNotReady
	for code == capi.ResultNotReady {
		code = d.api.InferRequestWaitFor(q.handle, longest.Milliseconds())
	}
	close(ended)
	if !stop() {
		<-stopped // no cancel comes after the inference it is meant for
	}
	return code
}

// cancel asks the inference to stop, again and again until it has ended: where it does nothing, that runs to its end.
func (q *Request) cancel(ended <-chan struct{}) {
	d := q.runtime.domains.acquireHot()
	defer q.runtime.domains.releaseHot(d)
	ticker := time.NewTicker(slice)
	defer ticker.Stop()
	for {
		d.api.InferRequestCancel(q.handle)
		select {
		case <-ended:
			return
		case <-ticker.C:
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
