package events

import (
	"bytes"
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/stretchr/testify/require"
)

type header = map[string][]string

// minimal returns the header of a valid event in binary mode, changed by pairs
// of name and value; a name with value "-" is taken out.
func minimal(changes ...string) header {
	h := header{"ce-specversion": {"1.0"}, "ce-id": {"e1"}, "ce-source": {"/test"}, "ce-type": {TypeImageGenerate}}
	for i := 0; i < len(changes); i += 2 {
		if changes[i+1] == "-" {
			delete(h, changes[i])
		} else {
			h[changes[i]] = []string{changes[i+1]}
		}
	}
	return h
}

func requireSameEvent(t *testing.T, want, got Event) {
	t.Helper()
	w, g := want.Context.(*event.EventContextV1), got.Context.(*event.EventContextV1)
	require.Equal(t, w.ID, g.ID)
	require.Equal(t, w.Source.String(), g.Source.String())
	require.Equal(t, w.Type, g.Type)
	require.Equal(t, w.Subject, g.Subject)
	require.Equal(t, w.DataContentType, g.DataContentType)
	require.Equal(t, want.DataSchema(), got.DataSchema())
	require.Equal(t, w.Time == nil, g.Time == nil)
	require.True(t, want.Time().Equal(got.Time()), "%s and %s", want.Time(), got.Time())
	require.Equal(t, texts(t, want), texts(t, got))
	require.True(t, bytes.Equal(want.Data(), got.Data()), "%q and %q", want.Data(), got.Data())
}

// texts returns the extensions in the string form all modes keep.
func texts(t *testing.T, e Event) map[string]string {
	t.Helper()
	m := make(map[string]string)
	for name := range e.Extensions() {
		m[name] = e.text(name)
	}
	return m
}

func TestEncodeBinary(t *testing.T) {
	h, data, err := EncodeBinary(testRequest(t))
	require.NoError(t, err)
	require.Equal(t, header{
		"ce-specversion":     {"1.0"},
		"ce-id":              {"r1"},
		"ce-source":          {"/clients/test"},
		"ce-type":            {TypeImageGenerate},
		"ce-subject":         {"r1"},
		"ce-time":            {"2026-01-31T12:00:00.123456789Z"},
		"ce-datacontenttype": {"application/json"},
		"Content-Type":       {"application/json"},
		"ce-sequence":        {"0000000012"},
		"ce-attempt":         {"2"},
		"ce-correlationid":   {"album%207"},
		"ce-causationid":     {"r0"},
		"ce-traceparent":     {"00-0af7651916cd43dd8448eb211c80319c-b9c7c989f97918e1-01"},
		"ce-expirytime":      {"2026-01-31T13:00:00.123456789Z"},
	}, h)
	require.JSONEq(t, `{"model": "emoji-64", "prompt": "a red apple", "steps": 20, "seed": 9007199254740991}`, string(data))
}

func TestEncodeRefuses(t *testing.T) {
	for name, v := range map[string]struct {
		change func(e *Event)
		says   string
	}{
		"no id":               {func(e *Event) { e.Context.(*event.EventContextV1).ID = "" }, "id: found nothing"},
		"no source":           {func(e *Event) { e.Context.(*event.EventContextV1).Source.Path = "" }, "source: found nothing"},
		"no type":             {func(e *Event) { e.Context.(*event.EventContextV1).Type = "" }, "type: found nothing"},
		"no attributes":       {func(e *Event) { e.Context = nil }, "specversion: found an event without"},
		"line break in id":    {func(e *Event) { e.SetID("a\r\nX: y") }, "id: found a character that CloudEvents do not allow, at byte 1"},
		"invalid UTF-8":       {func(e *Event) { e.SetSubject("a\xff") }, "subject: found a character"},
		"bad content type":    {func(e *Event) { e.SetDataContentType("json") }, `datacontenttype: found "json"`},
		"bad extension name":  {func(e *Event) { e.Context.(*event.EventContextV1).Extensions["a_b"] = "c" }, `the extension name "a_b"`},
		"standard extension":  {func(e *Event) { e.Context.(*event.EventContextV1).Extensions["id"] = "c" }, `the extension name "id"`},
		"bad extension value": {func(e *Event) { e.Context.(*event.EventContextV1).Extensions["x"] = []int{1} }, "x: found a []int"},
		"too large":           {func(e *Event) { e.DataEncoded = make([]byte, MaxEventBytes+1) }, "65537 bytes; expected at most 65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			e := testRequest(t)
			v.change(&e)
			_, _, err := EncodeBinary(e)
			require.ErrorContains(t, err, v.says)
			require.ErrorIs(t, err, &Error{Code: CodeInvalidRequest})
			_, _, err = EncodeStructured(e)
			require.ErrorContains(t, err, v.says)
		})
	}
}

