package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"genfn/bench/worker"
	"genfn/functions/embedded"
)

// Subjects of the floor, each with the id of a request as its last token.
const (
	rawRequests = "raw.req."
	rawLive     = "raw.live."
	rawFinal    = "raw.fin."
)

// newBrokerWorker is the floor of the events: an embedded server, as in `genfn up`, and in the same process
// somebody who takes each request, says so at once and answers.
func newBrokerWorker() *cobra.Command {
	var store string
	var sync bool
	cmd := &cobra.Command{Use: "broker", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		server := embedded.New(embedded.Config{Port: embedded.AnyPort, StoreDir: store, NoSync: !sync})
		if err := server.Start(); err != nil {
			return err
		}
		defer server.Close()
		nc, err := nats.Connect(server.URL())
		if err != nil {
			return err
		}
		defer nc.Close()
		ctx, cancel := context.WithCancel(cmd.Context())
		requests, err := rawStreams(ctx, nc)
		if err != nil {
			cancel()
			return err
		}
		ended := make(chan error, 1)
		go func() { ended <- rawAnswers(ctx, nc, requests) }()
		err = worker.Serve(os.Stdin, os.Stdout, worker.Answer{Texts: map[string]string{"url": server.URL()}},
			func(json.RawMessage) (map[string]float64, error) { return nil, errors.New("this worker only runs") })
		cancel()
		if answers := <-ended; !errors.Is(answers, context.Canceled) {
			err = errors.Join(err, answers)
		}
		return err
	}}
	cmd.Flags().StringVar(&store, "store-dir", "", "folder of JetStream's files")
	cmd.Flags().BoolVar(&sync, "sync", true, "sync every write to disk")
	return cmd
}

// rawStreams makes streams like genfn's: a work queue and answers on disk, live events in memory.
func rawStreams(ctx context.Context, nc *nats.Conn) (jetstream.Consumer, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	for _, c := range []jetstream.StreamConfig{
		{Name: "RAW_REQ", Subjects: []string{rawRequests + ">"}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage},
		{Name: "RAW_LIVE", Subjects: []string{rawLive + ">"}, Storage: jetstream.MemoryStorage},
		{Name: "RAW_FIN", Subjects: []string{rawFinal + ">"}, Storage: jetstream.FileStorage},
	} {
		if _, err := js.CreateStream(ctx, c); err != nil {
			return nil, err
		}
	}
	return js.CreateConsumer(ctx, "RAW_REQ", jetstream.ConsumerConfig{Durable: "raw", AckPolicy: jetstream.AckExplicitPolicy})
}

// rawAnswers fetches one request at a time and answers it until ctx ends.
func rawAnswers(ctx context.Context, nc *nats.Conn, requests jetstream.Consumer) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	queue, err := requests.Messages(jetstream.PullMaxMessages(1))
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, queue.Stop)()
	for {
		m, err := queue.Next()
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
			return nil
		} else if err != nil {
			return err
		}
		id := m.Subject()[len(rawRequests):]
		if err := nc.Publish(rawLive+id, m.Data()); err != nil {
			return err
		}
		if _, err := js.Publish(ctx, rawFinal+id, m.Data()); err != nil {
			return err
		}
		if err := m.DoubleAck(ctx); err != nil {
			return err
		}
	}
}
