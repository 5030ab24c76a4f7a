package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
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
	_, _, err = b.putNext(ctx, "KV_"+bucket, &nats.Msg{Subject: entrySubject(bucket, key), Header: nats.Header{}, Data: data}, sequence)
	return err
}

// ErrConflict says that somebody else has written meanwhile.
var ErrConflict = errors.New("somebody else has written it meanwhile")

// putNext stores a message in a stream as the successor of the one of its subject with the sequence; 0: there is none.
// Of any number of callers exactly one succeeds. It returns the message's own sequence, also if the confirmation of an
// earlier try was lost, or ErrConflict with what is there instead; nil: nothing any more. Another error means that it is
// not known what is.
func (b *Broker) putNext(ctx context.Context, stream string, m *nats.Msg, sequence uint64) (own uint64, other *storedMessage, err error) {
	writer, conflicts := nuid.Next(), false
	m.Header.Set(headerWriter, writer)
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(sequence, 10))
	err = b.retry(ctx, func(ctx context.Context) error {
		ack, err := b.publish(ctx, m)
		if err == nil {
			own = ack.Sequence
			return nil
		}
		if !conflict(err) {
			return err
		}
		stored, err := b.readLeader(ctx, stream, messageGet{Last: m.Subject})
		switch {
		case err != nil:
			return err
		case stored == nil && sequence == 0:
			return fmt.Errorf("a message was refused because of another that cannot be found yet: %w", nats.ErrTimeout)
		case stored != nil && stored.Header.Get(headerWriter) == writer:
			own = stored.Sequence
		default:
			other, conflicts = stored, true
		}
		return nil
	})
	if err == nil && conflicts {
		err = ErrConflict
	}
	return own, other, err
}
