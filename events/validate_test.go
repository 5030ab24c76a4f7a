package events

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// imageRequest returns an image.generate event with the given data.
func imageRequest(data string) Event {
	e := New(TypeImageGenerate)
	e.SetID("r1")
	e.SetSource("/test")
	e.SetDataContentType("application/json")
	e.DataEncoded = []byte(data)
	return e
}

// with returns the data of a valid request with one more member.
func with(member string) string { return `{"model": "m", "prompt": "p", ` + member + `}` }

func TestValidateRefusesBadRequests(t *testing.T) {
	const (
		ref    = `{"bucket": "b", "object": "o", "sha256": "` + "%s" + `", "size": 1, "media_type": "a/b"}`
		fields = "only the fields count, degrade, device, fallback, format, guidance_scale, height, latents, model, negative_prompt, output_latents, preview_every, prompt, scheduler, seed, steps, width"
	)
	sum := strings.Repeat("0", 64)
	for name, v := range map[string]struct{ data, field, says string }{
		"no data":           {"", "data", "no data where JSON is needed"},
		"blank data":        {" ", "data", "no data where JSON is needed"},
		"not an object":     {`"p"`, "data", `found the text "p"; expected an object`},
		"null":              {`null`, "data", "found null; expected an object"},
		"not JSON":          {`{prompt}`, "data", "the JSON is malformed at byte 1"},
		"cut off":           {`{"model": "m"`, "data", "the JSON is cut off after 13 bytes"},
		"trailing garbage":  {`{"model": "m", "prompt": "p"};`, "data", "ends before byte 29 of 30 but more follows"},
		"two documents":     {`{} {}`, "data", "but more follows"},
		"a name twice":      {`{"model": "m", "prompt": "p", "prompt": "q"}`, "/prompt", "expected each name once"},
		"invalid UTF-8":     {"{\"model\": \"m\", \"prompt\": \"a\xffb\"}", "/prompt", "malformed at byte 27: invalid UTF-8"},
		"overlong UTF-8":    {"{\"model\": \"m\", \"prompt\": \"\xc0\xa0\"}", "/prompt", "invalid UTF-8"},
		"lone surrogate":    {`{"model": "m", "prompt": "\udc00"}`, "/prompt", "surrogate"},
		"raw NUL":           {"{\"model\": \"m\", \"prompt\": \"a\x00\"}", "/prompt", `invalid character '\x00'`},
		"NUL outside":       {"\x00{}", "data", "malformed at byte 0"},
		"byte order mark":   {"\ufeff{}", "data", "malformed at byte 0"},
		"nested too deep":   {strings.Repeat(`[`, 33) + strings.Repeat(`]`, 33), "data", "nested deeper than 32 levels at byte 33"},
		"nested very deep":  {strings.Repeat(`{"a":`, 10000), "data", "nested deeper than 32 levels"},
		"1 MB prompt":       {`{"model": "m", "prompt": "` + strings.Repeat("a", 1<<20) + `"}`, "data", "1048604 bytes; expected at most 65536 bytes"},
		"too many letters":  {`{"model": "m", "prompt": "` + strings.Repeat("é", 10001) + `"}`, "/prompt", "found text of 10001 characters; expected text of 1 to 10000 characters"},
		"empty prompt":      {`{"model": "m", "prompt": ""}`, "/prompt", "found text of 0 characters; expected text of 1 to 10000 characters"},
		"blank prompt":      {`{"model": "m", "prompt": " \n "}`, "/prompt", "expected text that is not blank and has no NUL characters"},
		"NUL in prompt":     {`{"model": "m", "prompt": "a\u0000b"}`, "/prompt", `found the text "a\x00b"; expected text that is not blank`},
		"null prompt":       {`{"model": "m", "prompt": null}`, "/prompt", "found null; expected text of 1 to 10000 characters"},
		"numeric prompt":    {`{"model": "m", "prompt": 5}`, "/prompt", "found 5; expected text of 1 to 10000"},
		"no prompt":         {`{"model": "m"}`, "/prompt", "the field is missing; expected text of 1 to 10000 characters"},
		"no model":          {`{"prompt": "p"}`, "/model", "the field is missing; expected the name of a model folder"},
		"empty object":      {`{}`, "/model", "the field is missing"},
		"path as model":     {`{"model": "../m", "prompt": "p"}`, "/model", `found the text "../m"; expected the name of a model folder: a letter or digit, then up to 63 of A-Z a-z 0-9, dot, underscore and hyphen`},
		"slash in model":    {`{"model": "a/b", "prompt": "p"}`, "/model", `found the text "a/b"`},
		"backslash":         {`{"model": "a\\b", "prompt": "p"}`, "/model", `found the text "a\\b"`},
		"line break":        {`{"model": "a\n", "prompt": "p"}`, "/model", `found the text "a\n"`},
		"dots as model":     {`{"model": "..", "prompt": "p"}`, "/model", `found the text ".."`},
		"long model":        {`{"model": "` + strings.Repeat("m", 65) + `", "prompt": "p"}`, "/model", "(65 bytes); expected the name"},
		"NUL in negative":   {with(`"negative_prompt": "\u0000"`), "/negative_prompt", "expected text without NUL characters"},
		"long negative":     {with(`"negative_prompt": "` + strings.Repeat("n", 10001) + `"`), "/negative_prompt", "expected text of at most 10000 characters"},
		"width 0":           {with(`"width": 0`), "/width", "found 0; expected an integer from 8 to 4096"},
		"negative height":   {with(`"height": -64`), "/height", "found -64; expected an integer from 8 to 4096"},
		"width over":        {with(`"width": 4104`), "/width", "found 4104; expected an integer from 8 to 4096"},
		"huge width":        {with(`"width": 123456789012345678901234567890`), "/width", "found 1.2345678901234568e+29; expected an integer"},
		"fraction of pixel": {with(`"width": 64.5`), "/width", "found 64.5; expected an integer from 8 to 4096"},
		"text as width":     {with(`"width": "64"`), "/width", `found the text "64"; expected an integer`},
		"steps 0":           {with(`"steps": 0`), "/steps", "found 0; expected an integer from 1 to 1000"},
		"negative steps":    {with(`"steps": -1`), "/steps", "found -1"},
		"steps over":        {with(`"steps": 1001`), "/steps", "found 1001"},
		"steps NaN":         {with(`"steps": NaN`), "/steps", "malformed at byte 39: invalid character 'N' at start of value; expected a finite number"},
		"count 0":           {with(`"count": 0`), "/count", "found 0; expected an integer from 1 to 64"},
		"count over":        {with(`"count": 65`), "/count", "found 65"},
		"count NaN":         {with(`"count": NaN`), "/count", "JSON has no NaN"},
		"guidance negative": {with(`"guidance_scale": -0.1`), "/guidance_scale", "found -0.1; expected a number from 0 to 100"},
		"guidance over":     {with(`"guidance_scale": 100.5`), "/guidance_scale", "found 100.5"},
		"guidance NaN":      {with(`"guidance_scale": NaN`), "/guidance_scale", "JSON has no NaN and no Infinity"},
		"guidance Infinity": {with(`"guidance_scale": Infinity`), "/guidance_scale", "JSON has no NaN and no Infinity"},
		"guidance -Inf":     {with(`"guidance_scale": -Infinity`), "/guidance_scale", "JSON has no NaN and no Infinity"},
		"guidance text NaN": {with(`"guidance_scale": "NaN"`), "/guidance_scale", `found the text "NaN"; expected a number from 0 to 100`},
		"guidance 1e999":    {with(`"guidance_scale": 1e999`), "/guidance_scale", `found "1e999"; expected a number that 64-bit`},
		"exponent bomb":     {with(`"seed": 1e999999999`), "/seed", "expected a number that 64-bit"},
		"negative seed":     {with(`"seed": -1`), "/seed", "found -1; expected an integer from 0 to 9007199254740991"},
		"seed over":         {with(`"seed": 9007199254740992`), "/seed", "found 9007199254740992"},
		"scheduler words":   {with(`"scheduler": "Euler a"`), "/scheduler", "expected the name of a scheduler, such as ddim"},
		"scheduler empty":   {with(`"scheduler": ""`), "/scheduler", "expected the name of a scheduler"},
		"format":            {with(`"format": "gif"`), "/format", `found the text "gif"; expected one of png, jpeg, webp`},
		"fallback":          {with(`"fallback": "maybe"`), "/fallback", "expected one of never, allowed, deadline"},
		"preview_every":     {with(`"preview_every": -1`), "/preview_every", "found -1; expected an integer from 0 to 1000"},
		"output_latents":    {with(`"output_latents": 1`), "/output_latents", "found 1; expected true or false"},
		"latents text":      {with(`"latents": "f.npy"`), "/latents", `found the text "f.npy"; expected an object`},
		"latents bad sum":   {with(`"latents": ` + fmt.Sprintf(ref, "abc")), "/latents/sha256", "expected a SHA-256 sum as 64 lower-case hexadecimal digits"},
		"latents field":     {with(`"latents": ` + strings.Replace(fmt.Sprintf(ref, sum), "size", "Size", 1)), "/latents/size", "the field is missing; expected an integer of at least 0"},
		"latents bucket":    {with(`"latents": ` + strings.Replace(fmt.Sprintf(ref, sum), `"b"`, `"a/b"`, 1)), "/latents/bucket", "expected the name of an object store bucket"},
		"unknown field":     {with(`"step": 5`), "/step", `the field "step" is not known; did you mean "steps"?; expected ` + fields},
		"unlike any field":  {with(`"frobnicate": 5`), "/frobnicate", `the field "frobnicate" is not known; expected ` + fields},
		"another case":      {with(`"Width": 64`), "/Width", `did you mean "width"?`},
		"pointer escapes":   {with(`"a/b~c": 5`), "/a~1b~0c", `the field "a/b~c" is not known`},
		"long field":        {with(`"` + strings.Repeat("x", 500) + `": 5`), "/" + strings.Repeat("x", 255) + "...", "(500 bytes) is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Validate(imageRequest(v.data))
			requireInvalid(t, err, v.field, v.says)
			_, err = Payload[ImageGenerate](imageRequest(v.data))
			requireInvalid(t, err, v.field, v.says)
		})
	}
}

