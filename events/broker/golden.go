package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"genfn/events"
)

// BucketGolden is the key-value bucket of known values: what canaries must give. Full, it forgets what was stored
// first.
const BucketGolden = "genfn-golden"

const (
	streamGolden = "KV_" + BucketGolden
	// MaxGoldenValues bounds the values of an entry.
	MaxGoldenValues = 32 << 10
	maxGoldenBytes  = 640 << 10 // of an entry; servers take 1 MiB in one message unless told otherwise
	maxGoldenPlaces = 8
)

// KindReference is the kind under which the values are stored that all devices are compared with.
const KindReference = "reference"

// Golden is what a canary gave: the values that it must give again.
type Golden struct {
	Model  string `json:"model"`  // its name, for people
	SHA256 string `json:"sha256"` // of the model's files
	Work   string `json:"work"`   // the generation: size, steps, seed and so on
	Kind   string `json:"kind"`   // of devices that give these values; KindReference: all, more or less

	Precision string    `json:"precision"` // in which they were computed
	Values    []float32 `json:"values"`    // at most MaxGoldenValues, finite
	By        string    `json:"by"`        // the instance that stored them
	Places    []string  `json:"places"`    // the devices, with their machines, that gave them
	At        time.Time `json:"at"`
}

// key is where the entry is.
func (g Golden) key() string {
	return entryKey(g.SHA256, g.Work, g.Kind)
}

// valid reports what is wrong with an entry that somebody stored under key.
func (g Golden) valid(key string) error {
	switch {
	case g.SHA256 == "" || g.Work == "" || g.Kind == "":
		return errors.New("sha256, work and kind: expected texts that are not empty")
	case key != g.key():
		return errors.New("the key is not that of sha256, work and kind")
	case len(g.Values) == 0 || len(g.Values) > MaxGoldenValues:
		return fmt.Errorf("%d values: expected 1 to %d", len(g.Values), MaxGoldenValues)
	case len(g.Places) > maxGoldenPlaces:
		return fmt.Errorf("%d places: expected at most %d", len(g.Places), maxGoldenPlaces)
	}
	for i, v := range g.Values {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return fmt.Errorf("value %d is %g", i, v)
		}
	}
	return nil
}

func (c Config) goldenStream() jetstream.StreamConfig {
	s := entryStream(BucketGolden, "genfn known values of canaries")
	s.MaxMsgs, s.MaxMsgSize = c.GoldenEntries, maxGoldenBytes
	return s
}

// StoredGolden is an entry as it is stored.
type StoredGolden struct {
	Golden
	Revision uint64 // of the key-value entry
}

// Golden returns the entry for what like names by its sha256, work and kind; nil: there is none. One that makes no
// sense is logged and counts as none.
func (b *Broker) Golden(ctx context.Context, like Golden) (*StoredGolden, error) {
	key := like.key()
	m, err := b.readLeader(ctx, streamGolden, messageGet{Last: entrySubject(BucketGolden, key)})
	if err != nil || m == nil {
		return nil, err
	}
	var g Golden
	err = json.Unmarshal(m.Data, &g)
	if err == nil {
		err = g.valid(key)
	}
	if err != nil {
		b.log.Warn("known values are ignored: not an entry of ours", "key", key, "error", err)
		return nil, nil
	}
	return &StoredGolden{g, m.Sequence}, nil
}

// PutGolden stores an entry as the successor of the one with the revision; 0: there is none. ErrConflict if there is
// another meanwhile, also if that is this one, whose confirmation was lost.
func (b *Broker) PutGolden(ctx context.Context, g Golden, revision uint64) error {
	key := g.key()
	if err := g.valid(key); err != nil {
		return events.Errorf(events.CodeInternal, "known values of %s make no sense: %w", g.Model, err)
	}
	return b.putEntry(ctx, BucketGolden, key, g, revision)
}
