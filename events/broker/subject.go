package broker

import (
	"slices"
	"strings"

	"genfn/events"
)

// Names of the streams.
const (
	StreamRequests    = "GEN_REQ" // requests until they are answered
	StreamEvents      = "GEN_EVT" // live events, in memory
	StreamTerminals   = "GEN_FIN" // one terminal event per request
	StreamAttempts    = "GEN_ATT" // attempt records
	StreamDeadLetters = "GEN_DLQ" // requests that failed through no fault of their senders, and unreadable ones
	StreamDevices     = "GEN_DEV" // heartbeats of instances and changes of state of their devices, in memory
)

// DefaultTenant is the tenant of installations that have only one.
const DefaultTenant = "default"

// Lane says which class of device may take a request.
type Lane string

// The lanes.
const (
	LaneAny   Lane = "any"   // any device
	LaneGPU   Lane = "gpu"   // GPUs only
	LaneCPU   Lane = "cpu"   // CPUs only
	LaneRetry Lane = "retry" // work that was handed back; every class serves it
)

// Lanes returns all lanes.
func Lanes() []Lane { return []Lane{LaneAny, LaneGPU, LaneCPU, LaneRetry} }

// LaneOf returns the lane for what a request says of its device: auto or nothing, a
// class, or the name of a device.
func LaneOf(device string) Lane {
	switch device {
	case "", events.DeviceAuto:
		return LaneAny
	}
	if events.ClassOf(device) == events.DeviceGPU {
		return LaneGPU
	}
	return LaneCPU
}

// Priority orders requests: batch waits for interactive.
type Priority string

// The priorities.
const (
	Interactive Priority = "interactive"
	Batch       Priority = "batch"
)

// Priorities returns all priorities, the most urgent first.
func Priorities() []Priority { return []Priority{Interactive, Batch} }

// Kinds of live events: the last token of their subject.
const (
	KindAccepted = "accepted"
	KindStarted  = "started"
	KindProgress = "progress"
)

// Address is what the subject of a request says.
type Address struct {
	Pool     string // events.PoolToken of kind and model
	Lane     Lane
	Priority Priority
	Tenant   string
	ID       string // request id
}

const requestSubjects = "gen.req.*.*.*.*.*"

// Subject returns gen.req.<pool>.<lane>.<priority>.<tenant>.<id>.
func (a Address) Subject() string {
	return strings.Join([]string{"gen.req", a.Pool, string(a.Lane), string(a.Priority), a.Tenant, a.ID}, ".")
}

// consumer returns the name of the consumer that delivers the request.
func (a Address) consumer() string { return consumerName(a.Pool, a.Lane, a.Priority) }

// valid reports whether the request can be delivered: the lane and the
// priority exist, and tenant and id can be names.
func (a Address) valid() bool {
	return slices.Contains(Lanes(), a.Lane) && slices.Contains(Priorities(), a.Priority) &&
		events.ValidTenant(a.Tenant) && events.ValidID(a.ID)
}

// unread is the error of an address that is not valid.
func (a Address) unread() *events.Error {
	e := events.Errorf(events.CodeInvalidRequest, "nothing reads requests published to %q", a.Subject())
	e.Field, e.Expected = "subject", "gen.req.<pool>.<any|gpu|cpu|retry>.<interactive|batch>.<tenant>.<id>, tenant and id of A-Z a-z 0-9 _ and -"
	return e
}

// literal reports whether no token is a wildcard, which a publisher may use and
// which must not come to stand in a subject that is read.
func (a Address) literal() bool {
	for _, token := range []string{a.Pool, string(a.Lane), string(a.Priority), a.Tenant, a.ID} {
		if token == "*" || token == ">" {
			return false
		}
	}
	return true
}

// wildcard is why a request with a wildcard in its subject is a dead letter: a
// server stores it, but whoever asks for that subject gets the messages of others.
func (a Address) wildcard() *events.Error {
	e := events.Errorf(events.CodeInvalidRequest, "the subject %q holds a wildcard", a.Subject())
	e.Field, e.Expected = "subject", "no token * or >"
	return e
}

// ParseSubject is the inverse of Address.Subject. It accepts any tokens: what
// they may be is checked where they are used.
func ParseSubject(subject string) (Address, bool) {
	t := strings.Split(subject, ".")
	if len(t) != 7 || t[0] != "gen" || t[1] != "req" {
		return Address{}, false
	}
	return Address{Pool: t[2], Lane: Lane(t[3]), Priority: Priority(t[4]), Tenant: t[5], ID: t[6]}, true
}

// EventSubject returns the subject of a live event; kind "*" matches all.
func EventSubject(tenant, id, kind string) string { return "gen.evt." + tenant + "." + id + "." + kind }

// TerminalSubject returns the subject to which a request's terminal event is
// published. Who listens there hears what the stream then refuses, too.
func TerminalSubject(tenant, id string) string { return "gen.fin." + tenant + "." + id }

// AnswerSubject returns the subject on which the stream of terminal events says
// again what it has stored: only the one that counts is heard there. Nobody but
// the server needs the right to publish to it.
func AnswerSubject(tenant, id string) string { return "gen.ans." + tenant + "." + id }

func attemptSubject(tenant, id string) string { return "gen.att." + tenant + "." + id }

const deadLetterPrefix = "gen.dlq."

func deadLetterSubject(tenant, id string) string { return deadLetterPrefix + tenant + "." + id }

// noWildcard returns a token that may be part of a subject.
func noWildcard(token string) string {
	if token == "*" || token == ">" {
		return "_"
	}
	return token
}

// Bucket returns the name of a tenant's object store.
func Bucket(tenant string) string { return "genfn-" + tenant }

func objectStreamName(tenant string) string { return "OBJ_" + Bucket(tenant) }

const consumerPrefix = "req_"

func consumerName(pool string, lane Lane, priority Priority) string {
	return consumerPrefix + pool + "_" + string(lane) + "_" + string(priority)
}

// poolOf returns the pool of a consumer; ok is false if the name is not one of ours.
func poolOf(consumer string) (pool string, ok bool) {
	rest, ok := strings.CutPrefix(consumer, consumerPrefix)
	if !ok {
		return "", false
	}
	for _, lane := range Lanes() {
		for _, priority := range Priorities() {
			if pool, ok := strings.CutSuffix(rest, "_"+string(lane)+"_"+string(priority)); ok {
				return pool, true
			}
		}
	}
	return "", false
}
