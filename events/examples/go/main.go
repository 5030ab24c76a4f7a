// Command go asks genfn for a picture with the Go client: publish, print progress, fetch the result.
//
//	go run ./events/examples/go "a red apple" apple.png
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/signal"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/client"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: go run ./events/examples/go PROMPT FILE.png")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := generate(ctx, os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err) //nolint:gocritic // the process ends, and with it what stop would undo
	}
}

func generate(ctx context.Context, prompt, file string) error {
	url := os.Getenv("GENFN_NATS")
	if url == "" {
		url = "nats://127.0.0.1:4222"
	}
	b, err := broker.Connect(url, broker.Options{Name: "example"})
	if err != nil {
		return err
	}
	defer b.Close()
	c := client.New(b, client.Options{})

	// Another process, or this one later, follows with c.Follow(ctx, id): what has happened already is replayed.
	follower, err := c.PublishAndFollow(ctx, client.Request{Data: events.ImageGenerate{Model: "emoji", Prompt: prompt}})
	if err != nil {
		return err
	}
	defer follower.Close()
	for e, err := range follower.Events(ctx) {
		if err != nil {
			return err
		}
		switch e.Type() {
		case events.TypeProgress:
			p, err := events.Payload[events.Progress](e)
			if err != nil {
				return err
			}
			fmt.Printf("%s %d/%d\n", p.Stage, p.Step, p.Steps)
		case events.TypeSucceeded:
			result, err := events.Payload[events.Succeeded](e)
			if err != nil {
				return err
			}
			picture, err := c.Fetch(ctx, result.Artifacts[0].Ref) // the checksum is compared
			if err != nil {
				return err
			}
			return os.WriteFile(file, picture, 0o644)
		case events.TypeFailed, events.TypeCancelled, events.TypeExpired:
			return fmt.Errorf("%s: %s", e.Type(), json.RawMessage(e.Data()))
		}
	}
	return nil
}