// A payload just small enough in binary mode may be too large with the envelope.
func TestEncodeStructuredCountsTheEnvelope(t *testing.T) {
	e := testRequest(t)
	e.SetDataContentType("text/plain")
	e.DataEncoded = bytes.Repeat([]byte("x"), MaxEventBytes)
	_, _, err := EncodeBinary(e)
	require.NoError(t, err)
	_, _, err = EncodeStructured(e)
	require.ErrorContains(t, err, "expected at most 65536 bytes")
}

func roundTripEvents(t *testing.T) map[string]Event {
	t.Helper()
	full := testRequest(t)
	full.SetDataSchema("https://example.org/schema?x=%20#f")
	full.SetSource("urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66")
	full.SetExtension("dataref", "nats://bucket/object")
	full.SetExtension("number", -7)
	full.SetExtension("flag", true)
	full.SetExtension("bytes", []byte{0, 255})
	full.SetExtension("empty", "")
	full.SetExtension("words", `Euro € 😀 "quoted" 100% <&>`)

	bare := New("com.example.other")
	bare.SetID("x y")
	bare.SetSource("#a")

	text := bare.Clone()
	text.SetDataContentType("text/plain; charset=utf-8")
	text.DataEncoded = []byte("line\n\"€\"\x00")

	binaryData := bare.Clone()
	binaryData.SetDataContentType("image/png")
	binaryData.DataEncoded = []byte{0x89, 'P', 0xff}

	noted := bare.Clone()
	noted.SetDataContentType("application/cloudevents+json") // an event as the data of an event
	noted.DataEncoded = []byte(`{ "spaces" : [1.50, "kept"] }`)

	null := bare.Clone()
	null.SetDataContentType("application/json")
	null.DataEncoded = []byte("null")

	broken := null.Clone()
	broken.DataEncoded = []byte(`{"not": JSON`)
	return map[string]Event{"full": full, "bare": bare, "text": text, "binary": binaryData, "event in event": noted, "null": null, "broken": broken}
}

func TestRoundTrip(t *testing.T) {
	for name, e := range roundTripEvents(t) {
		require.Empty(t, e.FieldErrors, name)
		for mode, encode := range map[string]func(Event) (map[string][]string, []byte, error){"binary": EncodeBinary, "structured": EncodeStructured} {
			t.Run(name+" "+mode, func(t *testing.T) {
				h, data, err := encode(e)
				require.NoError(t, err)
				back, err := Decode(h, data)
				require.NoError(t, err)
				requireSameEvent(t, e, back)
			})
		}
	}
}

// The SDK reads what we write and we read what it writes, in the JSON format.
func TestStructuredAgreesWithSDK(t *testing.T) {
	for name, e := range roundTripEvents(t) {
		if name == "broken" || name == "event in event" {
			continue // the SDK writes the first as it is, and base64 as plain text for the second
		}
		t.Run(name, func(t *testing.T) {
			_, data, err := EncodeStructured(e)
			require.NoError(t, err)
			theirs := event.New()
			require.NoError(t, theirs.UnmarshalJSON(data))
			requireSameEvent(t, e, Event{theirs})

			e.DataBase64 = name == "binary"
			data, err = e.MarshalJSON()
			require.NoError(t, err)
			ours, err := Decode(header{"Content-Type": {"application/cloudevents+json"}}, data)
			require.NoError(t, err)
			requireSameEvent(t, e, ours)
		})
	}
}

// The HTTP binding maps attributes as the NATS binding does, but for the
// Content-Type, and the SDK does not percent-encode in it.
func TestBinaryAgreesWithSDK(t *testing.T) {
	e := testRequest(t)
	e.SetExtension("correlationid", "album-7")
	h, data, err := EncodeBinary(e)
	require.NoError(t, err)

	httpHeader := make(http.Header)
	for name, values := range h {
		httpHeader[http.CanonicalHeaderKey(name)] = values
	}
	httpHeader.Del("Ce-Datacontenttype")
	m := cehttp.NewMessage(httpHeader, http.NoBody)
	m.BodyReader = newBody(data)
	theirs, err := binding.ToEvent(context.Background(), m)
	require.NoError(t, err)
	requireSameEvent(t, e, Event{*theirs})

	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://localhost", nil)
	require.NoError(t, err)
	require.NoError(t, cehttp.WriteRequest(binding.WithForceBinary(context.Background()), (*binding.EventMessage)(&e.Event), request))
	var body bytes.Buffer
	_, err = body.ReadFrom(request.Body)
	require.NoError(t, err)
	ours, err := Decode(request.Header, body.Bytes())
	require.NoError(t, err)
	requireSameEvent(t, e, ours)
}

