package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"genfn/events/broker"
)

// minDeadLetterBytes is room for one dead letter of the largest request with the longest history.
const minDeadLetterBytes = 1 << 20

// streamFlags say what the streams are like that `instance`, `up` and `demo` set up. All processes of one installation
// are given the same.
type streamFlags struct {
	config broker.Config
}

func (f *streamFlags) add(cmd *cobra.Command) {
	f.config = broker.DefaultConfig()
	c, flags := &f.config, cmd.Flags()
	flags.IntVar(&c.Replicas, "replicas", c.Replicas, "copies of every stream, on as many servers of the NATS cluster; 3 survive the loss of one")
	flags.Int64Var(&c.QueueMessages, "queue-limit", c.QueueMessages, "requests queued and running, over all models; more are refused as queue_full")
	flags.DurationVar(&c.Retention, "retention", c.Retention, "how long pictures and progress events are kept")
	flags.DurationVar(&c.AnswerRetention, "answer-retention", c.AnswerRetention, "how long terminal events, and with them the ids of requests, are remembered")
	flags.DurationVar(&c.DeadLetterRetention, "dead-letter-retention", c.DeadLetterRetention, "how long dead letters are kept (default: --answer-retention)")
	flags.Int64Var(&c.DeadLetterBytes, "dead-letter-bytes", c.DeadLetterBytes, "how many bytes of dead letters are kept; the oldest make room for new ones")
	flags.BoolVar(&c.Grow, "grow-streams", false, "raise the limits of streams that exist already to those given; without it a difference is refused")
}

// check finds values that make no stream.
func (f *streamFlags) check() error {
	c := f.config
	switch {
	case c.Replicas < 1 || c.Replicas > 5:
		return usageError{fmt.Errorf("--replicas %d: expected 1 to 5", c.Replicas)}
	case c.QueueMessages < 1:
		return usageError{fmt.Errorf("--queue-limit %d: expected 1 or more", c.QueueMessages)}
	case c.Retention < time.Minute:
		return usageError{fmt.Errorf("--retention %s: expected 1m or more", c.Retention)}
	case c.AnswerRetention < c.Retention:
		return usageError{fmt.Errorf("--answer-retention %s: expected at least --retention, %s", c.AnswerRetention, c.Retention)}
	case c.DeadLetterRetention != 0 && c.DeadLetterRetention < time.Minute:
		return usageError{fmt.Errorf("--dead-letter-retention %s: expected 1m or more", c.DeadLetterRetention)}
	case c.DeadLetterBytes < minDeadLetterBytes:
		return usageError{fmt.Errorf("--dead-letter-bytes %d: expected %d or more", c.DeadLetterBytes, minDeadLetterBytes)}
	}
	return nil
}