// Whatever a message contains, the event that refuses it can be sent.
func TestRefusalsFitIntoAnEvent(t *testing.T) {
	long := strings.Repeat("é", 30000)
	structured := header{"Content-Type": {"application/cloudevents+json"}}
	decode := func(h header, data string) error {
		_, err := Decode(h, []byte(data))
		return err
	}
	members := make([]string, 3000)
	for i := range members {
		members[i] = fmt.Sprintf(`"x%d": 1`, i)
	}
	for name, err := range map[string]error{
		"unknown field":       Validate(imageRequest(with(`"` + long + `": 1`))),
		"many unknown fields": Validate(imageRequest(with(strings.Join(members, ", ")))),
		"long value":          Validate(imageRequest(with(`"scheduler": "` + long + `"`))),
		"name twice":          Validate(imageRequest(`{"` + long[:40000] + `": 1, "` + long[:20000] + `": 1, "` + long[:20000] + `": 1}`)),
		"long number":         Validate(imageRequest(with(`"seed": 1` + strings.Repeat("0", 60000)))),
		"many violations":     Validate(imageRequest(with(`"latents": {` + strings.Join(members, ", ") + `}, "width": 0`))),
		"attribute name":      decode(structured, `{"`+long+`": 1}`),
		"attribute twice":     decode(structured, `{"`+long[:20000]+`": null, "`+long[:20000]+`": null}`),
		"header name":         decode(minimal("ce-"+long, "x"), ""),
		"header not UTF-8":    decode(minimal("ce-\xff"+strings.Repeat("\xff", 70000), "x"), ""),
		"header value":        decode(minimal("ce-time", long), ""),
		"content type":        decode(header{"Content-Type": {"application/cloudevents" + long}}, ""),
	} {
		require.Error(t, err, name)
		answer, err := NewAnswer(TypeFailed, Meta{RequestID: "r1", Source: "/s"}, Failed{Error: AsError(err)})
		require.NoError(t, err, name)
		require.NoError(t, Validate(answer), name)
		require.Less(t, len(answer.Data()), 8<<10, name)
	}
}