type closingReader struct{ *bytes.Reader }

func (closingReader) Close() error { return nil }

func newBody(data []byte) closingReader { return closingReader{bytes.NewReader(data)} }

func TestDecodeBinary(t *testing.T) {
	h := header{
		"CE-Specversion": {"1.0"}, "Ce-Id": {"e%201"}, "ce-SOURCE": {"//host/a?b"}, "ce-type": {`"quoted type"`}, "Ce-Subject": {"r1"},
		"ce-time": {"2026-01-31t12:00:00+01:00"}, "Content-Type": {"application/json; charset=utf-8"}, "Nats-Msg-Id": {"m1"},
		"ce-myext": {"%E2%82%AC"}, "ce-sequence": {"7"}, "ce-attempt": {"1"}, "ce-expirytime": {"2026-01-31T12:00:00.5Z"}, "ce-dataref": {"a/b"},
	}
	e, err := Decode(h, []byte("{}"))
	require.NoError(t, err)
	require.Equal(t, "e 1", e.ID())
	require.Equal(t, "//host/a?b", e.Source())
	require.Equal(t, "quoted type", e.Type())
	require.True(t, e.Time().Equal(time.Date(2026, 1, 31, 11, 0, 0, 0, time.UTC)))
	require.Equal(t, "application/json; charset=utf-8", e.DataContentType())
	require.Equal(t, "€", e.Extensions()["myext"])
	require.Equal(t, 7, e.Sequence())
	require.Equal(t, 1, e.Attempt())
	require.Equal(t, "a/b", e.DataRef())
	require.Equal(t, 500*time.Millisecond, time.Duration(e.ExpiryTime().Nanosecond()))
	require.NotContains(t, e.Extensions(), "nats-msg-id")
	require.Equal(t, []byte("{}"), e.Data())
}

// Where both are there, the attribute counts, and Content-Type only says the mode.
func TestDatacontenttypeHeaderWins(t *testing.T) {
	e, err := Decode(minimal("ce-datacontenttype", "application/json", "Content-Type", "text/plain"), nil)
	require.NoError(t, err)
	require.Equal(t, "application/json", e.DataContentType())
}

