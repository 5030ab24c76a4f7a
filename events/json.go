package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// maxNesting bounds objects and arrays within each other in an event's data.
const maxNesting = 32

// newDecoder reads strict JSON (RFC 7493): no duplicate names, valid UTF-8, no
// lone surrogates. encoding/json would silently replace or drop these.
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

// jsonReader reads strict JSON into the values the schema validator takes:
// map[string]any, []any, string, bool, nil and json.Number.
type jsonReader struct {
	*jsontext.Decoder
	text []byte
	// rewritten is set when a number was given another form that means the
	// same: integers without fraction and exponent, as Go's integers need them.
	rewritten bool
}

func parseJSON(text []byte) (value any, rewritten bool, err error) {
	r := jsonReader{Decoder: newDecoder(text), text: text}
	if value, err = r.value(); err != nil {
		return nil, false, err
	}
	return value, r.rewritten, checkEnd(r.Decoder, text)
}

func (r *jsonReader) value() (any, error) {
	t, err := r.ReadToken()
	if err != nil {
		return nil, syntaxError(err, r.text)
	}
	if r.StackDepth() > maxNesting {
		e := Errorf(CodeInvalidRequest, "the JSON is nested deeper than %d levels at byte %d", maxNesting, r.InputOffset())
		e.Expected = fmt.Sprintf("at most %d objects and arrays within each other", maxNesting)
		return nil, e
	}
	switch t.Kind() {
	case '{':
		return r.object()
	case '[':
		return r.array()
	case '"':
		return t.String(), nil
	case '0':
		return r.number(t.String())
	case 't', 'f':
		return t.Bool(), nil
	default: // jsontext returns no other kind here but null
		return nil, nil
	}
}

func (r *jsonReader) object() (any, error) {
	m := make(map[string]any)
	for r.PeekKind() != '}' {
		t, err := r.ReadToken()
		if err != nil {
			return nil, syntaxError(err, r.text)
		}
		name := t.String()
		if m[name], err = r.value(); err != nil {
			return nil, err
		}
	}
	_, err := r.ReadToken()
	return m, err
}

func (r *jsonReader) array() (any, error) {
	a := []any{}
	for r.PeekKind() != ']' {
		v, err := r.value()
		if err != nil {
			return nil, err
		}
		a = append(a, v)
	}
	_, err := r.ReadToken()
	return a, err
}

// number keeps plain integers. Others are brought to the range and precision of
// float64, because the validator computes with exact rationals and 1e999999999
// would take all memory.
func (r *jsonReader) number(text string) (any, error) {
	if len(text) <= 18 && text != "-0" && !strings.ContainsAny(text, ".eE") {
		return json.Number(text), nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		e := Errorf(CodeInvalidRequest, "found %s", quoteShort(text))
		e.Field, e.Expected = string(r.StackPointer()), "a number that 64-bit floating point can hold"
		return nil, e
	}
	r.rewritten = true
	if f == math.Trunc(f) && math.Abs(f) <= 1<<53 {
		return json.Number(strconv.FormatInt(int64(f), 10)), nil
	}
	return json.Number(strconv.FormatFloat(f, 'g', -1, 64)), nil
}

// asJSON says what was expected where JSON could not be read.
func asJSON(e *Error) *Error {
	e.Expected = "one whole JSON value in UTF-8, control characters in texts escaped (RFC 8259)"
	return e
}

// syntaxError says in words what is wrong with JSON text, and where.
func syntaxError(err error, text []byte) *Error {
	if len(bytes.TrimSpace(text)) == 0 {
		return asJSON(Errorf(CodeInvalidRequest, "the event has no data where JSON is needed"))
	}
	var s *jsontext.SyntacticError
	if !errors.As(err, &s) {
		return asJSON(Errorf(CodeInvalidRequest, "the JSON is malformed: %w", err))
	}
	e := asJSON(Errorf(CodeInvalidRequest, "the JSON is malformed at byte %d: %w", s.ByteOffset, s.Err))
	e.Field = string(s.JSONPointer)
	rest := bytes.TrimPrefix(text[min(int(s.ByteOffset), len(text)):], []byte("-"))
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		e.Expected = "each name once"
	case errors.Is(err, io.ErrUnexpectedEOF):
		e.Message = fmt.Sprintf("the JSON is cut off after %d bytes", len(text))
	case bytes.HasPrefix(rest, []byte("NaN")), bytes.HasPrefix(rest, []byte("Inf")):
		e.Expected = "a finite number: JSON has no NaN and no Infinity"
	}
	return e
}