func TestValidateListsAllViolations(t *testing.T) {
	err := Validate(imageRequest(with(`"width": 0, "count": 0, "extra": 1`)))
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "/extra", e.Field, "the order does not depend on a map")
	require.Contains(t, e.Detail, "/count: found 0")
	require.Contains(t, e.Detail, "/width: found 0")
}

func TestValidateAcceptsTheLimits(t *testing.T) {
	for _, member := range []string{
		`"width": 8, "height": 4096`, `"steps": 1, "count": 64`, `"steps": 1000, "count": 1`, `"guidance_scale": 0`, `"guidance_scale": 100`,
		`"guidance_scale": 7.5, "seed": 0`, `"seed": 9007199254740991`, `"negative_prompt": ""`, `"preview_every": 0`, `"preview_every": 1000`,
		`"format": "webp", "fallback": "never"`, `"scheduler": "DPMSolverMultistepScheduler"`, `"output_latents": true`,
	} {
		require.NoError(t, Validate(imageRequest(with(member))), member)
	}
	require.NoError(t, Validate(imageRequest(`{"model": "`+strings.Repeat("m", 64)+`", "prompt": "`+strings.Repeat("é", 10000)+`"}`)))
}

func TestValidateRefusesTypesAndContentTypes(t *testing.T) {
	e := imageRequest(with(`"steps": 1`))
	for typ, says := range map[string]string{
		"dev.genfn.image.generate.v2": "found version v2 of dev.genfn.image.generate; expected version v1: dev.genfn.image.generate.v1",
		"dev.genfn.image.generate":    `found the event type "dev.genfn.image.generate"; expected one of dev.genfn.image.generate.v1, `,
		"com.example.order":           `found the event type "com.example.order"`,
	} {
		e.SetType(typ)
		requireInvalid(t, Validate(e), "type", says)
	}
	requireInvalid(t, Validate(Event{}), "type", "an empty event")
	e.SetType(TypeImageGenerate)
	for _, media := range []string{"text/plain", "application/octet-stream", "application/cloudevents"} {
		e.SetDataContentType(media)
		requireInvalid(t, Validate(e), "datacontenttype", fmt.Sprintf("found %q; expected application/json", media))
	}
	for _, media := range []string{"application/json; charset=utf-8", "Application/JSON", "application/vnd.genfn+json"} {
		e.SetDataContentType(media)
		require.NoError(t, Validate(e), media)
	}
}

