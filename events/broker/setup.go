package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"genfn/events"
)

// Difference is one setting of an existing stream or consumer that is not what
// the Config asks for.
type Difference struct {
	Object string // e.g. "stream GEN_REQ"
	Field  string
	Have   string
	Want   string
	Remedy string
}

// SetupError says that streams or consumers exist with other settings than
// wanted. Nothing of theirs was changed.
type SetupError struct{ Differences []Difference }

func (e *SetupError) Error() string {
	var b strings.Builder
	b.WriteString("existing streams or consumers differ from the configuration and were left as they are:")
	for _, d := range e.Differences {
		fmt.Fprintf(&b, "\n  %s: %s is %s, wanted %s; %s", d.Object, d.Field, d.Have, d.Want, d.Remedy)
	}
	return b.String()
}

// Setup creates the streams and object stores that are missing. Existing ones
// must be as c says: Setup changes none of them, except that it raises limits
// if c.Grow is set and adds the republish that a stream of an older version
// lacks, and returns a *SetupError that lists all differences otherwise. Any
// number of processes may call it at the same time. The broker repeats it
// after each reconnection: a server keeps streams in memory only as long as it
// runs.
func (b *Broker) Setup(ctx context.Context, c Config) error {
	return b.makeAndRemember(ctx, "streams", func(ctx context.Context) error { return b.ensureStreams(ctx, c, c.streams()) })
}

// EnsureTenant sets up the object store of a tenant, as Setup does for c.Tenants.
func (b *Broker) EnsureTenant(ctx context.Context, c Config, tenant string) error {
	if !events.ValidTenant(tenant) {
		return events.Errorf(events.CodeInvalidRequest, "%q cannot be a tenant name", tenant)
	}
	return b.makeAndRemember(ctx, "tenant "+tenant, func(ctx context.Context) error {
		return b.ensureStreams(ctx, c, []jetstream.StreamConfig{c.objectStream(tenant)})
	})
}

func (b *Broker) ensureStreams(ctx context.Context, c Config, streams []jetstream.StreamConfig) error {
	found := make([][]Difference, len(streams))
	var g errgroup.Group
	for i, want := range streams {
		g.Go(func() error {
			return b.retry(ctx, func(ctx context.Context) error {
				ctx, stop := b.guard(ctx, apiSubjectOf(want.Name))
				defer stop()
				var err error
				found[i], err = b.ensureStream(ctx, want, c.Grow)
				return denialOf(ctx, err)
			})
		})
	}
	return setupResult(g.Wait(), found)
}

func setupResult(err error, found [][]Difference) error {
	if err != nil {
		return err
	}
	if all := slices.Concat(found...); len(all) > 0 {
		return &SetupError{Differences: all}
	}
	return nil
}

// apiSubjectOf matches the API subjects that name a stream.
func apiSubjectOf(stream string) func(string) bool {
	return func(subject string) bool {
		return strings.HasPrefix(subject, "$JS.API.") && slices.Contains(strings.Split(subject, "."), stream)
	}
}

func (b *Broker) ensureStream(ctx context.Context, want jetstream.StreamConfig, grow bool) ([]Difference, error) {
	_, err := b.js.CreateStream(ctx, want)
	if err == nil {
		return nil, nil
	}
	if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return nil, fmt.Errorf("stream %s: %w", want.Name, err)
	}
	existing, err := b.js.Stream(ctx, want.Name)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", want.Name, err)
	}
	have := existing.CachedInfo().Config
	differences, grown := compareStream(have, want)
	if len(differences) == 0 || !mayUpdate(differences, grow) {
		return differences, nil
	}
	if _, err := b.js.UpdateStream(ctx, grown); err != nil {
		return nil, fmt.Errorf("stream %s: update: %w", want.Name, err)
	}
	for _, d := range differences {
		b.log.Info("stream updated", "stream", want.Name, "setting", d.Field, "from", d.Have, "to", d.Want)
	}
	return nil, nil
}

