package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/client"
)

// cancelWait is how long the instances may take to answer a cancel.
const cancelWait = 10 * time.Second

// cancelLine is what `cancel --json` prints.
type cancelLine struct {
	ID        string           `json:"id"`
	Cancelled events.Cancelled `json:"cancelled"`
}

func newCancel(s *settings) *cobra.Command {
	var tenant, reason string
	cmd := &cobra.Command{
		Use:               "cancel ID",
		Short:             "Cancel a request that is queued or running",
		Long:              "Cancel a request that is queued or running: it leaves the queue, or the device stops between two steps. Whoever waits for it is told. A request that ended otherwise stays as it is, and that is an error.",
		Example:           "  genfn cancel apple-1 --reason \"the wrong fruit\"",
		ValidArgsFunction: cobra.NoFileCompletions,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("%q takes the id of one request", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			log, err := s.logger(cmd)
			if err != nil {
				return err
			}
			b, err := broker.Connect(s.nats, broker.Options{Name: "genfn cancel", Credentials: s.creds, Logger: log})
			if err != nil {
				return err
			}
			defer b.Close()
			c, err := cancelRequest(cmd.Context(), client.New(b, client.Options{Tenant: tenant}), args[0], reason)
			if err != nil {
				return err
			}
			if s.json {
				printJSON(cmd.OutOrStdout(), cancelLine{ID: args[0], Cancelled: c})
				return nil
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", args[0], describeCancelled(c).Message)
			return nil
		},
	}
	s.addNATS(cmd)
	cmd.Flags().StringVar(&tenant, "tenant", broker.DefaultTenant, "tenant of the request")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for people: the cancelled event repeats it")
	return cmd
}

// cancelRequest cancels a request. One that has ended otherwise is an error.
func cancelRequest(ctx context.Context, c *client.Client, id, reason string) (events.Cancelled, error) {
	ctx, stop := context.WithTimeout(ctx, cancelWait)
	defer stop()
	e, err := c.Cancel(ctx, id, reason)
	if err != nil {
		return events.Cancelled{}, err
	}
	if e.Type() == events.TypeCancelled {
		return events.Payload[events.Cancelled](e)
	}
	ended := events.Errorf(events.CodeInvalidRequest, "request %s had ended before: %s", id, outcomeOf(e))
	ended.Field, ended.Expected = "id", "a request that is queued or running"
	ended.Advice = "Its answer stays with the broker; there is nothing to cancel."
	return events.Cancelled{}, ended
}

// outcomeOf is the word for a terminal event: succeeded, failed, cancelled or expired.
func outcomeOf(e events.Event) string {
	parts := strings.Split(e.Type(), ".")
	return parts[max(0, len(parts)-2)]
}

// describeCancelled is the end of a cancelled request as an error, for who waited for its result.
func describeCancelled(c events.Cancelled) *events.Error {
	e := events.Errorf(events.CodeCancelled, "the request was cancelled")
	e.Stage = c.Stage
	if c.Stage != "" {
		e.Message += " in stage " + c.Stage
	}
	if c.Reason != "" {
		e.Message += ": " + oneLine(c.Reason)
	}
	return e
}

// withdraw cancels the request that is waited for, after the first signal; hard ends with the second. It says what
// became of it.
func (g *generation) withdraw(hard context.Context) error {
	g.progress.say("interrupted: cancelling request %s (interrupt again to leave at once)", g.id)
	c, err := cancelRequest(hard, g.client, g.id, "interrupted by its user")
	switch {
	case hard.Err() != nil:
		e := events.Errorf(events.CodeCancelled, "left before it was known whether request %s is cancelled", g.id)
		e.Advice = "Cancel it with genfn cancel " + g.id + "; if it goes on, its result stays with the broker."
		return e
	case err != nil:
		return err
	}
	return describeCancelled(c)
}
