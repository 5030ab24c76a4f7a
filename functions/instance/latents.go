package instance

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"genfn/events"
	"genfn/events/client"
	"genfn/functions/imagefile"
)

// Latents files are as large as 64 pictures with 16 channels of 512 x 512 at most, and a header.
const (
	maxLatents      = 64 * 16 * 512 * 512
	maxLatentsBytes = 4*maxLatents + 64<<10
	mediaTypeNPY    = "application/x-npy"
)

// fetchLatents reads the request's initial latents, NCHW, from the object store.
func (a *attempt) fetchLatents(ctx context.Context, ref events.Ref) (*imagefile.Array, error) {
	if ref.Size > maxLatentsBytes {
		return nil, badLatents(fmt.Errorf("the object has %d bytes, at most %d are allowed", ref.Size, maxLatentsBytes))
	}
	raw, err := client.New(a.slot.config.Broker, client.Options{Tenant: a.work.job.Tenant}).Fetch(ctx, ref)
	var known *events.Error
	if errors.As(err, &known) && !known.Retriable {
		return nil, badLatents(err) // not there, another tenant's, or not what was uploaded
	}
	if err != nil {
		return nil, err
	}
	array, err := imagefile.ReadNPY(bytes.NewReader(raw), maxLatents)
	if err == nil && len(array.Shape) != 4 {
		err = fmt.Errorf("the array has the shape %v", array.Shape)
	}
	if err != nil {
		return nil, badLatents(err)
	}
	return &array, nil
}

func badLatents(cause error) *events.Error {
	e := events.Errorf(events.CodeInvalidRequest, "the initial latents cannot be used: %w", cause)
	e.Field, e.Expected = "/latents", "a reference to an NPY file in the tenant's own bucket: little-endian float32 in C order of shape (count, channels, height, width)"
	return e
}

// latentsFile makes the artefact of final latents.
func latentsFile(a imagefile.Array) (file, error) {
	var b bytes.Buffer
	if err := imagefile.WriteNPY(&b, a); err != nil {
		return file{}, err
	}
	return file{
		artifact:  events.Artifact{Name: "latents.npy", Role: events.RoleLatents},
		mediaType: mediaTypeNPY, data: b.Bytes(),
	}, nil
}
