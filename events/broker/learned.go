package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"genfn/events"
)

// BucketLearned is the key-value bucket of what instances have learned: one entry for each kind of work on each kind of
// device. Full, it forgets what nobody has measured for longest.
const BucketLearned = "genfn-learned"

const (
	streamLearned    = "KV_" + BucketLearned
	maxLearnedBytes  = 8 << 10 // of one entry
	maxLearnedName   = 512     // of Device and Work
	maxLearnedStages = 32
	maxLearnedMS     = 24 * 60 * 60 * 1000
	learnedConflicts = 16 // others that may be faster before an update is given up
)

// Learned is what generations of one kind of work took on one kind of device.
type Learned struct {
	Device string `json:"device"` // the kind of device: equal ones share what they learn
	Work   string `json:"work"`   // what time and memory depend on beside the device: model, size, count, guidance, economy
	Runs   int64  `json:"runs"`   // generations measured

	TimesMS   map[string]float64 `json:"times_ms,omitempty"`   // by stage; of denoising, of one step
	PeakBytes int64              `json:"peak_bytes,omitempty"` // of the memory of the device, or of the host where it has none of its own; 0: not known

	// RefusedBytes is what there was for the work when memory ran out, and RefusedAt when that was; 0: it did not
	// since it succeeded last.
	RefusedBytes int64     `json:"refused_bytes,omitempty"`
	RefusedAt    time.Time `json:"refused_at,omitzero"`
}

// key is where the entry is.
func (l Learned) key() string { return entryKey(l.Device, l.Work) }

// valid reports what is wrong with an entry that somebody stored under key.
func (l Learned) valid(key string) error {
	switch {
	case l.Device == "" || l.Work == "" || len(l.Device) > maxLearnedName || len(l.Work) > maxLearnedName:
		return fmt.Errorf("device and work: expected 1 to %d bytes", maxLearnedName)
	case key != l.key():
		return errors.New("the key is not that of device and work")
	case l.Runs < 0 || l.PeakBytes < 0 || l.RefusedBytes < 0:
		return errors.New("a count is negative")
	case len(l.TimesMS) > maxLearnedStages:
		return fmt.Errorf("%d stages: expected at most %d", len(l.TimesMS), maxLearnedStages)
	}
	for stage, ms := range l.TimesMS {
		if math.IsNaN(ms) || ms < 0 || ms > maxLearnedMS {
			return fmt.Errorf("stage %q of %g ms: expected 0 to %d", stage, ms, maxLearnedMS)
		}
	}
	return nil
}

// decodeLearned reads an entry. What others wrote there is an error.
func decodeLearned(key string, data []byte) (Learned, error) {
	var l Learned
	if err := json.Unmarshal(data, &l); err != nil {
		return Learned{}, err
	}
	return l, l.valid(key)
}

func (c Config) learnedStream() jetstream.StreamConfig {
	s := entryStream(BucketLearned, "genfn learned times and memory")
	s.MaxMsgs, s.MaxMsgSize, s.MaxAge, s.Duplicates = c.LearnedEntries, maxLearnedBytes, c.LearnedRetention, learnedDuplicates(c.LearnedRetention)
	return s
}

// learnedDuplicates is the window for message ids, which nothing here uses: the server wants it to be no longer than
// the entries live.
func learnedDuplicates(retention time.Duration) time.Duration {
	const usual = 2 * time.Minute
	if retention > 0 {
		return min(usual, retention)
	}
	return usual
}

// UpdateLearned changes an entry, or begins it. change gets what is stored, empty but for its names if there is nothing
// or nothing that makes sense, and is called again if somebody else was faster: none of several writers' figures are
// lost.
func (b *Broker) UpdateLearned(ctx context.Context, device, work string, change func(*Learned)) error {
	none := Learned{Device: device, Work: work}
	key := none.key()
	for range learnedConflicts {
		stored, err := b.readLeader(ctx, streamLearned, messageGet{Last: entrySubject(BucketLearned, key)})
		if err != nil {
			return err
		}
		entry, sequence := none, uint64(0)
		if stored != nil {
			sequence = stored.Sequence
			if entry, err = decodeLearned(key, stored.Data); err != nil {
				b.log.Warn("what was learned cannot be read and is begun anew", "key", key, "error", err)
				entry = none
			}
		}
		change(&entry)
		if err := entry.valid(key); err != nil {
			return events.Errorf(events.CodeInternal, "what was learned of %s on %s makes no sense: %w", work, device, err)
		}
		if err := b.putEntry(ctx, BucketLearned, key, entry, sequence); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return events.Errorf(events.CodeInternal, "what was learned of %s on %s is not stored: others were faster %d times", work, device, learnedConflicts)
}

// WatchLearned calls found with every entry, the stored ones before it returns, until stop is called. Calls do not
// overlap. Entries that make no sense are logged and left out. After a restart of the server it takes up to half a
// minute until new ones are heard of.
func (b *Broker) WatchLearned(ctx context.Context, found func(Learned)) (stop func(), err error) {
	var watcher jetstream.KeyWatcher
	err = b.retry(ctx, func(try context.Context) error {
		try, done := b.guard(try, func(s string) bool { return strings.HasPrefix(s, "$JS.API.") && strings.Contains(s, streamLearned) })
		defer done()
		bucket, err := b.js.KeyValue(try, BucketLearned)
		if err != nil {
			return denialOf(try, err)
		}
		watcher, err = bucket.WatchAll(ctx, jetstream.IgnoreDeletes()) // as long as ctx, not as this try
		return denialOf(try, err)
	})
	if err != nil {
		return nil, err
	}
	read := make(chan struct{}) // closed when what was stored is read
	var tasks sync.WaitGroup
	tasks.Go(func() {
		first := sync.OnceFunc(func() { close(read) })
		defer first()
		for update := range watcher.Updates() {
			if update == nil {
				first()
				continue
			}
			entry, err := decodeLearned(update.Key(), update.Value())
			if err != nil {
				b.log.Warn("what was learned is ignored: not an entry of ours", "key", update.Key(), "error", err)
				continue
			}
			found(entry)
		}
	})
	stop = sync.OnceFunc(func() {
		_ = watcher.Stop() // fails only on a closed connection, where it has ended already
		tasks.Wait()
	})
	select {
	case <-read:
		return stop, nil
	case <-ctx.Done():
		stop()
		return nil, ctx.Err()
	}
}
