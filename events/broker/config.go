package broker

import (
	"cmp"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"genfn/events"
)

// headerAllowance is what the headers of an event may take beside its data.
const headerAllowance = 8 << 10

// Config says what the streams, their consumers and the object stores must be
// like. Every process of one installation uses the same Config.
type Config struct {
	Replicas int      // copies of every stream; 3 survives the loss of a server
	Tenants  []string // tenants whose object store is set up; others: EnsureTenant

	QueueMessages int64         // queued and running requests, over all pools; more are refused
	QueueBytes    int64         // of queued and running requests
	Duplicates    time.Duration // how long a request id is refused again right after it was published

	Retention       time.Duration // of live events and artefacts
	AnswerRetention time.Duration // of terminal events and attempt records: so long a request id is remembered
	EventBytes      int64         // of live events, in the memory of the server
	ObjectBytes     int64         // per tenant; -1: no limit

	DeadLetterBytes     int64         // of dead letters; the oldest make room for new ones
	DeadLetterRetention time.Duration // of dead letters, since they were stored or marked; 0: AnswerRetention

	LearnedEntries   int64         // kinds of work on kinds of device whose times and memory are remembered
	LearnedRetention time.Duration // since they were measured last
	GoldenEntries    int64         // models and kinds of device whose known values of canaries are remembered

	AckWait time.Duration // without a sign of life from its holder a request is delivered again

	// Grow lets Setup raise the limits of existing streams to those given here.
	// Without it any difference is refused; what would lower a limit or change
	// anything else always is.
	Grow bool
}

// DefaultConfig returns the limits and retention for one server.
func DefaultConfig() Config {
	return Config{
		Replicas:         1,
		Tenants:          []string{DefaultTenant},
		QueueMessages:    10_000,
		QueueBytes:       1 << 30,
		Duplicates:       2 * time.Minute,
		Retention:        24 * time.Hour,
		AnswerRetention:  7 * 24 * time.Hour,
		EventBytes:       64 << 20,
		ObjectBytes:      -1,
		DeadLetterBytes:  256 << 20,
		LearnedEntries:   4096,
		LearnedRetention: 90 * 24 * time.Hour,
		GoldenEntries:    256,
		AckWait:          6 * time.Second,
	}
}

// streams returns the configuration of every stream.
func (c Config) streams() []jetstream.StreamConfig {
	s := []jetstream.StreamConfig{
		{
			Name: StreamRequests, Description: "genfn requests until they are answered",
			Subjects:  []string{requestSubjects},
			Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage,
			// A full queue and a queued duplicate id are refused, nothing is ever pushed out.
			Discard: jetstream.DiscardNew, DiscardNewPerSubject: true, MaxMsgsPerSubject: 1,
			MaxMsgs: c.QueueMessages, MaxBytes: c.QueueBytes,
			MaxMsgSize: events.MaxEventBytes + headerAllowance,
			Duplicates: c.Duplicates,
		},
		{
			Name: StreamEvents, Description: "genfn live events",
			Subjects: []string{EventSubject("*", "*", "*")},
			Storage:  jetstream.MemoryStorage,
			MaxAge:   c.Retention, MaxBytes: c.EventBytes,
		},
		{
			Name: StreamTerminals, Description: "genfn terminal events, one per request",
			Subjects: []string{TerminalSubject("*", "*")},
			Storage:  jetstream.FileStorage,
			// Publishers expect an empty subject; these limits hold those who do not to it.
			Discard: jetstream.DiscardNew, DiscardNewPerSubject: true, MaxMsgsPerSubject: 1,
			MaxAge: c.AnswerRetention,
			// What is heard here is stored: a follower need not read it.
			RePublish: &jetstream.RePublish{Source: TerminalSubject("*", "*"), Destination: AnswerSubject("{{wildcard(1)}}", "{{wildcard(2)}}")},
		},
		{
			Name: StreamAttempts, Description: "genfn attempt records",
			Subjects: []string{attemptSubject("*", "*")},
			Storage:  jetstream.FileStorage,
			MaxAge:   c.AnswerRetention, MaxMsgsPerSubject: keptAttempts,
		},
		{
			Name: StreamDeadLetters, Description: "genfn requests that failed through no fault of their senders",
			Subjects: []string{deadLetterSubject("*", "*")},
			Storage:  jetstream.FileStorage,
			MaxAge:   cmp.Or(c.DeadLetterRetention, c.AnswerRetention), MaxBytes: c.DeadLetterBytes,
		},
		{
			Name: StreamDevices, Description: "genfn heartbeats and states of devices",
			Subjects: []string{HeartbeatSubject("*"), StatusSubject("*")},
			Storage:  jetstream.MemoryStorage,
			MaxAge:   c.Retention, MaxMsgsPerSubject: keptStatuses, MaxBytes: c.EventBytes,
		},
		c.learnedStream(),
		c.goldenStream(),
		c.controlStream(),
	}
	for _, tenant := range c.Tenants {
		s = append(s, c.objectStream(tenant))
	}
	for i := range s {
		s[i].Replicas = c.Replicas
	}
	return s
}

// objectStream returns the stream of a tenant's object store as nats.go's
// CreateObjectStore makes it.
func (c Config) objectStream(tenant string) jetstream.StreamConfig {
	bucket := Bucket(tenant)
	return jetstream.StreamConfig{
		Name: objectStreamName(tenant), Description: "genfn artefacts of " + tenant,
		Subjects: []string{"$O." + bucket + ".C.>", "$O." + bucket + ".M.>"},
		Storage:  jetstream.FileStorage, Discard: jetstream.DiscardNew,
		AllowRollup: true, AllowDirect: true,
		MaxAge: c.Retention, MaxBytes: c.ObjectBytes,
		Replicas: c.Replicas,
	}
}

// consumer returns the configuration of the consumer of one pool, lane and priority.
func (c Config) consumer(pool string, lane Lane, priority Priority) jetstream.ConsumerConfig {
	config := jetstream.ConsumerConfig{
		Durable:       consumerName(pool, lane, priority),
		FilterSubject: Address{Pool: pool, Lane: lane, Priority: priority, Tenant: "*", ID: "*"}.Subject(),
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       c.AckWait,
		MaxDeliver:    -1, // hand-backs would use it up; attempts are counted in their records
		MaxAckPending: -1,
		MaxWaiting:    4096,
	}
	if lane == LaneAny {
		config.PriorityPolicy, config.PriorityGroups = jetstream.PriorityPolicyOverflow, []string{priorityGroup}
	}
	return config
}
