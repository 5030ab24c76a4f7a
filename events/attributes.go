package events

import (
	"fmt"
	"math"
	"mime"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/go-json-experiment/json/jsontext"
)

const allowedText = "text without control characters and Unicode noncharacters"

// attributes collects the attributes of an event being decoded.
type attributes struct {
	context     *event.EventContextV1
	prefix      string // of a name in error messages: "ce-" or "/"
	specversion bool
	seen        map[string]bool
}

func newAttributes(prefix string) *attributes {
	return &attributes{context: &event.EventContextV1{}, prefix: prefix, seen: make(map[string]bool, 12)}
}

// checkName refuses names that CloudEvents do not allow, and repeated ones.
func (a *attributes) checkName(name string) error {
	for i := 0; i < len(name); i++ {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return attributeError(a.prefix+name, "the attribute name "+quoteShort(name), "lower-case letters and digits")
		}
	}
	if name == "" || name == "data" {
		return attributeError(a.prefix+name, "the attribute name "+quoteShort(name), "a name other than data, of lower-case letters and digits")
	}
	if a.seen[name] {
		return attributeError(a.prefix+name, "the attribute twice", "each attribute once")
	}
	a.seen[name] = true
	return nil
}

// setJSON stores an attribute from the JSON format: a string, boolean or integer.
func (a *attributes) setJSON(name string, value jsontext.Value) error {
	switch value.Kind() {
	case '"':
		text, err := jsontext.AppendUnquote(nil, value)
		if err != nil {
			return attributeError(a.prefix+name, quoteShort(string(value)), "a string")
		}
		return a.set(name, string(text))
	case 't', 'f', '0':
		if standardAttribute(name) {
			return attributeError(a.prefix+name, quoteShort(string(value)), "a string")
		}
	}
	switch value.Kind() {
	case 't', 'f':
		return a.extension(name, value.Kind() == 't', string(value))
	case '0':
		n, err := strconv.ParseInt(string(value), 10, 32)
		if err != nil {
			return attributeError(a.prefix+name, quoteShort(string(value)), fmt.Sprintf("an integer from %d to %d", math.MinInt32, math.MaxInt32))
		}
		return a.extension(name, int32(n), string(value))
	}
	return attributeError(a.prefix+name, "a JSON object or array", "a string, boolean or integer")
}

func standardAttribute(name string) bool {
	switch name {
	case "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema":
		return true
	}
	return false
}

// set stores an attribute given as a string.
func (a *attributes) set(name, value string) error {
	if at := badCharacter(value); at >= 0 {
		return attributeError(a.prefix+name, fmt.Sprintf("a character that CloudEvents do not allow, at byte %d", at), allowedText)
	}
	if !standardAttribute(name) {
		return a.extension(name, value, value)
	}
	if value == "" {
		return attributeError(a.prefix+name, "an empty value", "a non-empty value")
	}
	c := a.context
	switch name {
	case "specversion":
		if value != event.CloudEventsVersionV1 {
			return attributeError(a.prefix+name, quoteShort(value), event.CloudEventsVersionV1)
		}
		a.specversion = true
	case "id":
		c.ID = value
	case "type":
		c.Type = value
	case "subject":
		c.Subject = &value
	case "datacontenttype":
		if _, _, err := mime.ParseMediaType(value); err != nil {
			return attributeError(a.prefix+name, quoteShort(value), "a media type such as application/json")
		}
		c.DataContentType = &value
	case "source":
		u := types.ParseURIRef(value)
		if u == nil || u.String() == "" {
			return attributeError(a.prefix+name, quoteShort(value), "a URI reference")
		}
		c.Source = *u
	case "dataschema":
		u := types.ParseURI(value)
		if u == nil || !u.IsAbs() {
			return attributeError(a.prefix+name, quoteShort(value), "an absolute URI")
		}
		c.DataSchema = u
	case "time":
		t, err := a.timestamp(name, value)
		if err != nil {
			return err
		}
		c.Time = &t
	}
	return nil
}

// extension stores an extension attribute, ours with their types, others as
// they came. text is the value as it was written.
func (a *attributes) extension(name string, value any, text string) error {
	switch name {
	case ExtSequence, ExtAttempt:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 0 {
			return attributeError(a.prefix+name, quoteShort(text), fmt.Sprintf("an integer from 0 to %d", math.MaxInt32))
		}
		value = int32(n)
		if name == ExtSequence {
			value = formatSequence(int(n))
		}
	case ExtExpiryTime:
		t, err := a.timestamp(name, text)
		if err != nil {
			return err
		}
		value = t
	case ExtDataRef:
		u := types.ParseURIRef(text)
		if u == nil || u.String() == "" {
			return attributeError(a.prefix+name, quoteShort(text), "a URI reference")
		}
		value = *u
	case ExtCorrelationID, ExtCausationID, ExtTraceParent:
		if s, ok := value.(string); !ok || s == "" {
			return attributeError(a.prefix+name, quoteShort(text), "a non-empty string")
		}
	}
	if a.context.Extensions == nil {
		a.context.Extensions = make(map[string]any, 8)
	}
	a.context.Extensions[name] = value
	return nil
}

// timestamp parses RFC 3339, whose T and Z may be lower-case.
func (a *attributes) timestamp(name, value string) (types.Timestamp, error) {
	var t time.Time
	if err := t.UnmarshalText([]byte(strings.ToUpper(value))); err != nil {
		return types.Timestamp{}, attributeError(a.prefix+name, quoteShort(value), "a time as in RFC 3339, such as 2026-01-31T12:00:00Z")
	}
	return types.Timestamp{Time: t}, nil
}

// complete refuses events without the required attributes.
func (a *attributes) complete() error {
	c := a.context
	var missing []string
	if !a.specversion {
		missing = append(missing, a.prefix+"specversion")
	}
	if c.ID == "" {
		missing = append(missing, a.prefix+"id")
	}
	if c.Type == "" {
		missing = append(missing, a.prefix+"type")
	}
	if !a.seen["source"] {
		missing = append(missing, a.prefix+"source")
	}
	if len(missing) == 0 {
		return nil
	}
	e := Errorf(CodeInvalidRequest, "the required attributes are missing: %s", strings.Join(missing, ", "))
	e.Field = missing[0]
	e.Expected = "specversion, id, source and type"
	if a.prefix == headerPrefix {
		e.Expected += " in headers with the prefix ce-, or a JSON event with the header Content-Type: " + mediaStructured
	}
	return e
}

// badCharacter returns the byte offset of the first character that attribute
// values must not have (CloudEvents 1.0, "Type System"): control characters and
// noncharacters; -1 if there is none.
func badCharacter(s string) int {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] >= 0x7f {
			return badRune(s, i)
		}
	}
	return -1
}

func badRune(s string, from int) int {
	for i, r := range s[from:] {
		switch {
		case r < 0x20, 0x7f <= r && r <= 0x9f, 0xfdd0 <= r && r <= 0xfdef, r&0xfffe == 0xfffe:
			return from + i
		case r == utf8.RuneError:
			if _, size := utf8.DecodeRuneInString(s[from+i:]); size == 1 {
				return from + i
			}
		}
	}
	return -1
}

func attributeError(field, found, expected string) *Error {
	e := Errorf(CodeInvalidRequest, "found %s", found)
	e.Field, e.Expected = field, expected
	return e
}

// quoteShort quotes s for a message, cut to a readable length.
func quoteShort(s string) string {
	const most = 64
	if len(s) <= most {
		return strconv.Quote(s)
	}
	return strconv.Quote(s[:most]) + fmt.Sprintf("... (%d bytes)", len(s))
}