func TestPayload(t *testing.T) {
	e := testRequest(t)
	r, err := Payload[ImageGenerate](e)
	require.NoError(t, err)
	require.Equal(t, ImageGenerate{Model: "emoji-64", Prompt: "a red apple", Steps: pointer(20), Seed: pointer(uint64(MaxSeed))}, r)

	_, err = Payload[Progress](e)
	require.ErrorIs(t, err, &Error{Code: CodeInternal})
}

// JSON does not tell integers from numbers: 64.0 and 6.4e1 are integers too.
func TestPayloadAcceptsIntegersInEveryForm(t *testing.T) {
	r, err := Payload[ImageGenerate](imageRequest(with(`"width": 64.0, "height": 6.4e1, "steps": 1E2, "seed": -0, "count": 100e-2, "guidance_scale": 75e-1`)))
	require.NoError(t, err)
	require.Equal(t, []int{64, 64, 100, 1}, []int{*r.Width, *r.Height, *r.Steps, *r.Count})
	require.Zero(t, *r.Seed)
	require.InDelta(t, 7.5, *r.GuidanceScale, 0)
}

// payloads returns one value of every payload struct with every field set.
func payloads(t *testing.T) map[string]any {
	t.Helper()
	ref := Ref{Bucket: "genfn-default", Object: "r1/1/image-0.png", SHA256: strings.Repeat("a0", 32), Size: 5, MediaType: "image/png"}
	failure := Errorf(CodeGPUOutOfMemory, "no memory for 3 GiB")
	failure.Field, failure.Expected, failure.Stage, failure.Device = "/width", "an integer", "denoise step 3 of 20", "GPU.0"
	failure.DriverCode, failure.DriverText, failure.Detail, failure.Memory = "-5", "CL_OUT_OF_RESOURCES", "clFinish", &Memory{LedgerBefore: 1, LedgerPeak: 2, LedgerAfter: 1}
	failure.RequestedBytes, failure.PredictedBytes, failure.AvailableBytes, failure.UnloadedModels = 1<<30, 3<<30, 2<<30, []string{"m"}
	memory := &Memory{1, 2, 3, 3, 4, 5, 6, pointer(int64(7)), pointer(int64(9)), pointer(int64(8)), pointer(int64(10)), 11, 12, 13.5, 14, 15, 16, 17}
	process := Process{12345, testTime(), 9}
	attempts := []Attempt{{1, "worker-1", "GPU.0", "none before", failure, testTime()}}
	request := ImageGenerate{
		"m", "p", "n", pointer(64), pointer(72), pointer(20), pointer(7.5), pointer(uint64(42)), "ddim", pointer(2), FormatJPEG, 5, &ref, true, DeviceGPU, FallbackNever, DegradeAllowed,
	}
	hardware := Hardware{
		testTime(), "no driver", HardwareLost, pointer(40), pointer(94), pointer(97), []string{ThrottlePowerCap}, pointer(100), pointer(75.5), pointer(350.0), &ECC{true, 1, 2, 3, 4},
		&RetiredPages{1, 2, true}, &RemappedRows{1, 2, true, true}, pointer(int64(5)), &OtherMemory{6, 7}, &Xid{119, testTime(), "the driver asks for a reset"},
	}
	status := DeviceStatus{
		"worker-1", "GPU.0", "a graphics card", DeviceGPU, StateShed, StateReady, testTime(), "canary_failed", "The device failed to prove itself.", pointer(testTime()),
		map[string]string{"driver": "1"}, map[string]string{"NUM_STREAMS": "1"}, []DeviceSetting{{"threads", "2", "2 cores"}}, []DeviceCheck{{"computation", true, "16 values"}}, []string{"m"}, 2, 1,
		map[string]int{"m": 20}, true, 12, 2, "gpu a graphics card", []Condition{{ConditionMemoryPressure, "warning", testTime(), "86 % in use", "of 8 GiB"}}, &hardware, true,
		&MemoryInfo{1.5, 2.5, 3.5, 4.5, 5, pointer(int64(6)), pointer(int64(7)), pointer(int64(8)), pointer(int64(5)), 9, 10, 11, 12, []ProcessMemory{{process, 5, 6, 7, 7, pointer(int64(8))}}, &InstanceMemory{12, 5, 9, 30}},
		[]DeviceFault{{testTime(), "r1", "device_fault", failure}}, &LastCanary{testTime(), "m", true, 240, AgainstReference, 0.001},
		"x7", 42, []InFlight{{"r1", "default", 1, testTime(), testTime()}}, &Obeyed{3, StateReady},
	}
	return map[string]any{
		TypeImageGenerate: request,
		TypeAccepted:      Accepted{"worker-1", 1},
		TypeStarted:       Started{"worker-1", "CPU", 1, "m", &process},
		TypeProgress:      Progress{StageDenoise, 3, 20, 120, 680, "worker-1", "CPU", &Preview{"image/png", []byte{1, 2}, &ref, 1}, &Notice{NoticeFallback, "to the CPU", failure, 900, memory, 3, 2}},
		TypeSucceeded: Succeeded{
			[]Artifact{{"image-0.png", RoleImage, 1, 64, 72, pointer(uint64(42)), ref}}, request, ModelRef{"m", ref.SHA256}, "CPU", "a processor", "f32",
			map[string]string{"genfn": "1"}, []string{"tiled"}, []Warning{{"prompt_truncated", "the prompt was cut"}}, map[string]float64{StageDenoise: 1.5}, memory, &process, attempts,
		},
		TypeCancel:    Cancel{"changed my mind"},
		TypeFailed:    Failed{failure, attempts},
		TypeCancelled: Cancelled{"withdrawn", "queue", attempts},
		TypeExpired:   Expired{testTime(), testTime()},

		TypeConditionChanged: ConditionChanged(status),
		TypeHeartbeat:        Heartbeat(status),
		TypeCanary:           Canary{"worker-1", "GPU.0", DeviceGPU, "x7", 43, 3, "m", true, 240, failure, AgainstKind, 0.002},
		TypeDecision: Decision{
			"worker-1", 3, 17, StateShed, StateSuspect, "own_stop", "the canary failed", []Evidence{{testTime(), "status", "canary_failed"}},
			"controller a", testTime(), pointer(testTime()), 1, 2,
		},
		TypeCommand: Command{CommandDrain, "a new driver", "ada"},
	}
}

