package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/controller"
)

func newController(s *settings, signals *signals) *cobra.Command {
	var name, logFile, replay, address string
	var streams streamFlags
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Decide which instances take requests, on a NATS server or cluster",
		Long:  "The health controller: hears how instances are and decides who takes requests, until SIGTERM. Any number may run; one of them leads, and another takes its place within seconds when it ends.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if replay != "" {
				return replayLog(cmd, replay)
			}
			log, err := s.logger(cmd)
			if err != nil {
				return err
			}
			if err := streams.check(); err != nil {
				return err
			}
			b, err := broker.Connect(s.nats, broker.Options{Name: "genfn controller", Credentials: s.creds, Logger: log})
			if err != nil {
				return err
			}
			defer b.Close()
			if name == "" {
				name = defaultName()
			}
			var entries io.Writer
			if logFile != "" {
				f, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
				if err != nil {
					return usageError{fmt.Errorf("--log: %w", err)}
				}
				defer f.Close()
				entries = f
			}
			metrics, stop, err := serveMetrics(signals.soft, address, roles{controller: true}, log)
			if err != nil {
				return err
			}
			defer stop()
			c, err := controller.New(controller.Config{Name: name, Broker: b, BrokerConfig: streams.config, Log: entries, Logger: log, Metrics: metrics.controller})
			if err != nil {
				return err
			}
			return c.Run(signals.soft)
		},
	}
	s.addNATS(cmd)
	streams.add(cmd)
	cmd.Flags().StringVar(&name, "name", "", "name of this replica (default: host name and a random part)")
	cmd.Flags().StringVar(&logFile, "log", "", "file to which everything heard and decided is appended, for --replay")
	cmd.Flags().StringVar(&address, "metrics", "", "address that serves Prometheus metrics under /metrics, such as 127.0.0.1:9465 (default: none)")
	cmd.Flags().StringVar(&replay, "replay", "", "decide again what this log tells, print it, and fail where the log differs")
	return cmd
}

// newFleetController makes the controller of a process that serves too.
func (s *settings) newFleetController(b *broker.Broker, flags *upFlags, m *controller.Metrics, log *slog.Logger) (*controller.Controller, error) {
	return controller.New(controller.Config{Name: defaultName(), Broker: b, BrokerConfig: flags.topology.config, Logger: log, Metrics: m})
}

// replayLog prints the decisions of a log, decided anew.
func replayLog(cmd *cobra.Command, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return usageError{fmt.Errorf("--replay: %w", err)}
	}
	defer f.Close()
	return controller.Replay(f, func(d events.Decision) {
		if wantsJSON(cmd) {
			printJSON(cmd.OutOrStdout(), d)
			return
		}
		fmt.Fprintln(cmd.OutOrStdout(), d.At.Format(time.RFC3339Nano)+"  "+describeDecision(d))
	})
}

// describeDecision says in one line what was decided, by whom and why.
func describeDecision(d events.Decision) string {
	return fmt.Sprintf("%s: %s by %s (%s): %s", d.Instance, d.State, d.DecidedBy, d.Reason, oneLine(d.Message))
}

// commandWait is how long a controller may take to decide: the next one, if the leader has just ended.
const commandWait = 15 * time.Second

// newCommands are the commands of operators, one for each word of events.Commands.
func newCommands(s *settings) []*cobra.Command {
	words := map[string]string{
		events.CommandAdmit:      "Take an instance back; a device that has stopped itself proves itself first",
		events.CommandShed:       "Give an instance no requests until its back-off is over and it has proved itself",
		events.CommandDrain:      "Let an instance finish its work and give it no more until it is admitted",
		events.CommandQuarantine: "Have an instance hand back its work and give it no more until it is admitted",
	}
	var all []*cobra.Command
	for _, word := range events.Commands() {
		all = append(all, newCommand(s, word, words[word]))
	}
	return all
}

func newCommand(s *settings, word, short string) *cobra.Command {
	var reason, by string
	cmd := &cobra.Command{
		Use:     word + " INSTANCE --reason TEXT",
		Short:   short,
		Example: "  genfn " + word + " worker-1 --reason \"a new driver\"",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("%q takes the name of one instance, as genfn devices lists them", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return usageError{errors.New("--reason is needed: it is recorded with the decision")}
			}
			b, err := broker.Connect(s.nats, broker.Options{Name: "genfn " + word, Credentials: s.creds})
			if err != nil {
				return err
			}
			defer b.Close()
			ctx, cancel := context.WithTimeout(cmd.Context(), commandWait)
			defer cancel()
			d, err := b.Command(ctx, args[0], events.Command{Command: word, Reason: reason, By: by})
			if err != nil {
				return err
			}
			if s.json {
				printJSON(cmd.OutOrStdout(), d)
				return nil
			}
			fmt.Fprintln(cmd.OutOrStdout(), describeDecision(d))
			return nil
		},
	}
	s.addNATS(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for people: it is recorded with the decision")
	cmd.Flags().StringVar(&by, "by", operator(), "who decides, recorded with the decision")
	return cmd
}

// operator is the user at this machine.
func operator() string {
	name, host := "operator", ""
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = "@" + h
	}
	return name + host
}
