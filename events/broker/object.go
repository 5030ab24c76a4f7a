package broker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"genfn/events"
)

// slowest is the rate below which a transfer is given up and begun again.
const slowest = 1 << 20 // bytes a second

func transferTimeout(size int64) time.Duration {
	return requestTimeout + time.Duration(float64(size)/slowest*float64(time.Second))
}

// PutInput stores a client's input as <request id>/input/<checksum>/<name> in the
// tenant's bucket: a request that is refused because its id is in use must not
// have replaced the input of the one that uses it.
func (b *Broker) PutInput(ctx context.Context, tenant, id, name, mediaType string, data []byte) (events.Ref, error) {
	sum := sha256.Sum256(data)
	return b.putObject(ctx, tenant, id+"/input/"+hex.EncodeToString(sum[:16])+"/"+name, mediaType, data, false)
}

// putObject stores an object. isNew says that there is none of that name yet.
func (b *Broker) putObject(ctx context.Context, tenant, object, mediaType string, data []byte, isNew bool) (events.Ref, error) {
	name := object[strings.LastIndexByte(object, '/')+1:]
	if name == "" {
		return events.Ref{}, events.Errorf(events.CodeInternal, "the object %q has no name", object)
	}
	sum := sha256.Sum256(data)
	ref := events.Ref{Bucket: Bucket(tenant), Object: object, SHA256: hex.EncodeToString(sum[:]), Size: int64(len(data)), MediaType: mediaType}
	meta := jetstream.ObjectMeta{Name: object, Headers: nats.Header{"Content-Type": {mediaType}}}
	err := b.retryWithin(ctx, transferTimeout(ref.Size), func(ctx context.Context) error {
		ctx, stop := b.guard(ctx, objectSubjects(ref.Bucket))
		defer stop()
		store, err := b.bucket(ctx, tenant)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			return b.noBucket(ctx, tenant)
		}
		switch {
		case err != nil:
		case isNew:
			isNew = false // from now on there may be one, which Put looks for and cleans up after
			err = b.putNewObject(ctx, ref.Bucket, meta, data, sum)
		default:
			_, err = store.Put(ctx, meta, bytes.NewReader(data))
		}
		return denialOf(ctx, err)
	})
	return ref, err
}

// ReadObject returns an object of a tenant's bucket, at most limit bytes of it.
func (b *Broker) ReadObject(ctx context.Context, tenant, object string, limit int64) ([]byte, error) {
	var data []byte
	err := b.retryWithin(ctx, transferTimeout(max(0, limit)), func(ctx context.Context) error {
		ctx, stop := b.guard(ctx, objectSubjects(Bucket(tenant)))
		defer stop()
		var err error
		data, err = b.readObject(ctx, tenant, object, limit)
		return denialOf(ctx, err)
	})
	return data, err
}

func (b *Broker) readObject(ctx context.Context, tenant, object string, limit int64) ([]byte, error) {
	store, err := b.bucket(ctx, tenant)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, noObject(tenant, object)
	}
	if err != nil {
		return nil, err
	}
	r, err := store.Get(ctx, object)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		if stored, readErr := b.objectStored(ctx, tenant, object); readErr != nil || stored {
			return nil, fmt.Errorf("object %s has not reached this replica: %w", object, nats.ErrTimeout)
		}
		return nil, noObject(tenant, object)
	}
	if err != nil {
		return nil, err
	}
	defer r.Close() // of a reader: nothing is lost when it fails
	return io.ReadAll(io.LimitReader(r, limit))
}

// deleteObject removes an object if it is there.
func (b *Broker) deleteObject(ctx context.Context, tenant, object string) error {
	return b.retry(ctx, func(ctx context.Context) error {
		store, err := b.bucket(ctx, tenant)
		if err != nil {
			return err
		}
		if err := store.Delete(ctx, object); !errors.Is(err, jetstream.ErrObjectNotFound) {
			return err
		}
		return nil
	})
}

// objectStored asks the bucket's leader whether it has the object.
func (b *Broker) objectStored(ctx context.Context, tenant, object string) (bool, error) {
	m, err := b.readLeader(ctx, objectStreamName(tenant), messageGet{Last: objectMetaSubject(Bucket(tenant), object)})
	if err != nil || m == nil {
		return false, err
	}
	var info struct {
		Deleted bool `json:"deleted"`
	}
	err = json.Unmarshal(m.Data, &info)
	return err == nil && !info.Deleted, err
}

// noBucket tells a tenant without a bucket from a server nobody has set up.
func (b *Broker) noBucket(ctx context.Context, tenant string) error {
	if _, err := b.js.Stream(ctx, StreamRequests); err != nil {
		return err
	}
	e := events.Errorf(events.CodeInvalidRequest, "the tenant %q has no object store", tenant)
	e.Advice = "Use the name of a tenant that is set up, or let the instances set this one up."
	return e
}

// ErrNoObject is in the chain of the invalid_request error for an object that is
// not there, or not any more.
var ErrNoObject = errors.New("no such object")

func noObject(tenant, object string) *events.Error {
	e := events.Errorf(events.CodeInvalidRequest, "object %s is not in bucket %s: %w", object, Bucket(tenant), ErrNoObject)
	e.Advice = "Objects are removed when their retention is over; send the request again under a new id."
	return e
}

// objectSubjects matches the subjects of a bucket's objects and of its stream.
func objectSubjects(bucket string) func(string) bool {
	ofStream := apiSubjectOf("OBJ_" + bucket)
	return func(subject string) bool {
		return strings.HasPrefix(subject, "$O."+bucket+".") || ofStream(subject)
	}
}
