package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"genfn/events"
	"genfn/events/client"
)

// replayed is what became of the replay of one dead letter.
type replayed struct {
	ID      string        `json:"id"`
	NewID   string        `json:"new_id,omitempty"`
	Dropped bool          `json:"dropped,omitempty"`
	Outcome string        `json:"outcome,omitempty"` // of the new request, if it was followed
	Objects []string      `json:"objects,omitempty"` // bucket/name of its artefacts
	Error   *events.Error `json:"error,omitempty"`   // why there is no new request, or of the new request
}

func (d *deadLetters) newReplay() *cobra.Command {
	var drop, follow bool
	cmd := &cobra.Command{
		Use: "replay ID...", Short: "Send dead letters again, each under a new id that names the old one as its cause",
		Long: "Send the requests of dead letters again, each under a new id (printed) whose causationid is the old one: the old one has its answer. " +
			"The dead letter stays, marked with the new id, unless --drop is given. With --all those that were sent again before are left out; name them to do it once more.",
		Example:           "  genfn dlq replay apple-1 --follow\n  genfn dlq replay --all --model emoji --since 24h --drop",
		ValidArgsFunction: d.complete, Args: d.someOrAll,
	}
	d.addAll(cmd)
	cmd.Flags().BoolVar(&drop, "drop", false, "remove each dead letter that was sent again")
	cmd.Flags().BoolVar(&follow, "follow", false, "wait for the answers; one that is not good makes the exit status 1")
	cmd.RunE = d.with(func(cmd *cobra.Command, c *client.Client, args []string) error {
		lines, err := d.chosen(cmd.Context(), c, args)
		if err != nil {
			return err
		}
		all := []*replayed{}
		for _, line := range lines {
			if d.all && len(line.Replays) > 0 {
				continue
			}
			r := &replayed{ID: line.ID}
			r.send(cmd.Context(), c, drop)
			all = append(all, r)
			if !d.settings.json {
				fmt.Fprintln(cmd.OutOrStdout(), r.sent())
			}
			if cmd.Context().Err() != nil {
				break
			}
		}
		for _, r := range all {
			if follow && r.NewID != "" {
				r.follow(cmd.Context(), c)
				if !d.settings.json {
					fmt.Fprintln(cmd.OutOrStdout(), r.ended())
				}
			}
		}
		if d.settings.json {
			printJSON(cmd.OutOrStdout(), all)
		}
		return failedReplays(all)
	})
	return cmd
}

// send sends the request of a dead letter again.
func (r *replayed) send(ctx context.Context, c *client.Client, drop bool) {
	l, err := c.DeadLetter(ctx, r.ID)
	if err == nil {
		r.NewID, err = c.Replay(ctx, l)
	}
	if err == nil && drop {
		err = c.Drop(ctx, r.ID)
		r.Dropped = err == nil
	}
	r.Error = events.AsError(err)
}

// sent says what was sent.
func (r *replayed) sent() string {
	words := r.ID + " -> " + r.NewID
	if r.NewID == "" {
		words = r.ID + " was not sent again"
	}
	if r.Dropped {
		words += ", dropped"
	}
	if r.Error != nil {
		words += ": " + oneLine(r.Error.Message)
	}
	return words
}

// follow waits for the answer to the new request.
func (r *replayed) follow(ctx context.Context, c *client.Client) {
	e, err := c.Wait(ctx, r.NewID)
	if err != nil {
		r.Error = events.AsError(err)
		return
	}
	r.Outcome = outcomeOf(e)
	switch e.Type() {
	case events.TypeSucceeded:
		var result events.Succeeded
		result, err = events.Payload[events.Succeeded](e)
		for _, a := range result.Artifacts {
			r.Objects = append(r.Objects, a.Ref.Bucket+"/"+a.Ref.Object)
		}
	case events.TypeFailed:
		var failed events.Failed
		failed, err = events.Payload[events.Failed](e)
		r.Error = failed.Error
	}
	if err != nil {
		r.Error = events.AsError(err)
	}
}

// ended says what became of the new request.
func (r *replayed) ended() string {
	words := r.NewID + ": " + r.Outcome
	if r.Error != nil {
		words += ": " + titleOf(r.Error) + ": " + oneLine(r.Error.Message)
	}
	if len(r.Objects) > 0 {
		words += ": " + strings.Join(r.Objects, " ")
	}
	return words
}

// failedReplays is the error of those that were not sent, or whose answers are not good.
func failedReplays(all []*replayed) error {
	n := 0
	var last *events.Error
	for _, r := range all {
		if r.Error != nil || r.Outcome != "" && r.Outcome != "succeeded" {
			n, last = n+1, r.Error
		}
	}
	switch {
	case n == 0:
		return nil
	case n == 1 && len(all) == 1 && last != nil:
		return last
	}
	return fmt.Errorf("%d of %d replays did not go well", n, len(all))
}
