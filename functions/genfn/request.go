package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"genfn/events"
)

// requestFlags are the flags that describe one generation.
type requestFlags struct {
	model, prompt, negativePrompt string
	width, height, steps, count   int
	guidance                      float64
	seed                          uint64
	scheduler, format             string
	previewEvery                  int
	latents, outputLatents, out   string
	id, tenant, priority          string
	device, fallback, degrade     string
	timeout, wait, waitForRoom    time.Duration
	quiet                         bool
}

func (r *requestFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.model, "model", "emoji", "name of the model")
	f.StringVar(&r.prompt, "prompt", "", "what to make")
	f.StringVar(&r.negativePrompt, "negative-prompt", "", "what to keep out of the picture")
	f.IntVar(&r.width, "width", 0, "width in pixels (default: the model's)")
	f.IntVar(&r.height, "height", 0, "height in pixels (default: the model's)")
	f.IntVar(&r.steps, "steps", 0, "denoising steps (default: the model's)")
	f.Float64Var(&r.guidance, "guidance", 0, "guidance scale; 1 means no second pass (default: the model's)")
	f.Uint64Var(&r.seed, "seed", 0, "seed of the noise (default: drawn, and told in the result)")
	f.StringVar(&r.scheduler, "scheduler", "", "scheduler instead of the model's: ddim, pndm, euler, euler_ancestral, lcm, dpmpp_2m, ...")
	f.IntVar(&r.count, "count", 1, "number of pictures")
	f.StringVar(&r.format, "format", "", "png, jpeg or webp (default: by the ending of --out)")
	f.IntVar(&r.previewEvery, "preview-every", 0, "write a preview every n steps beside --out")
	f.StringVar(&r.latents, "latents", "", "start from these latents: .npy, float32, shape (count, channels, height, width)")
	f.StringVar(&r.outputLatents, "output-latents", "", "write the final latents to this .npy file")
	f.StringVar(&r.out, "out", "", "picture file; with --count n, name-0.png, name-1.png, ... (default: REQUEST-ID.png)")
	f.StringVar(&r.id, "id", "", "request id; one that was used before gives the answer of then (default: a new one)")
	f.StringVar(&r.tenant, "tenant", "default", "tenant whose subjects and bucket are used")
	f.StringVar(&r.priority, "priority", "interactive", "interactive or batch")
	f.StringVar(&r.device, "device", "", "where the work is to begin: auto, cpu, gpu, or a device such as GPU.0 or cuda:0 (default: auto)")
	f.StringVar(&r.fallback, "fallback", "", "if that device fails: allowed (any other), never, or deadline (another only if it will finish within --timeout) (default: allowed)")
	f.StringVar(&r.degrade, "degrade", "", "if memory runs out after all else was tried: allowed (a smaller size or fewer pictures) or never (default: never)")
	f.DurationVar(&r.timeout, "timeout", 0, "give up when the work has not begun by then, such as 30s (default: wait for ever)")
	f.DurationVar(&r.wait, "wait", 0, "how long to wait for a server that is not up yet")
	f.DurationVar(&r.waitForRoom, "wait-for-room", 0, "how long to wait for room if the queue is full, such as 1m")
	f.BoolVarP(&r.quiet, "quiet", "q", false, "show no progress")
}

// check finds the mistakes that need no server.
func (r *requestFlags) check() error {
	if r.prompt == "" {
		return usageError{errors.New("--prompt is needed: what to make")}
	}
	if r.timeout < 0 || r.wait < 0 || r.waitForRoom < 0 {
		return usageError{errors.New("--timeout, --wait and --wait-for-room: expected no negative durations")}
	}
	if !slices.Contains(priorities, r.priority) {
		return usageError{fmt.Errorf("--priority %q: expected %s", r.priority, strings.Join(priorities, " or "))}
	}
	if !events.ValidTenant(r.tenant) {
		return usageError{fmt.Errorf("--tenant %q: expected 1 to 64 of A-Z a-z 0-9 _ and -", r.tenant)}
	}
	if math.IsNaN(r.guidance) || math.IsInf(r.guidance, 0) { // which JSON cannot carry
		e := events.Errorf(events.CodeInvalidRequest, "found %v", r.guidance)
		e.Field, e.Expected = "/guidance_scale", "a number from 0 to 100"
		return e
	}
	for _, text := range []struct{ field, value string }{{"/prompt", r.prompt}, {"/negative_prompt", r.negativePrompt}} {
		if !utf8.ValidString(text.value) { // which JSON encoders replace without a word
			e := events.Errorf(events.CodeInvalidRequest, "found bytes that are not UTF-8: %.100q", text.value)
			e.Field, e.Expected = text.field, "text in UTF-8"
			return e
		}
	}
	if _, err := r.pictureFormat(); err != nil {
		return err
	}
	return errors.Join(writable(r.out), writable(r.outputLatents))
}

// writable makes the folder of a file that is to be written after the generation, which would be for nothing otherwise.
func writable(file string) error {
	dir := filepath.Dir(file) // "." for no file: the picture's default
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		var probe *os.File
		if probe, err = os.CreateTemp(dir, ".genfn-"); err == nil {
			err = errors.Join(probe.Close(), os.Remove(probe.Name()))
		}
	}
	if err != nil {
		return usageError{fmt.Errorf("cannot write to %s: %w", dir, err)}
	}
	return nil
}

// payload is the data of the event. What was not given stays out of it, so that the instance fills it in.
func (r *requestFlags) payload(cmd *cobra.Command) (events.ImageGenerate, error) {
	format, err := r.pictureFormat()
	if err != nil {
		return events.ImageGenerate{}, err
	}
	data := events.ImageGenerate{
		Model: r.model, Prompt: r.prompt, NegativePrompt: r.negativePrompt,
		Scheduler: r.scheduler, Format: format, PreviewEvery: r.previewEvery, OutputLatents: r.outputLatents != "",
		Device: r.device, Fallback: r.fallback, Degrade: r.degrade,
	}
	given := cmd.Flags().Changed
	if given("width") {
		data.Width = &r.width
	}
	if given("height") {
		data.Height = &r.height
	}
	if given("steps") {
		data.Steps = &r.steps
	}
	if given("guidance") {
		data.GuidanceScale = &r.guidance
	}
	if given("seed") {
		data.Seed = &r.seed
	}
	if given("count") {
		data.Count = &r.count
	}
	return data, nil
}

// pictureFormat is --format, or what the ending of --out says.
func (r *requestFlags) pictureFormat() (string, error) {
	if r.format != "" || r.out == "" {
		return r.format, nil
	}
	switch ext := strings.ToLower(filepath.Ext(r.out)); ext {
	case ".png", "":
		return "png", nil
	case ".jpg", ".jpeg":
		return "jpeg", nil
	case ".webp":
		return "webp", nil
	default:
		return "", usageError{fmt.Errorf("--out %s: expected the ending .png, .jpg or .webp, or --format", r.out)}
	}
}

// readLatents reads the file of --latents.
func (r *requestFlags) readLatents() ([]byte, error) {
	if r.latents == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(r.latents)
	if errors.Is(err, os.ErrNotExist) {
		return nil, usageError{fmt.Errorf("--latents %s: there is no such file", r.latents)}
	}
	if err != nil {
		return nil, fmt.Errorf("--latents: %w", err)
	}
	return raw, nil
}
