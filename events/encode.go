package events

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
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
	var space [16]attribute
	list, err := encodable(e, space[:0])
	if err != nil {
		return nil, nil, err
	}
	header = make(map[string][]string, len(list)+1)
	values := make([]string, len(list)+1) // of all headers, in one piece
	for i, a := range list {
		values[i] = escapeHeader(a.text)
		header[headerOf(a.name)] = values[i : i+1 : i+1]
		if a.name == "datacontenttype" && !hasPrefixFold(a.text, "application/cloudevents") { // would mean structured mode
			values[len(list)] = a.text
			header[headerContentType] = values[len(list):]
		}
	}
	return header, e.DataEncoded, nil
}

// EncodeStructured writes e as a NATS message in structured content mode: the
// whole event as JSON (CloudEvents JSON format 1.0). Data that is not what its
// datacontenttype says, or not text, is written as base64.
func EncodeStructured(e Event) (header map[string][]string, data []byte, err error) {
	var space [16]attribute
	list, err := encodable(e, space[:0])
	if err != nil {
		return nil, nil, err
	}
	b := append(make([]byte, 0, 512+len(e.DataEncoded)), '{')
	for _, a := range list {
		b = appendName(b, a.name)
		if a.plain {
			b = append(b, a.text...)
		} else {
			b = appendText(b, a.text)
		}
		b = append(b, ',')
	}
	b = appendData(b, e)
	b[len(b)-1] = '}' // in place of the last comma
	if len(b) > MaxEventBytes {
		return nil, nil, tooLarge(len(b))
	}
	return map[string][]string{headerContentType: {mediaStructured}}, b, nil
}

// appendName appends an attribute name, which needs no escapes, as the name of a member.
func appendName(b []byte, name string) []byte {
	b = append(b, '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

func appendText(b []byte, text string) []byte {
	b, err := jsontext.AppendQuote(b, text)
	if err != nil {
		// Only invalid UTF-8 is an error, and AppendQuote has replaced it by
		// U+FFFD. Neither attributes nor data get here with it.
		return b
	}
	return b
}

// appendData appends JSON as it is, text as a string and everything else as
// base64, each with a comma after it.
func appendData(b []byte, e Event) []byte {
	isJSON := jsonMedia(e.DataContentType())
	switch {
	case len(e.DataEncoded) == 0:
		return b
	case !e.DataBase64 && isJSON && checkJSON(e.DataEncoded) == nil:
		b = append(appendName(b, "data"), e.DataEncoded...)
	case !e.DataBase64 && !isJSON && utf8.Valid(e.DataEncoded):
		b = appendText(appendName(b, "data"), string(e.DataEncoded))
	default:
		b = append(appendName(b, "data_base64"), '"')
		b = base64.StdEncoding.AppendEncode(b, e.DataEncoded)
		b = append(b, '"')
	}
	return append(b, ',')
}

// attribute is one attribute to be written.
type attribute struct {
	name  string
	text  string // canonical string representation
	plain bool   // a boolean or integer, which JSON writes without quotes
}

// encodable appends all attributes of e to list if e is complete, small enough
// and has no attribute that Decode would refuse.
func encodable(e Event, list []attribute) ([]attribute, error) {
	c, ok := e.Context.(*event.EventContextV1)
	if !ok {
		return nil, attributeError("specversion", "an event without CloudEvents 1.0 attributes", "1.0")
	}
	if len(e.DataEncoded) > MaxEventBytes {
		return nil, tooLarge(len(e.DataEncoded))
	}
	list = append(list, attribute{name: "specversion", text: event.CloudEventsVersionV1}, attribute{name: "id", text: c.ID},
		attribute{name: "source", text: c.Source.String()}, attribute{name: "type", text: c.Type})
	if c.Subject != nil {
		list = append(list, attribute{name: "subject", text: *c.Subject})
	}
	if c.Time != nil {
		list = append(list, attribute{name: "time", text: types.FormatTime(c.Time.Time)})
	}
	if c.DataSchema != nil {
		list = append(list, attribute{name: "dataschema", text: c.DataSchema.String()})
	}
	if c.DataContentType != nil {
		if !validMedia(*c.DataContentType) {
			return nil, attributeError("datacontenttype", quoteShort(*c.DataContentType), mediaText)
		}
		list = append(list, attribute{name: "datacontenttype", text: *c.DataContentType})
	}
	for _, a := range list {
		if a.text == "" {
			return nil, attributeError(a.name, "nothing", "a non-empty value")
		}
	}
	list, err := appendExtensions(list, c.Extensions)
	if err != nil {
		return nil, err
	}
	for _, a := range list {
		if at := badCharacter(a.text); at >= 0 {
			return nil, characterError(a.name, at)
		}
	}
	return list, nil
}

func appendExtensions(list []attribute, extensions map[string]any) ([]attribute, error) {
	first := len(list)
	for name, value := range extensions {
		if !validAttribute(name) || standardIndex(name) >= 0 {
			return nil, attributeError(name, "the extension name "+quoteShort(name), attributeNameText)
		}
		a := attribute{name: name}
		switch v := value.(type) {
		case string:
			a.text = v
		case bool:
			a.text, a.plain = strconv.FormatBool(v), true
		case int32:
			a.text, a.plain = strconv.Itoa(int(v)), true
		default:
			var err error
			if a.text, err = types.Format(v); err != nil {
				return nil, attributeError(name, fmt.Sprintf("a %T", v), "a CloudEvents value")
			}
		}
		list = append(list, a)
	}
	slices.SortFunc(list[first:], func(a, b attribute) int { return strings.Compare(a.name, b.name) })
	return list, nil
}

func tooLarge(n int) *Error {
	e := Errorf(CodeInvalidRequest, "the event has %d bytes", n)
	e.Expected = fmt.Sprintf("at most %d bytes", MaxEventBytes)
	e.Advice = "Put large inputs and outputs into the object store and refer to them."
	return e
}

// headerOf returns "ce-" and name, for the known names without making a string.
func headerOf(name string) string {
	switch name {
	case "specversion":
		return "ce-specversion"
	case "id":
		return "ce-id"
	case "source":
		return "ce-source"
	case "type":
		return "ce-type"
	case "subject":
		return "ce-subject"
	case "time":
		return "ce-time"
	case "datacontenttype":
		return "ce-datacontenttype"
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
	}
	return headerPrefix + name
}
