package broker

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"genfn/events"
)

const (
	collectEvery   = time.Hour
	collectTimeout = time.Minute // for one look at all objects of a tenant
)

// Collector removes what losing attempts have left in the object stores of some tenants: an instance that died or was
// stopped after it had stored something does not remove it itself. Any number of them may run. Not safe for
// concurrent use.
type Collector struct {
	b       *Broker
	tenants []string
	winners map[string]int // tenant/id -> the attempt whose objects stay; 0: none. Of answered requests that have objects
}

// NewCollector returns a collector that is not running yet.
func NewCollector(b *Broker, tenants []string) *Collector {
	return &Collector{b: b, tenants: tenants, winners: map[string]int{}}
}

// Run collects every hour, at first after a part of one, until ctx ends.
func (c *Collector) Run(ctx context.Context) {
	for wait := rand.N(collectEvery); pause(ctx, wait) == nil; wait = collectEvery {
		if err := c.Collect(ctx); err != nil && ctx.Err() == nil {
			c.b.log.Warn("objects of lost attempts stay until the next look or until they expire", "error", err)
		}
	}
}

// Collect removes the objects of all attempts that did not succeed of all requests that are answered.
func (c *Collector) Collect(ctx context.Context) error {
	winners := map[string]int{}
	var failed []error
	for _, tenant := range c.tenants {
		failed = append(failed, c.collect(ctx, tenant, winners))
	}
	c.winners = winners
	return errors.Join(failed...)
}

func (c *Collector) collect(ctx context.Context, tenant string, winners map[string]int) error {
	stored, err := c.b.attemptObjects(ctx, tenant)
	if err != nil {
		return err
	}
	removed := 0
	for _, o := range stored {
		winner, answered, err := c.winner(ctx, tenant, o.id)
		if err != nil {
			return err
		}
		if !answered {
			continue
		}
		winners[tenant+"/"+o.id] = winner
		if o.attempt == winner {
			continue
		}
		if err := c.b.deleteObject(ctx, tenant, o.name); err != nil {
			return err
		}
		removed++
	}
	if removed > 0 {
		c.b.log.Info("removed objects of lost attempts", "tenant", tenant, "objects", removed)
	}
	return nil
}

// winner returns the attempt of a request whose objects stay. A terminal event that cannot be read, or that does not
// say which, counts as none.
func (c *Collector) winner(ctx context.Context, tenant, id string) (attempt int, answered bool, err error) {
	key := tenant + "/" + id
	if attempt, answered = c.winners[key]; answered {
		return attempt, true, nil
	}
	e, stored, err := c.b.Terminal(ctx, tenant, id)
	if !stored {
		return 0, false, err
	}
	if err != nil || e.Type() == events.TypeSucceeded && e.Attempt() == 0 {
		return 0, false, nil //nolint:nilerr // what may be referred to stays
	}
	if e.Type() == events.TypeSucceeded {
		attempt = e.Attempt()
	}
	c.winners[key] = attempt
	return attempt, true, nil
}

// attemptObject is an object that an attempt has stored.
type attemptObject struct {
	name, id string
	attempt  int
}

// attemptObjects lists the objects of attempts in a tenant's bucket, those of answered requests too.
func (b *Broker) attemptObjects(ctx context.Context, tenant string) (found []attemptObject, err error) {
	bucket := Bucket(tenant)
	err = b.retryWithin(ctx, collectTimeout, func(ctx context.Context) error {
		ctx, stop := b.guard(ctx, objectSubjects(bucket))
		defer stop()
		found = nil
		return denialOf(ctx, b.visitStored(ctx, objectStreamName(tenant), "$O."+bucket+".M.>", jetstream.DeliverLastPerSubjectPolicy, func(m jetstream.Msg, _ *jetstream.MsgMetadata) bool {
			var info jetstream.ObjectInfo
			if json.Unmarshal(m.Data(), &info) == nil && !info.Deleted {
				if o, ok := parseAttemptObject(info.Name); ok {
					found = append(found, o)
				}
			}
			return true
		}))
	})
	return found, err
}

// parseAttemptObject reads <id>/<attempt>/<name>, as Attempt.PutObject names objects.
func parseAttemptObject(name string) (attemptObject, bool) {
	parts := strings.SplitN(name, "/", 3)
	if len(parts) != 3 || !events.ValidID(parts[0]) {
		return attemptObject{}, false
	}
	attempt, err := strconv.Atoi(parts[1])
	return attemptObject{name: name, id: parts[0], attempt: attempt}, err == nil && attempt > 0
}
