package chaos

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// objectReader puts together what the stream of an object store holds (ADR-20 of NATS): chunks under a random name, and
// a message that tells which object they are.
type objectReader struct {
	chunks map[string]hash.Hash // of the bytes so far, by random name
	sizes  map[string]int64
	about  map[string]jetstream.ObjectInfo // by name
}

func newObjectReader() *objectReader {
	return &objectReader{chunks: map[string]hash.Hash{}, sizes: map[string]int64{}, about: map[string]jetstream.ObjectInfo{}}
}

// add takes the next message of the stream.
func (r *objectReader) add(m message) error {
	tokens := strings.SplitN(m.subject, ".", 4) // $O, bucket, C or M, name
	if len(tokens) != 4 {
		return fmt.Errorf("%q is no subject of an object store", m.subject)
	}
	name := tokens[3]
	if tokens[2] == "C" {
		if r.chunks[name] == nil {
			r.chunks[name] = sha256.New()
		}
		r.chunks[name].Write(m.data)
		r.sizes[name] += int64(len(m.data))
		return nil
	}
	decoded, err := base64.URLEncoding.DecodeString(name)
	if err != nil {
		return err
	}
	var about jetstream.ObjectInfo
	err = json.Unmarshal(m.data, &about)
	r.about[string(decoded)] = about
	return err
}

// all returns the objects by name, with what their bytes are: not what is told of them.
func (r *objectReader) all() map[string]object {
	found := map[string]object{}
	for name, about := range r.about {
		if sum := r.chunks[about.NUID]; sum != nil && !about.Deleted {
			found[name] = object{sha256: hex.EncodeToString(sum.Sum(nil)), size: r.sizes[about.NUID]}
		}
	}
	return found
}