func TestDecodeBinaryRefuses(t *testing.T) {
	for name, v := range map[string]struct {
		header header
		field  string
		says   string
	}{
		"no header at all":       {nil, "ce-specversion", "ce-specversion, ce-id, ce-type, ce-source; expected specversion, id, source and type in headers with the prefix ce-, or a JSON event"},
		"no id":                  {minimal("ce-id", "-"), "ce-id", "missing: ce-id"},
		"no source":              {minimal("ce-source", "-"), "ce-source", "missing: ce-source"},
		"no type":                {minimal("ce-type", "-"), "ce-type", "missing: ce-type"},
		"no specversion":         {minimal("ce-specversion", "-"), "ce-specversion", "missing: ce-specversion"},
		"specversion 0.3":        {minimal("ce-specversion", "0.3"), "ce-specversion", `found "0.3"; expected 1.0`},
		"empty id":               {minimal("ce-id", ""), "ce-id", "found an empty value"},
		"empty subject":          {minimal("ce-subject", " "), "ce-subject", "found an empty value"},
		"control character":      {minimal("ce-id", "a%0Ab"), "ce-id", "at byte 1"},
		"NUL":                    {minimal("ce-id", "%00"), "ce-id", "at byte 0"},
		"C1 control":             {minimal("ce-id", "%C2%85"), "ce-id", "at byte 0"},
		"noncharacter":           {minimal("ce-id", "a%EF%BF%BF"), "ce-id", "at byte 1"},
		"invalid UTF-8":          {minimal("ce-id", "%C0%A0"), "ce-id", "not valid UTF-8"},
		"bad percent":            {minimal("ce-subject", "100%"), "ce-subject", "not followed by two hexadecimal digits"},
		"name with underscore":   {minimal("ce-my_ext", "x"), "ce-my_ext", `the attribute name "my_ext"`},
		"name that is not ASCII": {minimal("ce-É", "x"), "ce-É", "lower-case letters and digits"},
		"name data":              {minimal("ce-data", "x"), "ce-data", "other than data"},
		"empty name":             {minimal("ce-", "x"), "ce-", "lower-case letters and digits"},
		"twice":                  {header{"ce-specversion": {"1.0"}, "ce-id": {"a", "b"}, "ce-source": {"/"}, "ce-type": {"t"}}, "ce-id", "found 2 values"},
		"no values":              {header{"ce-id": {}}, "ce-id", "found 0 values"},
		"twice in two cases":     {minimal("CE-ID", "e1"), "ce-id", "found the attribute twice"},
		"extension in two cases": {minimal("ce-x", "1", "CE-X", "1"), "ce-x", "found the attribute twice"},
		"bad time":               {minimal("ce-time", "yesterday"), "ce-time", `found "yesterday"; expected a time as in RFC 3339`},
		"time without zone":      {minimal("ce-time", "2026-01-31T12:00:00"), "ce-time", "RFC 3339"},
		"time of no calendar":    {minimal("ce-time", "2026-02-30T12:00:00Z"), "ce-time", "RFC 3339"},
		"time out of years":      {minimal("ce-time", "9999-12-31T23:59:59-01:00"), "ce-time", "RFC 3339"},
		"bad expirytime":         {minimal("ce-expirytime", "1700000000"), "ce-expirytime", `found "1700000000"; expected a time as in RFC 3339`},
		"empty expirytime":       {minimal("ce-expirytime", ""), "ce-expirytime", "RFC 3339"},
		"bad sequence":           {minimal("ce-sequence", "1.5"), "ce-sequence", `found "1.5"; expected an integer from 0 to 2147483647`},
		"bad attempt":            {minimal("ce-attempt", "-1"), "ce-attempt", "an integer from 0"},
		"large attempt":          {minimal("ce-attempt", "2147483648"), "ce-attempt", "an integer from 0"},
		"empty correlationid":    {minimal("ce-correlationid", ""), "ce-correlationid", "a non-empty string"},
		"bad dataref":            {minimal("ce-dataref", "a%253"), "ce-dataref", "a URI reference"},
		"bad source":             {minimal("ce-source", ":x"), "ce-source", "a URI reference"},
		"empty fragment source":  {minimal("ce-source", "#"), "ce-source", "a URI reference"},
		"relative dataschema":    {minimal("ce-dataschema", "/schema"), "ce-dataschema", "an absolute URI"},
		"bad datacontenttype":    {minimal("ce-datacontenttype", "json"), "ce-datacontenttype", "a media type such as"},
		"bad content type":       {minimal("Content-Type", "json"), "ce-datacontenttype", "a media type such as"},
		"two content types":      {header{"Content-Type": {"a/b", "c/d"}}, "Content-Type", "found 2 values"},
		"canonical and not":      {header{"Content-Type": {"a/b"}, "content-type": {"application/cloudevents+json"}}, "Content-Type", "found 2 values"},
		"content type, 2 cases":  {header{"Content-type": {"a/b"}, "content-type": {"c/d"}}, "Content-Type", "found 2 values"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decode(v.header, []byte("{}"))
			requireInvalid(t, err, v.field, v.says)
		})
	}
}

// requireInvalid demands an *Error with CodeInvalidRequest, the field and words.
func requireInvalid(t *testing.T, err error, field, says string) {
	t.Helper()
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, CodeInvalidRequest, e.Code)
	require.Equal(t, field, e.Field)
	require.NotEmpty(t, e.Expected, e.Error())
	require.Contains(t, e.Error(), says)
	require.NotEmpty(t, e.Advice)
	require.False(t, e.Retriable)
}

func TestDecodeStructured(t *testing.T) {
	text := `{"datacontenttype": null, "data": {"a": [1, "\u20ac"]}, "subject": null, "id": "\u0065 1", "time": "2026-01-31T12:00:00Z",
		"flag": true, "number": -7, "unset": null, "sequence": "0007", "attempt": 3, "source": "/s", "type": "t", "specversion": "1.0"} `
	for _, contentType := range []string{"application/cloudevents+json", "APPLICATION/CloudEvents+JSON; charset=UTF-8", "application/cloudevents"} {
		e, err := Decode(header{"content-type": {contentType}, "ce-id": {"not looked at"}}, []byte(text))
		require.NoError(t, err)
		require.Equal(t, "e 1", e.ID())
		require.Empty(t, e.Subject())
		require.Equal(t, "application/json", e.DataContentType(), "implied")
		require.True(t, bytes.Equal([]byte(`{"a": [1, "\u20ac"]}`), e.Data()), "as it was written: %s", e.Data())
		require.Equal(t, map[string]any{"flag": true, "number": int32(-7), "sequence": "0000000007", "attempt": int32(3)}, e.Extensions())
		require.Equal(t, 7, e.Sequence())
		require.Equal(t, 3, e.Attempt())
	}
}

