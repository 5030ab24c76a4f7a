package events

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	headerPrefix      = "ce-"
	headerContentType = "Content-Type"
	mediaStructured   = "application/cloudevents+json"
)

// EncodeBinary writes e as a NATS message in binary content mode: every
// attribute in a header named ce-<attribute>, percent-encoded, and the data as
// the payload. Content-Type repeats the datacontenttype for receivers that know
// the HTTP binding only. The payload is e's own slice; the header is new and can
// be used as a nats.Header. An event that Decode would refuse is not written.
func EncodeBinary(e Event) (header map[string][]string, data []byte, err error) {
	c, err := encodable(e)
	if err != nil {
		return nil, nil, err
	}
	w := headerWriter{header: make(map[string][]string, 9+len(c.Extensions)), values: make([]string, 0, 9+len(c.Extensions))}
	w.add("ce-specversion", event.CloudEventsVersionV1)
	w.add("ce-id", c.ID)
	w.add("ce-source", c.Source.String())
	w.add("ce-type", c.Type)
	if c.Subject != nil {
		w.add("ce-subject", *c.Subject)
	}
	if c.Time != nil {
		w.add("ce-time", types.FormatTime(c.Time.Time))
	}
	if c.DataSchema != nil {
		w.add("ce-dataschema", c.DataSchema.String())
	}
	if c.DataContentType != nil {
		w.add("ce-datacontenttype", *c.DataContentType)
		if !hasPrefixFold(*c.DataContentType, "application/cloudevents") { // would mean structured mode
			w.header[headerContentType] = []string{*c.DataContentType}
		}
	}
	for name, value := range c.Extensions {
		if !validAttribute(name) || standardIndex(name) >= 0 {
			return nil, nil, attributeError(name, "the extension name "+quoteShort(name), attributeNameText)
		}
		s, ok := value.(string)
		if !ok {
			if s, err = types.Format(value); err != nil {
				return nil, nil, attributeError(name, fmt.Sprintf("a %T", value), "a CloudEvents value")
			}
		}
		w.add(extensionHeader(name), s)
	}
	return w.header, e.DataEncoded, w.err
}

// EncodeStructured writes e as a NATS message in structured content mode: the
// whole event as JSON (CloudEvents JSON format 1.0). Data that is not what its
// datacontenttype says, or not text, is written as base64.
func EncodeStructured(e Event) (header map[string][]string, data []byte, err error) {
	if _, _, err := EncodeBinary(e); err != nil { // the same rules for attributes
		return nil, nil, err
	}
	c := e.Context.(*event.EventContextV1)
	w := jsonWriter{b: make([]byte, 0, 512+len(e.DataEncoded))}
	w.b = append(w.b, `{"specversion":"1.0"`...)
	w.text("id", c.ID)
	w.text("source", c.Source.String())
	w.text("type", c.Type)
	if c.Subject != nil {
		w.text("subject", *c.Subject)
	}
	if c.Time != nil {
		w.text("time", types.FormatTime(c.Time.Time))
	}
	if c.DataSchema != nil {
		w.text("dataschema", c.DataSchema.String())
	}
	if c.DataContentType != nil {
		w.text("datacontenttype", *c.DataContentType)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Extensions)) {
		if err := w.extension(name, c.Extensions[name]); err != nil {
			return nil, nil, err
		}
	}
	w.data(e)
	w.b = append(w.b, '}')
	if w.err != nil {
		return nil, nil, Errorf(CodeInvalidRequest, "the event cannot be written as JSON: %w", w.err)
	}
	if len(w.b) > MaxEventBytes {
		return nil, nil, tooLarge(len(w.b))
	}
	return map[string][]string{headerContentType: {mediaStructured}}, w.b, nil
}

// jsonWriter appends the members of a JSON object, after the first.
type jsonWriter struct {
	b   []byte
	err error
}

func (w *jsonWriter) name(name string) {
	w.b = append(w.b, ',', '"')
	w.b = append(w.b, name...) // attribute names need no escapes
	w.b = append(w.b, '"', ':')
}

func (w *jsonWriter) text(name, value string) {
	w.name(name)
	b, err := jsontext.AppendQuote(w.b, value)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.b = b
}

func (w *jsonWriter) extension(name string, value any) error {
	switch v := value.(type) {
	case bool:
		w.name(name)
		w.b = strconv.AppendBool(w.b, v)
	case int32:
		w.name(name)
		w.b = strconv.AppendInt(w.b, int64(v), 10)
	default:
		s, err := types.Format(v)
		if err != nil {
			return attributeError(name, fmt.Sprintf("a %T", v), "a CloudEvents value")
		}
		w.text(name, s)
	}
	return nil
}

// data writes JSON as it is, text as a string, and everything else as base64.
func (w *jsonWriter) data(e Event) {
	isJSON := jsonMedia(e.DataContentType())
	switch {
	case len(e.DataEncoded) == 0:
	case !e.DataBase64 && isJSON && checkJSON(e.DataEncoded) == nil:
		w.name("data")
		w.b = append(w.b, e.DataEncoded...)
	case !e.DataBase64 && !isJSON && utf8.Valid(e.DataEncoded):
		w.text("data", string(e.DataEncoded))
	default:
		w.name("data_base64")
		w.b = append(w.b, '"')
		w.b = base64.StdEncoding.AppendEncode(w.b, e.DataEncoded)
		w.b = append(w.b, '"')
	}
}

// encodable returns the attributes of e if e is complete and small enough.
func encodable(e Event) (*event.EventContextV1, error) {
	c, ok := e.Context.(*event.EventContextV1)
	if !ok {
		return nil, attributeError("specversion", "an event without CloudEvents 1.0 attributes", "1.0")
	}
	for _, a := range []struct{ name, value string }{{"id", c.ID}, {"source", c.Source.String()}, {"type", c.Type}} {
		if a.value == "" {
			return nil, attributeError(a.name, "nothing", "a value: the attribute is required")
		}
	}
	if c.DataContentType != nil && !validMedia(*c.DataContentType) {
		return nil, attributeError("datacontenttype", quoteShort(*c.DataContentType), mediaText)
	}
	if len(e.DataEncoded) > MaxEventBytes {
		return nil, tooLarge(len(e.DataEncoded))
	}
	return c, nil
}

func tooLarge(n int) *Error {
	e := Errorf(CodeInvalidRequest, "the event has %d bytes", n)
	e.Expected = fmt.Sprintf("at most %d bytes", MaxEventBytes)
	e.Advice = "Put large inputs and outputs into the object store and refer to them."
	return e
}

// headerWriter fills a header whose values share one backing array.
type headerWriter struct {
	header map[string][]string
	values []string
	err    error
}

func (w *headerWriter) add(name, value string) {
	if at := badCharacter(value); at >= 0 && w.err == nil {
		w.err = characterError(name, at)
	}
	n := len(w.values)
	w.values = append(w.values, escapeHeader(value))
	w.header[name] = w.values[n : n+1 : n+1]
}

func extensionHeader(name string) string {
	switch name {
	case ExtSequence:
		return "ce-sequence"
	case ExtCorrelationID:
		return "ce-correlationid"
	case ExtCausationID:
		return "ce-causationid"
	case ExtTraceParent:
		return "ce-traceparent"
	case ExtExpiryTime:
		return "ce-expirytime"
	case ExtAttempt:
		return "ce-attempt"
	case ExtDataRef:
		return "ce-dataref"
	}
	return headerPrefix + name
}