const (
	remedyGrow   = "it may grow: --grow-streams (Config.Grow) allows it, or raise it with the nats command line"
	remedyShrink = "it would shrink: raise the configured limit to the stream's, or lower the stream's by hand"
	remedyRepeat = "it is added as soon as the other differences are gone"
	remedyFixed  = "it cannot be changed in place: use the stream's setting, or empty and remove the stream by hand"
)

// mayUpdate reports whether a stream may be changed by itself. A republish takes nothing away and may always be added.
func mayUpdate(differences []Difference, grow bool) bool {
	return !slices.ContainsFunc(differences, func(d Difference) bool {
		return d.Remedy != remedyRepeat && (!grow || d.Remedy != remedyGrow)
	})
}

// comparison collects differences.
type comparison struct {
	object string
	found  []Difference
}

func (c *comparison) fixed(field string, have, want any) {
	if h, w := fmt.Sprint(have), fmt.Sprint(want); h != w {
		c.found = append(c.found, Difference{c.object, field, h, w, remedyFixed})
	}
}

// limit compares a limit whose values below 1 mean none.
func (c *comparison) limit(field string, have, want int64, text func(int64) string) {
	if have < 1 && want < 1 || have == want {
		return
	}
	d := Difference{c.object, field, text(have), text(want), remedyShrink}
	if want < 1 || have >= 1 && want > have {
		d.Remedy = remedyGrow
	}
	c.found = append(c.found, d)
}

// republish compares where the messages of the streams are said again. A stream
// that an older version made says nothing yet, which can be changed.
func (c *comparison) republish(have, want *jetstream.RePublish) {
	if have != nil && want != nil && *have == *want || have == nil && want == nil {
		return
	}
	d := Difference{c.object, "republish", repeated(have), repeated(want), remedyFixed}
	if have == nil {
		d.Remedy = remedyRepeat
	}
	c.found = append(c.found, d)
}

func repeated(r *jetstream.RePublish) string {
	if r == nil {
		return "none"
	}
	return r.Source + " to " + r.Destination
}

func count(n int64) string {
	if n < 1 {
		return "unlimited"
	}
	return strconv.FormatInt(n, 10)
}

func age(n int64) string {
	if n < 1 {
		return "unlimited"
	}
	return time.Duration(n).String()
}

// compareStream lists how have differs from want, and returns have with the
// limits of want.
func compareStream(have, want jetstream.StreamConfig) ([]Difference, jetstream.StreamConfig) {
	c := comparison{object: "stream " + want.Name}
	slices.Sort(have.Subjects)
	slices.Sort(want.Subjects)
	c.fixed("subjects", have.Subjects, want.Subjects)
	c.fixed("retention", have.Retention, want.Retention)
	c.fixed("storage", have.Storage, want.Storage)
	c.fixed("discard policy", have.Discard, want.Discard)
	c.fixed("discard new per subject", have.DiscardNewPerSubject, want.DiscardNewPerSubject)
	c.fixed("replicas", have.Replicas, want.Replicas)
	c.fixed("no ack", have.NoAck, want.NoAck)
	c.fixed("sealed", have.Sealed, want.Sealed)
	c.fixed("deny delete", have.DenyDelete, want.DenyDelete)
	c.fixed("rollup headers", have.AllowRollup, want.AllowRollup)
	c.fixed("message TTL", have.AllowMsgTTL, want.AllowMsgTTL)
	c.fixed("mirror", have.Mirror != nil, want.Mirror != nil)
	c.republish(have.RePublish, want.RePublish)
	if want.MaxMsgsPerSubject == 1 { // a rule, not a size: any other number breaks it
		c.fixed("messages per subject", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject)
	} else {
		c.limit("messages per subject", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject, count)
	}
	c.limit("messages", have.MaxMsgs, want.MaxMsgs, count)
	c.limit("bytes", have.MaxBytes, want.MaxBytes, count)
	c.limit("message size", int64(have.MaxMsgSize), int64(want.MaxMsgSize), count)
	c.limit("age", int64(have.MaxAge), int64(want.MaxAge), age)
	if want.Duplicates != 0 {
		c.limit("duplicate window", int64(have.Duplicates), int64(want.Duplicates), age)
		have.Duplicates = want.Duplicates
	}
	have.MaxMsgsPerSubject, have.MaxMsgs, have.MaxBytes = want.MaxMsgsPerSubject, want.MaxMsgs, want.MaxBytes
	have.MaxMsgSize, have.MaxAge, have.RePublish = want.MaxMsgSize, want.MaxAge, want.RePublish
	return c.found, have
}