func TestDecodeStructuredData(t *testing.T) {
	const start = `{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", `
	for members, want := range map[string]string{
		`"data": "text"`: `"text"`,
		`"data": null`:   `null`,
		`"data": 1.50`:   `1.50`,
		`"data": "a\u00e9\n", "datacontenttype": "text/plain"`:       "aé\n",
		`"datacontenttype": "application/vnd.x+json", "data": []`:    `[]`,
		`"data_base64": "AP8="`:                                      "\x00\xff",
		`"data_base64": "AP8\u003d", "datacontenttype": "image/x"`:   "\x00\xff",
		`"data_base64": null, "data": true`:                          `true`,
		`"data_base64": "eyJhIjoxfQ==", "datacontenttype": "x/json"`: `{"a":1}`,
		`"x": 1`: "",
	} {
		e, err := Decode(header{"Content-Type": {"application/cloudevents+json"}}, []byte(start+members+"}"))
		require.NoError(t, err, members)
		require.Equal(t, want, string(e.Data()), members)
	}
}

func TestDecodeStructuredRefuses(t *testing.T) {
	const start = `{"specversion": "1.0", "id": "1", "source": "/s", "type": "t"`
	for name, v := range map[string]struct{ text, field, says string }{
		"nothing":              {"", "message", "no data where JSON is needed"},
		"blank":                {" \n", "message", "no data where JSON is needed"},
		"not JSON":             {"hello", "message", "malformed at byte 0"},
		"an array":             {"[]", "message", "expected a JSON object"},
		"cut off":              {start, "message", "cut off after 61 bytes"},
		"cut off in a string":  {start + `, "subject": "abc`, "/subject", "cut off"},
		"trailing comma":       {start + ",}", "message", "malformed at byte 61"},
		"trailing garbage":     {start + "} x", "message", "ends before byte 63 of 64 but more follows"},
		"two events":           {start + "}" + start + "}", "message", "but more follows"},
		"twice":                {start + `, "id": "2"}`, "/id", "duplicate"},
		"data twice":           {start + `, "data": 1, "data": 2}`, "/data", "expected each name once"},
		"twice within data":    {start + `, "data": {"a": 1, "a": 1}}`, "/data/a", "expected each name once"},
		"NaN":                  {start + `, "data": {"a": NaN}}`, "/data/a", "JSON has no NaN and no Infinity"},
		"invalid UTF-8":        {start + ", \"subject\": \"\xff\"}", "/subject", "invalid UTF-8"},
		"lone surrogate":       {start + `, "subject": "\ud800"}`, "/subject", "surrogate"},
		"raw NUL":              {start + ", \"subject\": \"\x00\"}", "/subject", "malformed at byte 75"},
		"escaped NUL":          {start + `, "subject": "\u0000"}`, "/subject", "a character that CloudEvents do not allow"},
		"missing":              {`{"specversion": "1.0"}`, "/id", "missing: /id, /type, /source"},
		"null is missing":      {strings.Replace(start, `"1"`, "null", 1) + "}", "/id", "missing: /id"},
		"specversion":          {strings.Replace(start, "1.0", "2.0", 1) + "}", "/specversion", `found "2.0"; expected 1.0`},
		"numeric specversion":  {strings.Replace(start, `"1.0"`, "1.0", 1) + "}", "/specversion", "expected a string"},
		"numeric id":           {strings.Replace(start, `"1"`, "1", 1) + "}", "/id", "expected a string"},
		"object as attribute":  {start + `, "x": {}}`, "/x", "expected a string, boolean or integer"},
		"object as id":         {strings.Replace(start, `"1"`, "{}", 1) + "}", "/id", "expected a string"},
		"fraction":             {start + `, "x": 1.5}`, "/x", "expected an integer from -2147483648"},
		"large integer":        {start + `, "x": 2147483648}`, "/x", "expected an integer from -2147483648"},
		"boolean expirytime":   {start + `, "expirytime": true}`, "/expirytime", "a time as in RFC 3339"},
		"numeric traceparent":  {start + `, "traceparent": 1}`, "/traceparent", "a non-empty string"},
		"upper-case name":      {start + `, "MyExt": "x"}`, "/MyExt", "lower-case letters and digits"},
		"empty name":           {start + `, "": "x"}`, "/", "lower-case letters and digits"},
		"data and data_base64": {start + `, "data": 1, "data_base64": ""}`, "/data_base64", "found both"},
		"not base64":           {start + `, "data_base64": "?"}`, "/data_base64", "standard base64"},
		"base64 of no string":  {start + `, "data_base64": 1}`, "/data_base64", "a string in base64"},
		"text that is none":    {start + `, "datacontenttype": "text/plain", "data": 1}`, "/data", "a string, because datacontenttype"},
		"too large":            {start + `, "data": "` + strings.Repeat("x", 1<<20) + `"}`, "message", "expected at most 65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decode(header{"Content-Type": {"application/cloudevents+json"}}, []byte(v.text))
			requireInvalid(t, err, v.field, v.says)
		})
	}
}

