package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"genfn/events"
)

// entryKey is where an entry is in its bucket: names may hold anything, keys only some characters.
func entryKey(names ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(names, "\x00")))
	return hex.EncodeToString(sum[:16])
}

func entrySubject(bucket, key string) string { return "$KV." + bucket + "." + key }

// entryStream is the stream of a bucket as nats.go's CreateKeyValue makes it, with one value for each key, but full it
// drops the oldest entries, and it is read from its leader only.
func entryStream(bucket, description string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: "KV_" + bucket, Description: description,
		Subjects: []string{entrySubject(bucket, ">")},
		Storage:  jetstream.FileStorage, Discard: jetstream.DiscardOld,
		MaxMsgsPerSubject: 1, AllowRollup: true, DenyDelete: true,
	}
}

// putEntry stores an entry as JSON, as putNext does.
func (b *Broker) putEntry(ctx context.Context, bucket, key string, entry any, sequence uint64) error {
	data, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	_, err = b.putNext(ctx, "KV_"+bucket, &nats.Msg{Subject: entrySubject(bucket, key), Header: nats.Header{}, Data: data}, sequence)
	return err
}

// ErrConflict says that somebody else has written meanwhile.
var ErrConflict = errors.New("somebody else has written it meanwhile")

// putNext stores a message in a stream as the successor of the one of its subject with the sequence; 0: there is none.
// It returns the message's own, also if the confirmation of an earlier try was lost, and ErrConflict if somebody else's
// is there.
func (b *Broker) putNext(ctx context.Context, stream string, m *nats.Msg, sequence uint64) (own uint64, err error) {
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(sequence, 10))
	writer, other := events.NewID(), false
	m.Header.Set(headerWriter, writer)
	err = b.retry(ctx, func(ctx context.Context) error {
		ack, err := b.publish(ctx, m)
		if err == nil {
			own = ack.Sequence
		} else if conflict(err) { // settled: no reason to try this again
			other, err = true, nil
		}
		return err
	})
	if err != nil || !other {
		return own, err
	}
	stored, err := b.readLeader(ctx, stream, messageGet{Last: m.Subject})
	switch {
	case err != nil:
		return 0, err
	case stored != nil && stored.Sequence > sequence && stored.Header.Get(headerWriter) == writer:
		return stored.Sequence, nil
	}
	return 0, ErrConflict
}