func TestEveryPayloadIsAllowedByItsSchema(t *testing.T) {
	all := payloads(t)
	require.Len(t, all, len(Types()))
	for _, typ := range Types() {
		data := all[typ]
		require.Equal(t, typ, typeOf(data))
		requireAllSet(t, reflect.ValueOf(data), typ)
		e, err := NewAnswer(typ, Meta{RequestID: "r1", Source: "/test", Attempt: 1, Sequence: 1}, data)
		require.NoError(t, err)
		require.NoError(t, Validate(e), typ)
	}
	e, err := NewAnswer(TypeSucceeded, Meta{RequestID: "r1", Source: "/test"}, all[TypeSucceeded])
	require.NoError(t, err)
	back, err := Payload[Succeeded](e)
	require.NoError(t, err)
	want := all[TypeSucceeded].(Succeeded)
	require.Equal(t, want.Request, back.Request)
	require.Equal(t, want.Artifacts, back.Artifacts)
	require.Equal(t, want.Memory, back.Memory)
}

// requireAllSet fails for zero fields, so that a new field cannot be forgotten
// in payloads above and with it in the schema.
func requireAllSet(t *testing.T, v reflect.Value, path string) {
	t.Helper()
	switch v.Kind() {
	case reflect.Pointer:
		require.False(t, v.IsNil(), path)
		requireAllSet(t, v.Elem(), path)
	case reflect.Slice:
		require.NotZero(t, v.Len(), path)
		requireAllSet(t, v.Index(0), path)
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if nested := v.Type() == reflect.TypeFor[Memory](); f.Tag.Get("json") == "-" || !f.IsExported() || nested || f.Name == "Retriable" {
				continue
			}
			require.False(t, v.Field(i).IsZero(), "%s.%s", path, f.Name)
			requireAllSet(t, v.Field(i), path+"."+f.Name)
		}
	}
}

