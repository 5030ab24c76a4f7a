package events

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestExpectation(t *testing.T) {
	for node, words := range map[string]string{
		`{"enum": ["a", 1]}`:                                               "one of a, 1",
		`{"type": "integer"}`:                                              "an integer",
		`{"type": "integer", "minimum": 1}`:                                "an integer of at least 1",
		`{"type": "number", "maximum": 1.5}`:                               "a number of at most 1.5",
		`{"type": "number", "minimum": 0, "maximum": 1}`:                   "a number from 0 to 1",
		`{"type": "boolean"}`:                                              "true or false",
		`{"type": "object"}`:                                               "an object",
		`{"type": "array"}`:                                                "an array",
		`{"type": "string"}`:                                               "a string",
		`{"type": "string", "format": "date-time"}`:                        "a time as in RFC 3339, such as 2026-01-31T12:00:00Z",
		`{"type": "string", "contentEncoding": "base64"}`:                  "text in base64",
		`{"type": "string", "minLength": 1}`:                               "text that is not empty",
		`{"type": "string", "maxLength": 5}`:                               "text of at most 5 characters",
		`{"type": "string", "minLength": 1, "maxLength": 5}`:               "text of 1 to 5 characters",
		`{"type": "string", "pattern": "x", "description": "an x. More."}`: "an x",
		`{}`: "what the schema allows",
	} {
		value, _, err := parseJSON([]byte(node))
		require.NoError(t, err)
		require.Equal(t, words, expectation(value.(map[string]any)))
	}
}

// Every pattern in a request says in words what it allows.
func TestPatternsHaveWords(t *testing.T) {
	schemas, err := loadSchemas()
	require.NoError(t, err)
	var walk func(value any)
	walk = func(value any) {
		switch v := value.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			if _, ok := v["pattern"].(string); ok {
				words := firstSentence(v)
				require.NotEmpty(t, words)
				require.Equal(t, strings.ToLower(words[:1]), words[:1], "it stands after \"expected\": %s", words)
			}
			for _, e := range v {
				walk(e)
			}
		}
	}
	for _, doc := range schemas.source {
		walk(doc)
	}
}

func TestValidateExplainsAnswers(t *testing.T) {
	ref := `{"bucket": "b", "object": "o", "sha256": "` + strings.Repeat("0", 64) + `", "size": 1, "media_type": "a/b"}`
	for _, v := range []struct{ typ, data, field, says string }{
		{TypeExpired, `{"expiry_time": "soon", "found_at": "2026-01-31T12:00:00Z"}`, "/expiry_time", `found the text "soon"; expected a time as in RFC 3339`},
		{TypeProgress, `{"stage": "load", "elapsed_ms": 1, "preview": {"media_type": "image/png", "index": 0, "data": "?"}}`, "/preview/data", "expected text in base64"},
		{TypeProgress, `{"stage": "Load it", "elapsed_ms": 1}`, "/stage", "expected a word of a-z, 0-9 and _"},
		{TypeProgress, `{"stage": "load", "elapsed_ms": true}`, "/elapsed_ms", "found true; expected an integer of at least 0"},
		{TypeAccepted, `{"instance": "", "attempt": 1}`, "/instance", "found text of 0 characters; expected text of 1 to 256 characters"},
		{TypeAccepted, `{"instance": [], "attempt": 1}`, "/instance", "found an array"},
		{TypeFailed, `{"error": {"code": "hang", "title": "t", "message": "m", "advice": "a"}}`, "/error/retriable", "the field is missing; expected true or false"},
		{TypeSucceeded, `{"artifacts": [{"name": "a", "role": "image", "index": 0, "ref": ` + ref + `}, {"name": "b", "role": "image", "index": -1, "ref": ` + ref + `}],
			"request": {"model": "m", "prompt": "p"}, "model": {"name": "m"}, "device": "CPU"}`, "/artifacts/1/index", "found -1; expected an integer of at least 0"},
		{TypeSucceeded, `{"artifacts": {}, "request": {"model": "m", "prompt": "p"}, "model": {"name": "m"}, "device": "CPU"}`, "/artifacts", "found an object; expected an array"},
	} {
		e := imageRequest(v.data)
		e.SetType(v.typ)
		requireInvalid(t, Validate(e), v.field, v.says)
	}
}

func TestPayloadAsMap(t *testing.T) {
	m, err := Payload[map[string]any](imageRequest(with(`"steps": 5`)))
	require.NoError(t, err)
	require.Equal(t, map[string]any{"model": "m", "prompt": "p", "steps": 5.0}, m)
	_, err = Payload[[]string](imageRequest(with(`"steps": 5`)))
	require.ErrorContains(t, err, "cannot be read")
}

func TestEditDistance(t *testing.T) {
	for _, v := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"step", "steps", 1}, {"widht", "width", 2}, {"kitten", "sitting", 3}} {
		require.Equal(t, v.want, editDistance(v.a, v.b), v)
	}
	require.Equal(t, "width", nearest("widht", []string{"height", "width"}))
	require.Empty(t, nearest("depth", []string{"height", "steps"}))
	require.Empty(t, nearest("x", []string{"a"}), "everything is near a name of one letter")
}

func TestDescribe(t *testing.T) {
	for _, v := range []struct {
		value any
		words string
	}{{nil, "null"}, {true, "true"}, {json.Number("1.50"), "1.50"}, {"a\x00", `the text "a\x00"`}, {[]any{}, "an array"}, {map[string]any{}, "an object"}} {
		require.Equal(t, v.words, describe(v.value))
	}
}

func TestSequenceKeepsLexicographicOrder(t *testing.T) {
	last := ""
	for _, n := range []int{0, 1, 9, 10, 99, 1 << 20, math.MaxInt32} {
		e := New(TypeProgress)
		e.SetSequence(n)
		text := e.Extensions()[ExtSequence].(string)
		require.Greater(t, text, last)
		require.Equal(t, n, e.Sequence())
		last = text
	}
}
