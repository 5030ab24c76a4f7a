package broker

import (
	"context"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
)

// DeadLetter keeps a request that cannot be read: its bytes and headers as they
// came, with the reason in words. It neither answers nor acknowledges the
// request. Doing it again for the same message changes nothing.
func (b *Broker) DeadLetter(ctx context.Context, j *Job, reason error) error {
	m := &nats.Msg{Subject: deadLetterSubject(noWildcard(j.Tenant), noWildcard(j.ID)), Header: nats.Header{}, Data: j.Data}
	for name, values := range j.Header {
		if serverHeader(name) { // the server would act on it again
			name = headerOriginal + name
		}
		m.Header[name] = values
	}
	m.Header.Set(headerError, reason.Error())
	m.Header.Set(headerSubject, j.Subject())
	m.Header.Set(headerDelivered, strconv.FormatUint(j.Delivered, 10))
	m.Header.Set(nats.MsgIdHdr, fmt.Sprintf("%s/%s/%d", j.Tenant, j.ID, j.sequence))
	return b.retry(ctx, func(ctx context.Context) error {
		_, err := b.publish(ctx, m)
		return err
	})
}
