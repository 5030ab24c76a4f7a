package broker

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// chunkBytes is how the data of an object is cut, the object store's own default.
const chunkBytes = 128 << 10

// putNewObject stores an object under a name that nothing is stored under, as the
// object store of NATS keeps it (ADR-20): its chunks, then a message about them,
// without which nothing of it is visible. What Put of nats.go first asks, whether
// there is an object to be replaced, is known here.
//
// An object of one chunk takes one wait for the server: both messages are sent at
// once. If the chunk alone is refused the object is deleted again.
func (b *Broker) putNewObject(ctx context.Context, bucket string, meta jetstream.ObjectMeta, data []byte, sum [sha256.Size]byte) error {
	object := nuid.Next()
	chunks := "$O." + bucket + ".C." + object
	info := jetstream.ObjectInfo{
		ObjectMeta: meta, Bucket: bucket, NUID: object, Size: uint64(len(data)),
		Chunks: uint32((len(data) + chunkBytes - 1) / chunkBytes),
		Digest: "SHA-256=" + base64.URLEncoding.EncodeToString(sum[:]),
	}
	info.Opts = &jetstream.ObjectMetaOptions{ChunkSize: chunkBytes}
	body, err := json.Marshal(info)
	if err != nil {
		return err
	}
	about := &nats.Msg{Subject: objectMetaSubject(bucket, meta.Name), Header: nats.Header{}, Data: body}
	about.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	if len(data) == 0 {
		_, err = b.publish(ctx, about)
		return err
	}
	parts := make([]*nats.Msg, 0, info.Chunks)
	for rest := data; len(rest) > 0; rest = rest[len(parts[len(parts)-1].Data):] {
		parts = append(parts, &nats.Msg{Subject: chunks, Data: rest[:min(len(rest), chunkBytes)]})
	}
	if len(parts) == 1 {
		return b.putTogether(ctx, parts[0], about)
	}
	return b.putInTurn(ctx, parts, about)
}

// putTogether stores a single chunk and the message about it. That the second expects the first to be the last message
// of the stream (Nats-Expected-Last-Msg-Id) would be simpler, but when a message of somebody else comes between, the
// servers of a cluster stop that stream for good: nats-server 2.15.2 takes the refusal of a message that is replicated
// already for a failed write.
func (b *Broker) putTogether(ctx context.Context, chunk, about *nats.Msg) error {
	var acks [2]*jetstream.PubAck
	var errs [2]error
	var sent [2]jetstream.PubAckFuture
	for i, m := range []*nats.Msg{chunk, about} {
		if sent[i], errs[i] = b.objects.PublishMsgAsync(m); errs[i] != nil {
			return errs[i]
		}
	}
	for i, f := range sent {
		acks[i], errs[i] = confirmed(ctx, f)
	}
	switch {
	case refused(errs[0]) && errs[1] == nil:
		errs[1] = b.deleteAbout(ctx, about, acks[1].Sequence)
	case errs[0] == nil && refused(errs[1]): // of one that may be stored yet, the chunk has to stay
		b.purgeChunks(chunk.Subject)
	}
	return errors.Join(errs[:]...)
}

// refused reports whether it is the server's word that a message is not stored.
func refused(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api)
}

// deleteAbout deletes an object whose bytes were refused, if nobody has stored it again.
func (b *Broker) deleteAbout(ctx context.Context, about *nats.Msg, sequence uint64) error {
	var info jetstream.ObjectInfo
	if err := json.Unmarshal(about.Data, &info); err != nil {
		return err
	}
	info.Deleted, info.Size, info.Chunks, info.Digest = true, 0, 0, ""
	body, err := json.Marshal(info)
	if err != nil {
		return err
	}
	m := &nats.Msg{Subject: about.Subject, Header: nats.Header{}, Data: body}
	m.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(sequence, 10))
	if _, err = b.publish(ctx, m); conflict(err) {
		return nil
	}
	return err
}

// putInTurn stores many chunks, and then the message about them.
func (b *Broker) putInTurn(ctx context.Context, chunks []*nats.Msg, about *nats.Msg) error {
	if err := b.sendAll(ctx, chunks...); err != nil {
		b.purgeChunks(chunks[0].Subject)
		return err
	}
	_, err := b.publish(ctx, about)
	return err
}

// sendAll publishes messages one behind the other, waits for the server's word on
// each, and returns the first that is an error.
func (b *Broker) sendAll(ctx context.Context, messages ...*nats.Msg) error {
	sent := make([]jetstream.PubAckFuture, len(messages))
	for i, m := range messages {
		var err error
		if sent[i], err = b.objects.PublishMsgAsync(m); err != nil {
			return err
		}
	}
	for _, f := range sent {
		if _, err := confirmed(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// confirmed waits for the server's word on a message.
func confirmed(ctx context.Context, f jetstream.PubAckFuture) (*jetstream.PubAck, error) {
	select {
	case ack := <-f.Ok():
		return ack, nil
	case err := <-f.Err():
		return nil, err
	case <-ctx.Done():
		return nil, fmt.Errorf("a message of an object was not confirmed: %w", ctx.Err())
	}
}

// purgeChunks asks for the removal of chunks that nothing tells of, without waiting:
// what stays the bucket's retention removes.
func (b *Broker) purgeChunks(subject string) {
	bucket := strings.Split(subject, ".")[1]
	body, err := json.Marshal(map[string]string{"filter": subject})
	if err == nil {
		err = b.nc.Publish("$JS.API.STREAM.PURGE.OBJ_"+bucket, body)
	}
	if err != nil {
		b.log.Debug("chunks of an object that failed stay until they expire", "subject", subject, "error", err)
	}
}

// objectMetaSubject returns the subject of the message about an object.
func objectMetaSubject(bucket, object string) string {
	return "$O." + bucket + ".M." + base64.URLEncoding.EncodeToString([]byte(object))
}
