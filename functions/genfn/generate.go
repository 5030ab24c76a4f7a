package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/spf13/cobra"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/client"
)

func newGenerate(s *settings, signals *signals) *cobra.Command {
	flags := &requestFlags{}
	cmd := &cobra.Command{
		Use:     "generate",
		Short:   "Ask for a picture, show progress, fetch it",
		Long:    "Ask for a picture, show progress, fetch it. An interrupt (Ctrl-C) cancels the request; a second one leaves at once.",
		Example: "  genfn generate --prompt \"a red apple\" --out apple.png\n  genfn generate --prompt \"a blue heart\" --seed 7 --count 4 --scheduler euler --out hearts.webp",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.check(); err != nil {
				return err
			}
			log, err := s.logger(cmd)
			if err != nil {
				return err
			}
			b, err := flags.connect(cmd.Context(), s.nats, broker.Options{Name: "genfn generate", Credentials: s.creds, Logger: log})
			if err != nil {
				return err
			}
			defer b.Close()
			return s.generate(cmd, signals.hard, flags, b)
		},
	}
	s.addNATS(cmd)
	flags.add(cmd)
	return cmd
}

// connect connects to the broker, and tries again for as long as --wait says.
func (r *requestFlags) connect(ctx context.Context, url string, o broker.Options) (*broker.Broker, error) {
	return patiently(ctx, r.wait, func() (*broker.Broker, error) { return broker.Connect(url, o) })
}

// publish publishes the request and follows it. While no instance has set the streams up, it tries again for as
// long as --wait says, and while the queue is full for as long as --wait-for-room says.
func (g *generation) publish(ctx context.Context, r client.Request) (*client.Follower, error) {
	follower, err := g.publishDespite(ctx, r, events.CodeDeviceUnavailable, g.flags.wait)
	var full *events.Error
	if !errors.As(err, &full) || full.Code != events.CodeQueueFull {
		return follower, err
	}
	if g.flags.waitForRoom == 0 {
		e := *full
		e.Advice = "Send it again later, let genfn generate wait for room (--wait-for-room 1m), or start more instances."
		return nil, &e
	}
	g.progress.say("the queue is full: waiting for room, at most %s", g.flags.waitForRoom)
	return g.publishDespite(ctx, r, events.CodeQueueFull, g.flags.waitForRoom)
}

// publishDespite publishes the request and follows it, and tries again after errors of one code.
func (g *generation) publishDespite(ctx context.Context, r client.Request, passing events.Code, wait time.Duration) (*client.Follower, error) {
	return patiently(ctx, wait, func() (*client.Follower, error) {
		follower, err := g.client.PublishAndFollow(ctx, r)
		if err != nil && !errors.Is(err, &events.Error{Code: passing}) {
			err = backoff.Permanent(err)
		}
		return follower, err
	})
}

func patiently[T any](ctx context.Context, wait time.Duration, f func() (T, error)) (T, error) {
	interval := backoff.NewExponentialBackOff()
	interval.InitialInterval, interval.MaxInterval = 50*time.Millisecond, time.Second
	return backoff.Retry(ctx, f, backoff.WithBackOff(interval), backoff.WithMaxElapsedTime(max(wait, 1)))
}

// generation is one request on its way.
type generation struct {
	flags    *requestFlags
	client   *client.Client
	progress *progress
	id       string
	repeated bool // the id had been used before
	answered time.Time
}

// summary is what `generate` prints at the end.
type summary struct {
	ID       string            `json:"id"`
	Repeated bool              `json:"repeated,omitempty"` // it is the answer to a request that had been published before
	Files    []string          `json:"files"`
	Result   *events.Succeeded `json:"result"`
}

