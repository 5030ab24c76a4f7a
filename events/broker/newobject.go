package broker

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// chunkBytes is how the data of an object is cut, the object store's own default.
const chunkBytes = 128 << 10

// codeWrongLastID is the JetStream API's error for a message that expects another
// to be the last one of its stream.
const codeWrongLastID = 10070

// putNewObject stores an object under a name that nothing is stored under, as the
// object store of NATS keeps it (ADR-20): its chunks, then a message about them,
// without which nothing of it is visible. What Put of nats.go first asks, whether
// there is an object to be replaced, is known here.
//
// An object of one chunk takes one wait for the server: both messages are sent at
// once, and the second expects the first to be the last of the stream, so that it
// is refused if the first was, or if that of somebody else came between.
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

// putTogether stores a single chunk and the message about it.
func (b *Broker) putTogether(ctx context.Context, chunk, about *nats.Msg) error {
	id := nuid.Next()
	chunk.Header = nats.Header{jetstream.MsgIDHeader: {id}}
	about.Header.Set(jetstream.ExpectedLastMsgIDHeader, id)
	err := b.sendAll(ctx, chunk, about)
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return err
	}
	if api.ErrorCode != codeWrongLastID {
		b.purgeChunks(chunk.Subject)
		return err
	}
	// The chunk is stored, as its own refusal would have been the error.
	about.Header.Del(jetstream.ExpectedLastMsgIDHeader)
	_, err = b.publish(ctx, about)
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
		select {
		case <-f.Ok():
		case err := <-f.Err():
			return err
		case <-ctx.Done():
			return fmt.Errorf("a message of an object was not confirmed: %w", ctx.Err())
		}
	}
	return nil
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
