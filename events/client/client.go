// Package client sends generation requests and reads their answers: Publish a
// request, Follow its events or Wait for its end, and Fetch the artefacts.
//
// Errors the server or a publisher's rule gives are *events.Error, in words for
// people and codes for programs.
package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"genfn/events"
	"genfn/events/broker"
)

// Options of a Client. The zero value is usable.
type Options struct {
	Tenant string // "": broker.DefaultTenant
	Source string // CloudEvents source of the requests; "": "/genfn/client"
}

// Client sends requests of one tenant. Safe for concurrent use.
type Client struct {
	b      *broker.Broker
	tenant string
	source string
}

// New returns a client that uses b, which stays the caller's.
func New(b *broker.Broker, o Options) *Client {
	c := &Client{b: b, tenant: o.Tenant, source: o.Source}
	if c.tenant == "" {
		c.tenant = broker.DefaultTenant
	}
	if c.source == "" {
		c.source = "/genfn/client"
	}
	return c
}

// Request is what Publish sends. Only Data is needed.
type Request struct {
	ID       string          // "": a new one; 1 to 64 of A-Z a-z 0-9 _ -
	Type     string          // "": events.TypeImageGenerate
	Priority broker.Priority // "": broker.Interactive
	Lane     broker.Lane     // "": that of the device the data ask for
	Data     any             // becomes JSON; names the model in its member "model"
	Expiry   time.Time       // nobody wants the answer after this; zero: no limit

	// Inputs are files that the request refers to. Each is uploaded first, and
	// the member of the data with the name of its key then refers to it.
	Inputs map[string]Input

	CorrelationID, CausationID, TraceParent string // CloudEvents extensions; ""
}

// Input is a file for the function.
type Input struct {
	Name      string // in the object store; "": the key in Request.Inputs
	MediaType string // "": application/octet-stream
	Data      []byte
}

// Publish uploads the inputs and queues the request. When it returns without an
// error the request is stored and will be answered. Errors: invalid_request for
// what could not succeed (the field, what it may be; an id that is in use; an
// event that is too large), queue_full, permission_denied, device_unavailable if
// no streams exist yet, and internal if the server cannot be reached.
func (c *Client) Publish(ctx context.Context, r Request) (id string, err error) {
	isNew := r.ID == ""
	if isNew {
		r.ID = events.NewID()
	}
	if err := c.publish(ctx, r, isNew); err != nil {
		return "", err
	}
	return r.ID, nil
}

// publish publishes a request that has an id, new or not.
func (c *Client) publish(ctx context.Context, r Request, isNew bool) error {
	e, address, err := c.build(&r)
	if err != nil {
		return err
	}
	if len(r.Inputs) > 0 {
		if e, err = c.upload(ctx, r, e, address.ID); err != nil {
			return err
		}
	}
	if err := events.Validate(e); err != nil {
		return err
	}
	if !isNew { // a new id cannot be taken
		if err := c.checkUnanswered(ctx, r.ID); err != nil {
			return err
		}
	}
	return c.b.PublishRequest(ctx, address, e)
}

// build makes the event without its inputs, and where to publish it.
func (c *Client) build(r *Request) (events.Event, broker.Address, error) {
	if r.Type == "" {
		r.Type = events.TypeImageGenerate
	}
	if r.Priority == "" {
		r.Priority = broker.Interactive
	}
	kind, ok := events.KindOf(r.Type)
	if !ok {
		e := events.Errorf(events.CodeInvalidRequest, "%q is not a type of request", r.Type)
		e.Field, e.Expected = "type", "a request type such as "+events.TypeImageGenerate
		return events.Event{}, broker.Address{}, e
	}
	e, err := events.NewRequest(r.Type, c.meta(r, r.ID), r.Data)
	if err != nil {
		return events.Event{}, broker.Address{}, err
	}
	var named struct {
		Model  string `json:"model"`
		Device string `json:"device"`
	}
	if err := json.Unmarshal(e.Data(), &named); err != nil || !events.ValidModel(named.Model) {
		e := events.Errorf(events.CodeInvalidRequest, "the data names the model %q", named.Model)
		e.Field, e.Expected = "/model", "the name of a model: a letter or digit, then up to 63 of A-Z a-z 0-9 . _ -"
		return events.Event{}, broker.Address{}, e
	}
	if r.Lane == "" {
		r.Lane = broker.LaneOf(named.Device)
	}
	return e, broker.Address{Pool: events.PoolToken(kind, named.Model), Lane: r.Lane, Priority: r.Priority, Tenant: c.tenant, ID: r.ID}, nil
}

func (c *Client) meta(r *Request, id string) events.Meta {
	return events.Meta{
		RequestID: id, Source: c.source, ExpiryTime: r.Expiry,
		CorrelationID: r.CorrelationID, CausationID: r.CausationID, TraceParent: r.TraceParent,
	}
}

// upload stores the inputs and returns the event with references to them.
func (c *Client) upload(ctx context.Context, r Request, e events.Event, id string) (events.Event, error) {
	var members map[string]any
	if err := json.Unmarshal(e.Data(), &members); err != nil {
		return e, events.Errorf(events.CodeInvalidRequest, "the data of a request with inputs is not a JSON object: %w", err)
	}
	for member, input := range r.Inputs {
		name, mediaType := input.Name, input.MediaType
		if name == "" {
			name = member
		}
		if mediaType == "" {
			mediaType = "application/octet-stream"
		}
		ref, err := c.b.PutInput(ctx, c.tenant, id, name, mediaType, input.Data)
		if err != nil {
			return e, err
		}
		members[member] = ref
	}
	return events.NewRequest(r.Type, c.meta(&r, id), members)
}

// checkUnanswered refuses an id whose request ended: the server's own window for
// duplicate ids is shorter than answers are kept.
func (c *Client) checkUnanswered(ctx context.Context, id string) error {
	_, answered, err := c.b.Terminal(ctx, c.tenant, id)
	if answered {
		return broker.DuplicateID(id, "is answered already")
	}
	return err
}

// Fetch returns an object of this tenant after comparing it with the size and
// checksum of its reference.
func (c *Client) Fetch(ctx context.Context, ref events.Ref) ([]byte, error) {
	if want := broker.Bucket(c.tenant); ref.Bucket != want {
		return nil, events.Errorf(events.CodePermissionDenied, "the object %s lies in bucket %q, outside this tenant's bucket %q", ref.Object, ref.Bucket, want)
	}
	data, err := c.b.ReadObject(ctx, c.tenant, ref.Object, ref.Size+1)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	if got := hex.EncodeToString(sum[:]); int64(len(data)) != ref.Size || got != ref.SHA256 {
		e := events.Errorf(events.CodeInternal, "object %s is not the one that was referred to", ref.Object)
		e.Expected = fmt.Sprintf("%d bytes with SHA-256 %s", ref.Size, ref.SHA256)
		e.Detail = fmt.Sprintf("found at least %d bytes with SHA-256 %s", len(data), got)
		return nil, e
	}
	return data, nil
}