// generate makes one request and saves its result. When the command's context ends it cancels the request, and when
// hard ends too it leaves at once.
func (s *settings) generate(cmd *cobra.Command, hard context.Context, flags *requestFlags, b *broker.Broker) error {
	g := &generation{
		flags: flags, id: flags.id, client: client.New(b, client.Options{Tenant: flags.tenant}),
		progress: newProgress(cmd.ErrOrStderr(), flags.quiet || s.json),
	}
	request, err := g.request(cmd)
	if err != nil {
		return err
	}
	follower, err := g.publish(cmd.Context(), request)
	if err != nil {
		return err
	}
	defer follower.Close()
	g.id, g.repeated = follower.ID(), follower.Repeated()
	if g.repeated {
		g.progress.say("request %s was published before: what follows is its answer, nothing is made again", g.id)
	}
	result, err := g.follow(cmd.Context(), follower)
	if err != nil && cmd.Context().Err() != nil {
		return g.withdraw(hard)
	}
	if err != nil {
		return err
	}
	if err := g.checkSame(request, result); err != nil {
		return err
	}
	files, err := g.save(cmd.Context(), result)
	if errors.Is(err, broker.ErrNoObject) {
		return g.gone(result)
	}
	if err != nil {
		return err
	}
	if s.json {
		printJSON(cmd.OutOrStdout(), summary{ID: g.id, Repeated: g.repeated, Files: files, Result: result})
		return nil
	}
	g.tell(cmd, result, files)
	return nil
}

func (g *generation) request(cmd *cobra.Command) (client.Request, error) {
	data, err := g.flags.payload(cmd)
	if err != nil {
		return client.Request{}, err
	}
	r := client.Request{ID: g.id, Data: data, Priority: broker.Priority(g.flags.priority)}
	if g.flags.timeout > 0 {
		r.Expiry = time.Now().Add(g.flags.timeout)
	}
	latents, err := g.flags.readLatents()
	if err != nil {
		return client.Request{}, err
	}
	if latents != nil {
		r.Inputs = map[string]client.Input{"latents": {Name: "latents.npy", MediaType: "application/x-npy", Data: latents}}
	}
	return r, nil
}

// follow shows progress until the terminal event, which it returns if it is good.
func (g *generation) follow(ctx context.Context, follower *client.Follower) (*events.Succeeded, error) {
	defer g.progress.done()
	for e, err := range follower.Events(ctx) {
		if err != nil {
			return nil, err
		}
		switch e.Type() {
		case events.TypeProgress:
			p, err := events.Payload[events.Progress](e)
			if err != nil {
				return nil, err
			}
			if err := g.showProgress(p); err != nil {
				return nil, err
			}
		case events.TypeStarted:
			started, err := events.Payload[events.Started](e)
			if err != nil {
				return nil, err
			}
			g.progress.say("%s makes it on %s%s", started.Instance, started.Device, again(started.Attempt))
		case events.TypeSucceeded:
			g.answered = e.Time()
			result, err := events.Payload[events.Succeeded](e)
			return &result, err
		case events.TypeFailed:
			failed, err := events.Payload[events.Failed](e)
			if err != nil {
				return nil, err
			}
			return nil, failed.Error
		case events.TypeExpired:
			return nil, events.Errorf(events.CodeDeadlineExceeded, "no instance began the work within %s", g.flags.timeout)
		case events.TypeCancelled:
			cancelled, err := events.Payload[events.Cancelled](e)
			if err != nil {
				return nil, err
			}
			return nil, describeCancelled(cancelled)
		}
	}
	return nil, events.Errorf(events.CodeInternal, "the events of request %s ended without an answer", g.id)
}

// checkSame refuses the answer to another request, whose id was used again. It compares what the client gave and no
// instance changes.
func (g *generation) checkSame(asked client.Request, result *events.Succeeded) error {
	data, _ := asked.Data.(events.ImageGenerate)
	made := result.Request
	shortened := slices.ContainsFunc(result.Warnings, func(w events.Warning) bool { return w.Code == events.WarningShortened })
	switch {
	case !g.repeated:
		return nil
	case data.Model != made.Model:
		return broker.DuplicateID(g.id, fmt.Sprintf("asked for the model %q", made.Model))
	case data.Seed != nil && made.Seed != nil && *data.Seed != *made.Seed:
		return broker.DuplicateID(g.id, fmt.Sprintf("had the seed %d", *made.Seed))
	case !shortened && (data.Prompt != made.Prompt || data.NegativePrompt != made.NegativePrompt):
		return broker.DuplicateID(g.id, "had another prompt: "+oneLine(made.Prompt))
	}
	return nil
}

