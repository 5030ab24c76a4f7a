// Command genfn runs generation functions on NATS: the server side (up, instance, runner), the client
// (generate) and the tools around them (devices, model, version).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"genfn/events"
)

// version is set by the build: -ldflags "-X main.version=...".
var version = "unknown"

// Exit codes of the program.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	if os.Getenv("GOGC") == "" {
		// The heap stays at a few megabytes; collecting it at each one costs a start a twentieth of its CPU time.
		debug.SetGCPercent(400)
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main without its process: it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	signals := watchSignals()
	defer signals.stop()
	root := newRoot(signals)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(signals.soft)
	if err == nil {
		return 0
	}
	return report(cmd, signals.soft, err)
}

// report prints err for people, or as JSON where that was asked for, and chooses the exit code.
func report(cmd *cobra.Command, ctx context.Context, err error) int {
	var usage usageError
	if errors.As(err, &usage) {
		if wantsJSON(cmd) {
			e := events.Errorf(events.CodeInvalidRequest, "%w", err)
			e.Advice = "See " + cmd.CommandPath() + " --help."
			printJSON(cmd.OutOrStdout(), map[string]any{"error": e})
			return exitUsage
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "genfn: %v\nSee %s --help.\n", err, cmd.CommandPath())
		return exitUsage
	}
	if wantsJSON(cmd) {
		printJSON(cmd.OutOrStdout(), map[string]any{"error": inWords(err)})
	} else {
		printError(cmd.ErrOrStderr(), err)
	}
	if ctx.Err() != nil {
		return exitInterrupted
	}
	return exitFailed
}

// inWords is err as an error with a code. What carries none is of this machine or its set-up and says what happened
// by itself.
func inWords(err error) *events.Error {
	var e *events.Error
	if errors.As(err, &e) {
		return e
	}
	e = events.Errorf(events.CodeInternal, "%w", err)
	e.Advice = "Mend what the message names and start again."
	return e
}

// usageError is a mistake in the command line.
type usageError struct{ error }

func newRoot(signals *signals) *cobra.Command {
	s := &settings{}
	root := &cobra.Command{
		Use:           "genfn",
		Short:         "Generation functions on NATS",
		Long:          "genfn makes pictures for CloudEvents that arrive over NATS JetStream.\n\nTwo terminals: `genfn up`, then `genfn generate --prompt \"a red apple\" --out apple.png`.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return checkTemporary(cmd)
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	s.addGlobal(root)
	root.AddCommand(
		newDemo(s, signals), newUp(s, signals), newInstance(s, signals), newController(s, signals),
		newGenerate(s, signals), newCancel(s), newDLQ(s), newStress(s), newTop(s), newDevices(s), newModel(s), newVersion(s), newRunner(s),
	)
	root.AddCommand(newCommands(s)...)
	s.addCompletion(root)
	return root
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%q takes no argument %q", cmd.CommandPath(), args[0])}
	}
	return nil
}