// The schema and the struct of a type have the same fields, all the way down.
func TestSchemasAndStructsHaveTheSameFields(t *testing.T) {
	schemas, err := loadSchemas()
	require.NoError(t, err)
	for typ, data := range payloads(t) {
		compareFields(t, schemas, schemaBase+SchemaFile(typ)+"#", reflect.TypeOf(data))
	}
}

func compareFields(t *testing.T, s *schemaSet, url string, typ reflect.Type) {
	t.Helper()
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	node := s.node(url)
	require.NotNil(t, node, url)
	if typ.Kind() == reflect.Slice && node["type"] == "array" {
		compareFields(t, s, s.resolve(url)+"/items", typ.Elem())
		return
	}
	if typ.Kind() != reflect.Struct || node["type"] != "object" {
		require.Equal(t, jsonTypeOf(typ), typeWord(node), url)
		return
	}
	properties := node["properties"].(map[string]any)
	var names []string
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		names = append(names, name)
		require.Contains(t, properties, name, url)
		compareFields(t, s, s.resolve(url)+"/properties/"+name, typ.Field(i).Type)
	}
	require.Len(t, properties, len(names), "%s has properties that %s has not", url, typ)
}

func typeWord(node map[string]any) string {
	if _, ok := node["enum"]; ok {
		return "string"
	}
	return node["type"].(string)
}

