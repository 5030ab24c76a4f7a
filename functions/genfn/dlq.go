package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/client"
)

// deadLetters are the flags of the commands on dead letters.
type deadLetters struct {
	settings *settings
	tenant   string

	code, model string
	since       time.Duration
	all         bool
}

func newDLQ(s *settings) *cobra.Command {
	d := &deadLetters{settings: s}
	cmd := &cobra.Command{
		Use:   "dlq",
		Short: "Dead letters: requests that failed through no fault of their senders: ls, show, replay, drop",
		Long: "Dead letters: requests that failed through no fault of their senders, such as those that killed two runners or for which no runner could be started, and messages that could not be read. " +
			"They are kept with all attempts and what was said each time. What the sender did wrong (invalid_request, model_not_found, a deadline) is no dead letter.",
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("expected ls, show, replay or drop")}
		},
	}
	cmd.AddCommand(d.newList(), d.newShow(), d.newReplay(), d.newDrop())
	for _, sub := range cmd.Commands() {
		s.addNATS(sub)
		sub.Flags().StringVar(&d.tenant, "tenant", broker.DefaultTenant, "tenant of the requests")
	}
	return cmd
}

func (d *deadLetters) newList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "ls", Short: "List dead letters, the newest first", Args: noArgs,
		Example: "  genfn dlq ls --code hang --since 24h",
	}
	d.addFilters(cmd)
	cmd.RunE = d.with(func(cmd *cobra.Command, c *client.Client, _ []string) error {
		lines, err := d.list(cmd.Context(), c)
		if err != nil {
			return err
		}
		if d.settings.json {
			printJSON(cmd.OutOrStdout(), lines)
			return nil
		}
		if len(lines) == 0 {
			fmt.Fprintln(cmd.OutOrStdout(), "No dead letters.")
			return nil
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "AGE\tID\tCODE\tMODEL\tATTEMPTS\tREPLAYED\tTITLE")
		for _, l := range lines {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%s\n", ageOf(l.EndedAt), l.ID, l.Code, l.Model, l.Attempts, len(l.Replays), oneLine(l.Title))
		}
		return w.Flush()
	})
	return cmd
}

func (d *deadLetters) newShow() *cobra.Command {
	cmd := &cobra.Command{Use: "show ID", Short: "Tell the whole story of a dead letter", Args: oneArg, ValidArgsFunction: d.complete}
	cmd.RunE = d.with(func(cmd *cobra.Command, c *client.Client, args []string) error {
		l, err := c.DeadLetter(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if d.settings.json {
			printJSON(cmd.OutOrStdout(), newDeadLetterStory(l))
			return nil
		}
		printDeadLetter(cmd.OutOrStdout(), l)
		return nil
	})
	return cmd
}

func (d *deadLetters) newDrop() *cobra.Command {
	cmd := &cobra.Command{
		Use: "drop ID...", Short: "Remove dead letters", ValidArgsFunction: d.complete, Args: d.someOrAll,
		Example: "  genfn dlq drop apple-1\n  genfn dlq drop --all --code hang",
	}
	d.addAll(cmd)
	cmd.RunE = d.with(func(cmd *cobra.Command, c *client.Client, args []string) error {
		lines, err := d.chosen(cmd.Context(), c, args)
		if err != nil {
			return err
		}
		dropped := []deadLetterLine{}
		for _, line := range lines {
			if err = c.Drop(cmd.Context(), line.ID); err != nil {
				break
			}
			dropped = append(dropped, line)
			if !d.settings.json {
				fmt.Fprintf(cmd.OutOrStdout(), "dropped %s: %s, %s old: %s\n", line.ID, line.Code, ageOf(line.EndedAt), oneLine(line.Message))
			}
		}
		if d.settings.json && err == nil {
			printJSON(cmd.OutOrStdout(), dropped)
		}
		return err
	})
	return cmd
}

func (d *deadLetters) addFilters(cmd *cobra.Command) {
	cmd.Flags().StringVar(&d.code, "code", "", "only those that failed with this code, such as hang")
	cmd.Flags().StringVar(&d.model, "model", "", "only those for this model")
	cmd.Flags().DurationVar(&d.since, "since", 0, "only those that failed within this time, such as 24h")
}

func (d *deadLetters) addAll(cmd *cobra.Command) {
	d.addFilters(cmd)
	cmd.Flags().BoolVar(&d.all, "all", false, "all dead letters of the tenant, or those that --code, --model and --since leave, instead of those named")
}

// someOrAll checks that dead letters are named, or meant by --all.
func (d *deadLetters) someOrAll(cmd *cobra.Command, args []string) error {
	switch {
	case d.all && len(args) > 0, !d.all && len(args) == 0:
		return usageError{fmt.Errorf("%q takes the ids of dead letters, as genfn dlq ls lists them, or --all", cmd.CommandPath())}
	case !d.all && (d.code != "" || d.model != "" || d.since != 0):
		return usageError{errors.New("--code, --model and --since need --all")}
	}
	return nil
}

// with connects to the broker for a command.
func (d *deadLetters) with(run func(*cobra.Command, *client.Client, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case d.since < 0:
			return usageError{fmt.Errorf("--since %s: expected a positive duration such as 24h", d.since)}
		case !events.ValidTenant(d.tenant):
			return usageError{fmt.Errorf("--tenant %q: expected 1 to 64 of A-Z a-z 0-9 _ and -", d.tenant)}
		}
		log, err := d.settings.logger(cmd)
		if err != nil {
			return err
		}
		b, err := broker.Connect(d.settings.nats, broker.Options{Name: cmd.CommandPath(), Credentials: d.settings.creds, Logger: log})
		if err != nil {
			return err
		}
		defer b.Close()
		return run(cmd, client.New(b, client.Options{Tenant: d.tenant, Source: "/genfn/dlq"}), args)
	}
}

