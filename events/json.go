package events

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// newDecoder reads strict JSON (RFC 7493): no duplicate names, valid UTF-8, no
// lone surrogates.
func newDecoder(text []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBuffer(text))
}

// checkJSON returns an *Error unless text is one strict JSON value.
func checkJSON(text []byte) error {
	d := newDecoder(text)
	if _, err := d.ReadValue(); err != nil {
		return syntaxError(err, text)
	}
	return checkEnd(d, text)
}

// syntaxError says in words what is wrong with JSON text, and where.
func syntaxError(err error, text []byte) *Error {
	if errors.Is(err, io.EOF) && len(bytes.TrimSpace(text)) == 0 {
		return Errorf(CodeInvalidRequest, "the event has no data where JSON is needed")
	}
	var s *jsontext.SyntacticError
	if !errors.As(err, &s) {
		return Errorf(CodeInvalidRequest, "the JSON is malformed: %w", err)
	}
	e := Errorf(CodeInvalidRequest, "the JSON is malformed at byte %d: %w", s.ByteOffset, s.Err)
	e.Field = string(s.JSONPointer)
	rest := strings.TrimPrefix(string(text[min(int(s.ByteOffset), len(text)):]), "-")
	if strings.HasPrefix(rest, "NaN") || strings.HasPrefix(rest, "Inf") {
		e.Expected = "a finite number: JSON has no NaN and no Infinity"
	}
	return e
}