func jsonTypeOf(typ reflect.Type) string {
	switch typ.Kind() {
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "integer"
	case reflect.Float64:
		return "number"
	case reflect.Bool:
		return "boolean"
	case reflect.Map:
		return "object"
	}
	return "string" // strings, []byte as base64 and time.Time
}

func TestSchemaFiles(t *testing.T) {
	names, err := fs.Glob(Schemas(), "*.json")
	require.NoError(t, err)
	require.Len(t, names, len(Types())+1, "one for each type, and common.v1.json")
	schemas, err := loadSchemas()
	require.NoError(t, err)
	for _, typ := range Types() {
		text, err := fs.ReadFile(Schemas(), SchemaFile(typ))
		require.NoError(t, err)
		var doc struct {
			Schema, Title, Description string
			Examples                   []json.RawMessage
		}
		require.NoError(t, json.Unmarshal([]byte(strings.Replace(string(text), "$schema", "schema", 1)), &doc))
		require.Equal(t, "https://json-schema.org/draft/2020-12/schema", doc.Schema)
		require.Equal(t, typ, doc.Title)
		require.NotEmpty(t, doc.Description)
		for _, example := range doc.Examples {
			value, _, err := parseJSON(example)
			require.NoError(t, err)
			require.NoError(t, schemas.byType[typ].Validate(value), typ)
		}
	}
	common := schemas.source[schemaBase+"common.v1.json"]
	examples := at(common, []string{"$defs", "errorCode", "examples"}).([]any)
	require.Len(t, examples, len(allCodes()))
	for i, code := range allCodes() {
		require.Equal(t, string(code), examples[i])
	}
}

// Whoever reads answers of a newer program accepts what it does not know yet.
func TestAnswersMayHaveUnknownFields(t *testing.T) {
	e := imageRequest(`{"stage": "polish", "elapsed_ms": 5, "new_field": {"a": 1}}`)
	e.SetType(TypeProgress)
	p, err := Payload[Progress](e)
	require.NoError(t, err)
	require.Equal(t, Progress{Stage: "polish", ElapsedMS: 5}, p)
}

func TestNaNCannotBeWritten(t *testing.T) {
	_, err := NewRequest(TypeImageGenerate, Meta{RequestID: "r", Source: "/s"}, ImageGenerate{GuidanceScale: pointer(math.NaN())})
	require.ErrorContains(t, err, "cannot be written as JSON")
}

func FuzzPayload(f *testing.F) {
	f.Add([]byte(with(`"steps": 20, "guidance_scale": 7.5e0, "latents": null`)))
	f.Add([]byte(with(`"latents": {"bucket": "b", "object": "o", "sha256": "` + strings.Repeat("0", 64) + `", "size": 1, "media_type": "a/b"}`)))
	f.Add([]byte("[[[[{}]]]]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Payload[ImageGenerate](imageRequest(string(data)))
		if err != nil {
			require.ErrorIs(t, err, &Error{Code: CodeInvalidRequest})
			return
		}
		e, err := NewRequest(TypeImageGenerate, Meta{RequestID: "r", Source: "/s"}, r)
		require.NoError(t, err)
		back, err := Payload[ImageGenerate](e)
		require.NoError(t, err)
		require.Equal(t, r, back)
	})
}