// EnsurePool creates the consumers of all lanes and priorities of a pool where
// they are missing. Existing ones must be as c says, else it returns a
// *SetupError; only the overflow policy that those of an older version lack is
// added.
func (b *Broker) EnsurePool(ctx context.Context, c Config, pool string) error {
	if _, _, ok := events.ParsePoolToken(pool); !ok {
		return events.Errorf(events.CodeInternal, "%q is not a pool token; use events.PoolToken", pool)
	}
	return b.makeAndRemember(ctx, "pool "+pool, func(ctx context.Context) error { return b.ensureConsumers(ctx, c, pool) })
}

func (b *Broker) ensureConsumers(ctx context.Context, c Config, pool string) error {
	found := make([][]Difference, len(Lanes())*len(Priorities()))
	var g errgroup.Group
	for i, lane := range Lanes() {
		for k, priority := range Priorities() {
			g.Go(func() error {
				return b.retry(ctx, func(ctx context.Context) error {
					ctx, stop := b.guard(ctx, apiSubjectOf(StreamRequests))
					defer stop()
					var err error
					found[i*len(Priorities())+k], err = b.ensureConsumer(ctx, c.consumer(pool, lane, priority))
					return denialOf(ctx, err)
				})
			})
		}
	}
	return setupResult(g.Wait(), found)
}

func (b *Broker) ensureConsumer(ctx context.Context, want jetstream.ConsumerConfig) ([]Difference, error) {
	_, err := b.js.CreateConsumer(ctx, StreamRequests, want)
	if err == nil {
		return nil, nil
	}
	if !errors.Is(err, jetstream.ErrConsumerExists) {
		return nil, fmt.Errorf("consumer %s: %w", want.Durable, err)
	}
	existing, err := b.js.Consumer(ctx, StreamRequests, want.Durable)
	if err != nil {
		return nil, fmt.Errorf("consumer %s: %w", want.Durable, err)
	}
	have := existing.CachedInfo().Config
	older := have.PriorityPolicy == jetstream.PriorityPolicyNone && want.PriorityPolicy != have.PriorityPolicy
	c := comparison{object: "consumer " + want.Durable}
	c.fixed("filter", have.FilterSubject, want.FilterSubject)
	c.fixed("ack policy", have.AckPolicy, want.AckPolicy)
	c.fixed("ack wait", have.AckWait, want.AckWait)
	c.fixed("max deliver", have.MaxDeliver, want.MaxDeliver)
	c.fixed("max ack pending", have.MaxAckPending, want.MaxAckPending)
	c.fixed("max waiting", have.MaxWaiting, want.MaxWaiting)
	c.fixed("back-off", have.BackOff, want.BackOff)
	if older && len(c.found) == 0 {
		have.PriorityPolicy, have.PriorityGroups = want.PriorityPolicy, want.PriorityGroups
		if _, err := b.js.UpdateConsumer(ctx, StreamRequests, have); err != nil {
			return nil, fmt.Errorf("consumer %s: update: %w", want.Durable, err)
		}
		b.log.Info("consumer updated", "consumer", want.Durable, "setting", "priority policy", "to", "overflow")
		return nil, nil
	}
	c.fixed("priority groups", have.PriorityGroups, want.PriorityGroups)
	if len(c.found) == 0 {
		return nil, fmt.Errorf("consumer %s exists with settings that differ in a way this program does not know", want.Durable)
	}
	for i := range c.found {
		c.found[i].Remedy = "use the same setting everywhere, or remove the consumer by hand while nothing is queued"
	}
	if older {
		c.found[len(c.found)-1].Remedy = remedyRepeat
	}
	return c.found, nil
}
