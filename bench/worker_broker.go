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
	rawAnswer   = "raw.ans." // what is said of rawFinal once it is stored
	rawRecord   = "raw.att."
	rawPicture  = "raw.obj."
)

// newBrokerWorker is the floor of the events: an embedded server, as in `genfn up`, and in the same process
// somebody who takes each request, says so at once and answers. With --writes it also stores what genfn stores on the
// way, in the same order: a record before it says so; before it answers, a picture and what tells of it.
func newBrokerWorker() *cobra.Command {
	var store string
	var sync, writes, answer bool
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
		go func() {
			if !answer {
				<-ctx.Done()
				ended <- nil
				return
			}
			ended <- rawAnswers(ctx, nc, requests, writes)
		}()
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
	cmd.Flags().BoolVar(&answer, "answer", true, "take the requests; otherwise another process does")
	cmd.Flags().BoolVar(&writes, "writes", false, "store what genfn stores")
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
		{
			Name: "RAW_FIN", Subjects: []string{rawFinal + ">"}, Storage: jetstream.FileStorage,
			RePublish: &jetstream.RePublish{Source: rawFinal + ">", Destination: rawAnswer + ">"},
		},
		{Name: "RAW_ATT", Subjects: []string{rawRecord + ">"}, Storage: jetstream.FileStorage},
		{Name: "RAW_OBJ", Subjects: []string{rawPicture + ">"}, Storage: jetstream.FileStorage},
	} {
		if _, err := js.CreateStream(ctx, c); err != nil {
			return nil, err
		}
	}
	return js.CreateConsumer(ctx, "RAW_REQ", jetstream.ConsumerConfig{Durable: "raw", AckPolicy: jetstream.AckExplicitPolicy})
}

// rawAnswers fetches one request at a time and answers it until ctx ends.
func rawAnswers(ctx context.Context, nc *nats.Conn, requests jetstream.Consumer, writes bool) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	queue, err := requests.Messages(jetstream.PullMaxMessages(1))
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, queue.Stop)()
	var before, after []string
	if writes {
		before, after = []string{rawRecord}, []string{rawPicture + "c.", rawPicture + "m."}
	}
	after = append(after, rawFinal)
	for {
		m, err := queue.Next()
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
			return nil
		} else if err != nil {
			return err
		}
		id := m.Subject()[len(rawRequests):]
		if err := store(ctx, js, before, id, m.Data()); err != nil {
			return err
		}
		if err := nc.Publish(rawLive+id, m.Data()); err != nil {
			return err
		}
		if err := store(ctx, js, after, id, m.Data()); err != nil {
			return err
		}
		if err := m.DoubleAck(ctx); err != nil {
			return err
		}
	}
}

// store publishes data to each subject in turn, and waits until it is stored.
func store(ctx context.Context, js jetstream.JetStream, subjects []string, id string, data []byte) error {
	for _, s := range subjects {
		if _, err := js.Publish(ctx, s+id, data); err != nil {
			return err
		}
	}
	return nil
}