func TestDecodeRefusesOtherContentTypes(t *testing.T) {
	for contentType, says := range map[string]string{
		"application/cloudevents-batch+json":           "found a batch of events",
		"application/cloudevents-batch":                "found a batch of events",
		"Application/CloudEvents+avro":                 "expected application/cloudevents+json",
		"application/cloudevents+json; charset=latin1": `found charset "latin1"`,
		"application/cloudevents+json/x":               "expected application/cloudevents+json",
		"application/cloudeventsplus":                  "expected application/cloudevents+json",
	} {
		_, err := Decode(header{"Content-Type": {contentType}}, []byte("{}"))
		requireInvalid(t, err, "Content-Type", says)
	}
}

func TestErrorsCutLongValues(t *testing.T) {
	_, err := Decode(minimal("ce-time", strings.Repeat("9", 1<<16)), nil)
	require.ErrorContains(t, err, "(65536 bytes)")
	require.Less(t, len(err.Error()), 300)
}

func FuzzDecode(f *testing.F) {
	f.Add("application/json", "ce-subject", "Euro%20%E2%82%AC", []byte(`{"model": "m", "prompt": "p"}`))
	f.Add("", "ce-time", "2026-01-31T12:00:00.5+01:00", []byte("x"))
	f.Add("", "CE-Source", `"urn:\"a"`, []byte(nil))
	f.Add("text/plain", "ce-dataschema", "https://h/%20?q#f", []byte{0, 255})
	f.Add("", "ce-expirytime", "0000-01-01T00:00:00+01:00", []byte{})
	f.Add("", "ce-sequence", "0012", []byte{})
	f.Add("application/cloudevents+json", "", "", []byte(`{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "x": true, "n": 1, "time": "2026-01-31T12:00:00Z", "data": {"a": 1}}`))
	f.Add("application/cloudevents", "", "", []byte(`{"specversion":"1.0","id":"1","source":"a:b","type":"t","data_base64":"`+base64.StdEncoding.EncodeToString([]byte{1, 2})+`"}`))
	f.Fuzz(func(t *testing.T, contentType, name, value string, data []byte) {
		h := minimal(name, value)
		if contentType != "" {
			h["Content-Type"] = []string{contentType}
		}
		e, err := Decode(h, data)
		if err != nil {
			require.ErrorIs(t, err, &Error{Code: CodeInvalidRequest})
			return
		}
		_ = Validate(e) // does not panic either
		bh, bdata, err := EncodeBinary(e)
		require.NoError(t, err)
		back, err := Decode(bh, bdata)
		require.NoError(t, err)
		requireSameEvent(t, e, back)

		sh, sdata, err := EncodeStructured(e)
		if err != nil {
			require.ErrorContains(t, err, "at most 65536 bytes")
			return
		}
		back, err = Decode(sh, sdata)
		require.NoError(t, err)
		e = e.Clone()
		if !back.DataBase64 && jsonMedia(e.DataContentType()) {
			e.DataEncoded = bytes.Trim(e.DataEncoded, " \t\r\n") // white space around a JSON value is not part of it
		}
		if e.DataContentType() == "" {
			e.SetDataContentType(back.DataContentType()) // JSON is implied and becomes explicit
			if back.DataContentType() == "" {
				e.Context.(*event.EventContextV1).DataContentType = nil
			}
		}
		requireSameEvent(t, e, back)
	})
}
