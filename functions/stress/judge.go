package stress

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"slices"
	"strings"
	"sync"

	"genfn/events"
)

// Outcomes of a request.
const (
	succeeded = "succeeded"
	failed    = "failed"
	cancelled = "cancelled"
	expired   = "expired"
	lost      = "lost"
)

// judge reads the terminal event and says what is wrong with it, if anything is.
func (a *attempt) judge(ctx context.Context, e events.Event) (err error) {
	var wrong string
	switch e.Type() {
	case events.TypeSucceeded:
		a.Outcome = succeeded
		wrong, err = a.judgeSuccess(ctx, e)
	case events.TypeFailed:
		a.Outcome = failed
		var f events.Failed
		if f, err = events.Payload[events.Failed](e); err == nil {
			a.Attempts, a.Code = len(f.Attempts), f.Error.Code
			wrong = a.judgeFailure(f.Error)
		}
	case events.TypeCancelled:
		a.Outcome = cancelled
		if a.Kind != Cancel {
			wrong = "cancelled, though nobody asked for it"
		}
	case events.TypeExpired:
		a.Outcome = expired
		if a.Kind != Deadline {
			wrong = "expired, though it had no deadline"
		}
	default:
		wrong = "ended with " + e.Type()
	}
	if a.Problem == "" {
		a.Problem = wrong
	}
	return err
}

// judgeFailure returns what is wrong with a failure: only requests that cannot succeed may fail, with their own code.
func (a *attempt) judgeFailure(e *events.Error) string {
	want := map[Kind]events.Code{Invalid: events.CodeInvalidRequest, UnknownModel: events.CodeModelNotFound, Deadline: events.CodeDeadlineExceeded}[a.Kind]
	if e.Code == want {
		return ""
	}
	return "failed: " + strings.Join(strings.Fields(e.Error()), " ")
}

// judgeSuccess fetches the picture, whose checksum is compared, and looks at it.
func (a *attempt) judgeSuccess(ctx context.Context, e events.Event) (wrong string, err error) {
	result, err := events.Payload[events.Succeeded](e)
	if err != nil {
		return "", err
	}
	a.On, a.Attempts, a.process, a.memory = result.Device, len(result.Attempts), result.Process, result.Memory
	if a.Kind == Invalid || a.Kind == UnknownModel {
		return "succeeded, though it could not", nil
	}
	if n := len(result.Artifacts); n != 1 {
		return fmt.Sprintf("%d files, expected 1", n), nil
	}
	raw, err := a.stress.client.Fetch(ctx, result.Artifacts[0].Ref)
	if err != nil {
		return "the picture cannot be fetched: " + err.Error(), ctx.Err()
	}
	picture, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		return "the picture cannot be read: " + err.Error(), nil //nolint:nilerr // what is wrong with an answer is no error of the run
	}
	if got := (Size{picture.Bounds().Dx(), picture.Bounds().Dy()}); got != a.Size {
		return fmt.Sprintf("the picture is %s, expected %s", got, a.Size), nil
	}
	slices.Sort(result.Degradations)
	key := fmt.Sprint(result.Device, result.Precision, a.Size, a.Steps, a.Seed, result.Degradations)
	if first := a.stress.same.compare(key, picture, a.ID); first != a.ID {
		return "another picture than that of " + first + ", of the same seed on the same device", nil
	}
	return "", nil
}

// pictures remembers the first picture of each seed. Safe for concurrent use.
type pictures struct {
	mu    sync.Mutex
	first map[string]picture
}

type picture struct {
	id  string
	sum [sha256.Size]byte
}

// compare returns the id of the request whose picture had the key first and differs, else the id given.
func (p *pictures) compare(key string, i image.Image, id string) string {
	flat := image.NewNRGBA(i.Bounds())
	draw.Draw(flat, flat.Bounds(), i, i.Bounds().Min, draw.Src)
	sum := sha256.Sum256(flat.Pix)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first == nil {
		p.first = map[string]picture{}
	}
	first, ok := p.first[key]
	if !ok {
		p.first[key] = picture{id, sum}
	}
	if ok && first.sum != sum {
		return first.id
	}
	return id
}