// gone is the error for a result whose pictures are not kept any more.
func (g *generation) gone(result *events.Succeeded) error {
	e := events.Errorf(events.CodeInvalidRequest, "request %s succeeded at %s, but its pictures are not kept any more", g.id, g.answered.Local().Format(time.DateTime))
	e.Field, e.Expected = "id", "a request whose pictures are kept, or a new id"
	e.Advice = "Send it again under a new id."
	if seed := result.Request.Seed; seed != nil {
		e.Advice = fmt.Sprintf("Send it again under a new id; with --seed %d it is the same picture.", *seed)
	}
	return e
}

func again(attempt int) string {
	if attempt <= 1 {
		return ""
	}
	return fmt.Sprintf(" (attempt %d)", attempt)
}

func (g *generation) showProgress(p events.Progress) error {
	g.progress.show(p)
	if p.Preview == nil || len(p.Preview.Data) == 0 {
		return nil
	}
	stem, _ := g.stem()
	name := fmt.Sprintf("%s-preview-%d-step-%03d%s", stem, p.Preview.Index, p.Step, endingOf(p.Preview.MediaType))
	return writeFile(name, p.Preview.Data)
}

// writeFile writes a file, and makes its folder if it is not there.
func writeFile(name string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return os.WriteFile(name, data, 0o644)
}

// stem splits --out into the name without its ending, and the ending.
func (g *generation) stem() (stem, ending string) {
	if g.flags.out == "" {
		return g.id, ""
	}
	ending = filepath.Ext(g.flags.out)
	return strings.TrimSuffix(g.flags.out, ending), ending
}

func endingOf(mediaType string) string {
	switch mediaType {
	case "image/jpeg":
		return ".jpg"
	case "image/webp":
		return ".webp"
	default:
		return ".png"
	}
}

// save fetches the artefacts and writes them, and the record of the generation beside them.
func (g *generation) save(ctx context.Context, result *events.Succeeded) ([]string, error) {
	stem, ending := g.stem()
	var files []string
	write := func(name string, data []byte) error {
		files = append(files, name)
		return writeFile(name, data)
	}
	for _, a := range result.Artifacts {
		name := ""
		switch a.Role {
		case events.RoleImage:
			name = g.imageName(a, stem, ending)
		case events.RoleLatents:
			name = g.flags.outputLatents
		}
		if name == "" {
			continue
		}
		data, err := g.client.Fetch(ctx, a.Ref)
		if err != nil {
			return files, err
		}
		if err := write(name, data); err != nil {
			return files, err
		}
	}
	record, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return files, fmt.Errorf("encode the record: %w", err)
	}
	return files, write(stem+".json", append(record, '\n'))
}

func (g *generation) imageName(a events.Artifact, stem, ending string) string {
	if ending == "" {
		ending = endingOf(a.Ref.MediaType)
	}
	if g.flags.count > 1 {
		return fmt.Sprintf("%s-%d%s", stem, a.Index, ending)
	}
	return stem + ending
}

func (g *generation) tell(cmd *cobra.Command, result *events.Succeeded, files []string) {
	w := cmd.OutOrStdout()
	seed := uint64(0)
	if result.Request.Seed != nil {
		seed = *result.Request.Seed
	}
	fmt.Fprintf(w, "seed %d, %s, %.2f s on %s\n", seed, result.Request.Scheduler, result.TimingsMS["total"]/1000, result.Device)
	for _, d := range result.Degradations {
		fmt.Fprintf(w, "note: %s\n", d)
	}
	for _, warning := range result.Warnings {
		fmt.Fprintf(w, "warning: %s\n", warning.Message)
	}
	for _, f := range files {
		fmt.Fprintln(w, f)
	}
}