// deadLetterLine is a dead letter as `dlq ls` prints it.
type deadLetterLine struct {
	ID       string          `json:"id"`
	EndedAt  time.Time       `json:"ended_at"`
	Code     events.Code     `json:"code"`
	Title    string          `json:"title"`
	Message  string          `json:"message"`
	Model    string          `json:"model,omitempty"`
	Attempts int             `json:"attempts"`
	Replays  []broker.Replay `json:"replays,omitempty"`
}

func newDeadLetterLine(l broker.DeadLetter) deadLetterLine {
	return deadLetterLine{
		ID: l.ID, EndedAt: l.EndedAt, Code: l.Error.Code, Title: titleOf(l.Error), Message: l.Error.Message,
		Model: modelOf(l), Attempts: len(l.Attempts), Replays: l.Replays,
	}
}

// modelOf is the model that a request was for, "" if its subject names none.
func modelOf(l broker.DeadLetter) string {
	a, _ := broker.ParseSubject(l.Subject)
	_, model, _ := events.ParsePoolToken(a.Pool)
	return model
}

// list returns the dead letters that the filters leave, the newest first.
func (d *deadLetters) list(ctx context.Context, c *client.Client) ([]deadLetterLine, error) {
	lines := []deadLetterLine{}
	err := c.DeadLetters(ctx, func(l broker.DeadLetter) {
		line := newDeadLetterLine(l)
		if (d.code == "" || d.code == string(line.Code)) && (d.model == "" || d.model == line.Model) && (d.since == 0 || time.Since(line.EndedAt) <= d.since) {
			lines = append(lines, line)
		}
	})
	slices.SortStableFunc(lines, func(a, b deadLetterLine) int { return b.EndedAt.Compare(a.EndedAt) })
	return lines, err
}

// chosen returns the dead letters that are named, all of which must be there, or else those of --all.
func (d *deadLetters) chosen(ctx context.Context, c *client.Client, ids []string) ([]deadLetterLine, error) {
	if d.all {
		return d.list(ctx, c)
	}
	var lines []deadLetterLine
	for _, id := range ids {
		l, err := c.DeadLetter(ctx, id)
		if err != nil {
			return nil, err
		}
		lines = append(lines, newDeadLetterLine(l))
	}
	return lines, nil
}

// completeWait is how long a shell waits for the ids it offers.
const completeWait = 2 * time.Second

// complete offers the ids of dead letters.
func (d *deadLetters) complete(cmd *cobra.Command, named []string, _ string) ([]string, cobra.ShellCompDirective) {
	var ids []string
	ctx, cancel := context.WithTimeout(context.Background(), completeWait)
	defer cancel()
	err := d.with(func(_ *cobra.Command, c *client.Client, _ []string) error {
		lines, err := (&deadLetters{}).list(ctx, c)
		for _, l := range lines {
			if !slices.Contains(named, l.ID) {
				ids = append(ids, l.ID+"\t"+string(l.Code)+", "+ageOf(l.EndedAt)+" old")
			}
		}
		return err
	})(cmd, nil)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// ageOf is how long ago a time was, without more digits than people read.
func ageOf(t time.Time) string {
	age := max(0, time.Since(t))
	switch {
	case age >= 48*time.Hour:
		return fmt.Sprintf("%dd", age/(24*time.Hour))
	case age >= time.Hour:
		return fmt.Sprintf("%dh", age/time.Hour)
	case age >= time.Minute:
		return fmt.Sprintf("%dm", age/time.Minute)
	}
	return fmt.Sprintf("%ds", age/time.Second)
}
