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

// What attributes may be, in words.
const (
	attributeNameText = "a name of lower-case letters and digits, other than data"
	mediaText         = "a media type such as application/json"
)

// attributeReader collects the attributes of an event being decoded.
type attributeReader struct {
	context *event.EventContextV1
	prefix  string  // of a name in error messages: "ce-" or "/"
	seen    [8]bool // standard attributes, by their standardIndex
	scratch []byte  // for unquoting JSON strings
}

func newAttributeReader(prefix string) *attributeReader {
	return &attributeReader{context: &event.EventContextV1{}, prefix: prefix}
}

// Indices of the standard attributes.
const (
	specversionIndex = iota
	idIndex
	sourceIndex
	typeIndex
	subjectIndex
	timeIndex
	datacontenttypeIndex
	dataschemaIndex
)

// standardIndex returns the index of a standard attribute, -1 for an extension.
func standardIndex(name string) int {
	switch name {
	case "specversion":
		return specversionIndex
	case "id":
		return idIndex
	case "source":
		return sourceIndex
	case "type":
		return typeIndex
	case "subject":
		return subjectIndex
	case "time":
		return timeIndex
	case "datacontenttype":
		return datacontenttypeIndex
	case "dataschema":
		return dataschemaIndex
	}
	return -1
}

// checkName refuses names that CloudEvents do not allow, and repeated ones.
func (a *attributeReader) checkName(name string) error {
	if !validAttribute(name) {
		return attributeError(a.prefix+name, "the attribute name "+quoteShort(name), attributeNameText)
	}
	_, twice := a.context.Extensions[name]
	if i := standardIndex(name); i >= 0 {
		twice = a.seen[i]
		a.seen[i] = true
	}
	if twice {
		return attributeError(a.prefix+name, "the attribute twice", "each attribute once")
	}
	return nil
}

func validAttribute(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != "" && name != "data"
}

// setJSON stores an attribute from the JSON format: a string, boolean or integer.
func (a *attributeReader) setJSON(name string, value jsontext.Value) error {
	switch value.Kind() {
	case '"':
		var err error
		if a.scratch, err = jsontext.AppendUnquote(a.scratch[:0], value); err != nil {
			return attributeError(a.prefix+name, quoteShort(string(value)), "a string")
		}
		return a.set(name, string(a.scratch))
	case 't', 'f', '0':
		if standardIndex(name) >= 0 {
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

// set stores an attribute given as a string.
func (a *attributeReader) set(name, value string) error {
	if at := badCharacter(value); at >= 0 {
		return characterError(a.prefix+name, at)
	}
	index := standardIndex(name)
	if index < 0 {
		return a.extension(name, value, value)
	}
	if value == "" {
		return attributeError(a.prefix+name, "an empty value", "a non-empty value")
	}
	return a.standard(index, name, value)
}

func (a *attributeReader) standard(index int, name, value string) error {
	c := a.context
	switch index {
	case specversionIndex:
		if value != event.CloudEventsVersionV1 {
			return attributeError(a.prefix+name, quoteShort(value), event.CloudEventsVersionV1)
		}
	case idIndex:
		c.ID = value
	case typeIndex:
		c.Type = value
	case subjectIndex:
		subject := value // only here does the value need memory of its own
		c.Subject = &subject
	case datacontenttypeIndex:
		if !validMedia(value) {
			return attributeError(a.prefix+name, quoteShort(value), mediaText)
		}
		media := value
		c.DataContentType = &media
	case sourceIndex:
		u := types.ParseURIRef(value)
		if u == nil || *u == (types.URIRef{}) {
			return attributeError(a.prefix+name, quoteShort(value), "a URI reference")
		}
		c.Source = *u
	case dataschemaIndex:
		u := types.ParseURI(value)
		if u == nil || !u.IsAbs() {
			return attributeError(a.prefix+name, quoteShort(value), "an absolute URI")
		}
		c.DataSchema = u
	case timeIndex:
		t, err := a.timestamp(name, value)
		if err != nil {
			return err
		}
		c.Time = &t
	}
	return nil
}

func validMedia(value string) bool {
	if value == event.ApplicationJSON { // the usual case, without the work
		return true
	}
	media, _, err := mime.ParseMediaType(value)
	return err == nil && strings.Contains(media, "/")
}

// extension stores an extension attribute, ours with their types, others as
// they came. text is the value as it was written.
func (a *attributeReader) extension(name string, value any, text string) error {
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
		if u == nil || *u == (types.URIRef{}) {
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
func (a *attributeReader) timestamp(name, value string) (types.Timestamp, error) {
	var t time.Time
	err := t.UnmarshalText([]byte(strings.ToUpper(value)))
	if year := t.UTC().Year(); err != nil || year < 0 || year > 9999 {
		return types.Timestamp{}, attributeError(a.prefix+name, quoteShort(value), "a time as in RFC 3339, such as 2026-01-31T12:00:00Z")
	}
	return types.Timestamp{Time: t}, nil
}

// complete refuses events without the required attributes.
func (a *attributeReader) complete() error {
	c := a.context
	var missing []string
	if !a.seen[specversionIndex] {
		missing = append(missing, a.prefix+"specversion")
	}
	if c.ID == "" {
		missing = append(missing, a.prefix+"id")
	}
	if c.Type == "" {
		missing = append(missing, a.prefix+"type")
	}
	if !a.seen[sourceIndex] {
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
	for i := range len(s) {
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

func characterError(field string, at int) *Error {
	return attributeError(field, fmt.Sprintf("a character that CloudEvents do not allow, at byte %d", at), "text without control characters and Unicode noncharacters")
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
