package events

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/go-json-experiment/json/jsontext"
)

// Decode reads a CloudEvent from a NATS message, in structured content mode if
// the Content-Type starts with application/cloudevents and in binary mode
// otherwise. Header names are matched without regard to case. The result shares
// data's memory in binary mode. Decode checks the envelope only; Validate checks
// the data. What is wrong is returned as an *Error with CodeInvalidRequest whose
// Field is the header (binary) or JSON pointer (structured), or "message" for all of it.
func Decode(header map[string][]string, data []byte) (Event, error) {
	e, err := decode(header, data)
	if err != nil {
		return Event{}, bounded(err, "message")
	}
	return e, nil
}

func decode(header map[string][]string, data []byte) (Event, error) {
	if len(data) > MaxEventBytes {
		return Event{}, tooLarge(len(data))
	}
	contentType, err := contentTypeOf(header)
	if err != nil {
		return Event{}, err
	}
	if hasPrefixFold(contentType, "application/cloudevents") {
		if err := checkStructuredType(contentType); err != nil {
			return Event{}, err
		}
		return decodeStructured(data)
	}
	return decodeBinary(header, contentType, data)
}

func contentTypeOf(header map[string][]string) (string, error) {
	found, n := "", 0
	for name, values := range header {
		if strings.EqualFold(name, headerContentType) {
			for _, v := range values {
				found = v
				n++
			}
		}
	}
	if n > 1 {
		return "", attributeError(headerContentType, fmt.Sprintf("%d values", n), "one value")
	}
	return strings.TrimSpace(found), nil
}

// checkStructuredType accepts application/cloudevents+json (and, as the NATS
// binding names it, bare application/cloudevents) in UTF-8.
func checkStructuredType(contentType string) error {
	const expected = "application/cloudevents+json for structured mode; no content type or that of the data for binary mode"
	media, params, err := mime.ParseMediaType(contentType)
	switch {
	case err != nil && media == "":
		return attributeError(headerContentType, quoteShort(contentType), expected)
	case strings.HasPrefix(media, "application/cloudevents-batch"):
		return attributeError(headerContentType, "a batch of events", "one event in each message: NATS has no batch mode")
	case media != mediaStructured && media != "application/cloudevents":
		return attributeError(headerContentType, quoteShort(contentType), expected)
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return attributeError(headerContentType, "charset "+quoteShort(charset), "charset utf-8")
	}
	return nil
}

func decodeBinary(header map[string][]string, contentType string, data []byte) (Event, error) {
	a := newAttributeReader(headerPrefix)
	for name, values := range header {
		if !hasPrefixFold(name, headerPrefix) {
			continue
		}
		attribute := lowerASCII(name[len(headerPrefix):])
		if err := a.checkName(attribute); err != nil {
			return Event{}, err
		}
		if len(values) != 1 {
			return Event{}, attributeError(headerPrefix+attribute, fmt.Sprintf("%d values", len(values)), "one value")
		}
		value, err := unescapeHeader(values[0])
		if err != nil {
			e := attributeError(headerPrefix+attribute, quoteShort(values[0]), "a percent-encoded UTF-8 value")
			e.Message += ": " + err.Error()
			return Event{}, e
		}
		if err := a.set(attribute, value); err != nil {
			return Event{}, err
		}
	}
	if contentType != "" && a.context.DataContentType == nil {
		if err := a.set("datacontenttype", contentType); err != nil {
			return Event{}, err
		}
	}
	if err := a.complete(); err != nil {
		return Event{}, err
	}
	e := Event{event.Event{Context: a.context}}
	if len(data) > 0 {
		e.DataEncoded = data
	}
	return e, nil
}

func decodeStructured(data []byte) (Event, error) {
	d := newDecoder(data)
	if d.PeekKind() != '{' {
		if _, err := d.ReadValue(); err != nil {
			return Event{}, syntaxError(err, data)
		}
		return Event{}, attributeError("", "JSON that is not an object", "a JSON object with the attributes and data of one event")
	}
	if _, err := d.ReadToken(); err != nil {
		return Event{}, syntaxError(err, data)
	}
	a := newAttributeReader("/")
	body := structuredData{}
	for d.PeekKind() != '}' {
		if err := readMember(d, data, a, &body); err != nil {
			return Event{}, err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return Event{}, syntaxError(err, data)
	}
	if err := checkEnd(d, data); err != nil {
		return Event{}, err
	}
	if err := a.complete(); err != nil {
		return Event{}, err
	}
	e := Event{event.Event{Context: a.context}}
	return e, body.into(&e)
}

// structuredData holds the members data and data_base64 until the
// datacontenttype is known, which may come after them.
type structuredData struct {
	value, base64 jsontext.Value
}

// readMember reads one name and value of the envelope.
func readMember(d *jsontext.Decoder, text []byte, a *attributeReader, body *structuredData) error {
	name, err := d.ReadToken()
	if err != nil {
		return syntaxError(err, text)
	}
	attribute := name.String()
	value, err := d.ReadValue()
	if err != nil {
		return syntaxError(err, text)
	}
	switch {
	case attribute == "data":
		body.value = value.Clone()
		return nil
	case value.Kind() == 'n': // null is the same as absent
		return nil
	case attribute == "data_base64":
		body.base64 = value.Clone()
		return nil
	}
	if err := a.checkName(attribute); err != nil {
		return err
	}
	return a.setJSON(attribute, value)
}

// into stores the data in e as the JSON format (section 3.1.2) says.
func (b structuredData) into(e *Event) error {
	if b.base64 != nil {
		if b.value != nil {
			return attributeError("/data_base64", "both data and data_base64", "one of them")
		}
		text, err := jsontext.AppendUnquote(nil, b.base64)
		if err != nil {
			return attributeError("/data_base64", quoteShort(string(b.base64)), "a string in base64")
		}
		raw, err := base64.StdEncoding.DecodeString(string(text))
		if err != nil {
			bad := attributeError("/data_base64", "text that is not base64", "standard base64 with padding")
			bad.Detail, bad.Cause = err.Error(), err
			return bad
		}
		e.DataEncoded, e.DataBase64 = raw, true
		return nil
	}
	if b.value == nil {
		return nil
	}
	c := e.Context.(*event.EventContextV1)
	if c.DataContentType == nil {
		media := event.ApplicationJSON
		c.DataContentType = &media
	}
	if jsonMedia(*c.DataContentType) {
		e.DataEncoded = b.value
		return nil
	}
	text, err := jsontext.AppendUnquote(nil, b.value)
	if err != nil {
		return attributeError("/data", "JSON that is not a string", "a string, because datacontenttype is "+quoteShort(*c.DataContentType))
	}
	e.DataEncoded = text
	return nil
}

// jsonMedia reports whether a datacontenttype declares JSON: absent, */json or */*+json.
func jsonMedia(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	return media == "" || strings.HasSuffix(media, "/json") || strings.HasSuffix(media, "+json")
}

func checkEnd(d *jsontext.Decoder, text []byte) error {
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		offset := d.InputOffset()
		var s *jsontext.SyntacticError
		if errors.As(err, &s) {
			offset = s.ByteOffset
		}
		return asJSON(Errorf(CodeInvalidRequest, "the JSON ends before byte %d of %d but more follows", offset, len(text)))
	}
	return nil
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// lowerASCII lowers A to Z only: other letters must stay what they are, to be refused.
func lowerASCII(s string) string {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
