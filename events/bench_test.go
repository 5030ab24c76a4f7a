package events

import (
	"net/http"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

func benchmarkEvent(b *testing.B) Event {
	b.Helper()
	steps := 20
	e, err := NewRequest(TypeImageGenerate, Meta{
		RequestID: "01k2m4qq9x", Source: "/clients/bench", CorrelationID: "c1", TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b9c7c989f97918e1-01",
		Time: time.Unix(1700000000, 123456789), ExpiryTime: time.Unix(1700003600, 0), Attempt: 1, Sequence: 12,
	}, ImageGenerate{Model: "emoji-64", Prompt: "a red apple", Steps: &steps})
	if err != nil {
		b.Fatal(err)
	}
	return e
}

func BenchmarkEncodeBinary(b *testing.B) {
	e := benchmarkEvent(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := EncodeBinary(e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeBinary(b *testing.B) {
	header, data, err := EncodeBinary(benchmarkEvent(b))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(header, data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeStructured(b *testing.B) {
	e := benchmarkEvent(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := EncodeStructured(e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeStructured(b *testing.B) {
	header, data, err := EncodeStructured(benchmarkEvent(b))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(header, data); err != nil {
			b.Fatal(err)
		}
	}
}

// The SDK's codec of the JSON format, to compare with.
func BenchmarkSDKEncodeStructured(b *testing.B) {
	e := benchmarkEvent(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.MarshalJSON(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSDKDecodeStructured(b *testing.B) {
	_, data, err := EncodeStructured(benchmarkEvent(b))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		e := event.New()
		if err := e.UnmarshalJSON(data); err != nil {
			b.Fatal(err)
		}
	}
}

// The SDK's codec of the HTTP binding in binary mode, the nearest to ours.
func BenchmarkSDKEncodeBinary(b *testing.B) {
	e := benchmarkEvent(b)
	ctx := binding.WithForceBinary(b.Context())
	b.ReportAllocs()
	for b.Loop() {
		request := &http.Request{Header: make(http.Header)}
		if err := cehttp.WriteRequest(ctx, (*binding.EventMessage)(&e.Event), request); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSDKDecodeBinary(b *testing.B) {
	h, data, err := EncodeBinary(benchmarkEvent(b))
	if err != nil {
		b.Fatal(err)
	}
	header := make(http.Header)
	for name, values := range h {
		if name != "ce-datacontenttype" {
			header[http.CanonicalHeaderKey(name)] = values
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := binding.ToEvent(b.Context(), cehttp.NewMessage(header, newBody(data))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPayload(b *testing.B) {
	e := benchmarkEvent(b)
	if err := Validate(e); err != nil { // compiles the schemas
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Payload[ImageGenerate](e); err != nil {
			b.Fatal(err)
		}
	}
}
