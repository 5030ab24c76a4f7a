// Package events is the vocabulary of genfn: the CloudEvents types, their
// payloads, the one error type, the names that go into NATS subjects, and the
// codec between CloudEvents 1.0 and NATS messages.
//
// A request travels as one CloudEvent and is answered by a series of others,
// ending in exactly one terminal event (succeeded, failed, cancelled or
// expired). Decode reads an event from a NATS message in binary or structured
// content mode, Validate checks its data against the JSON Schema of its type,
// Payload gives the data as a Go struct, and EncodeBinary writes an event.
//
// Nothing here speaks to a broker; package events/broker does.
package events
