package imagefile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"genfn/events"
)

// Description is what the embedded JSON says.
type Description struct {
	Generator  string               `json:"generator"` // "genfn"
	Request    events.ImageGenerate `json:"request"`   // as run: defaults filled in, seed drawn
	Model      events.ModelRef      `json:"model"`
	Index      int                  `json:"index"` // of the picture in its request, from 0
	Device     string               `json:"device,omitempty"`
	Precision  string               `json:"precision,omitempty"`
	Versions   map[string]string    `json:"versions,omitempty"`
	Generation string               `json:"generation,omitempty"` // the request's id
}

// Describe makes the parameters to embed: the JSON, and the text in the form of the Stable Diffusion web
// interfaces: the prompt, "Negative prompt: ...", and a line of "Name: value" pairs.
func Describe(d Description) (*Parameters, error) {
	d.Generator = "genfn"
	var raw bytes.Buffer
	enc := json.NewEncoder(&raw)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(d); err != nil {
		return nil, fmt.Errorf("imagefile: %w", err)
	}
	return &Parameters{Text: describeText(d), JSON: bytes.TrimSpace(raw.Bytes())}, nil
}

func describeText(d Description) string {
	r := d.Request
	var pairs []string
	add := func(name, format string, value any) { pairs = append(pairs, name+": "+fmt.Sprintf(format, value)) }
	if r.Steps != nil {
		add("Steps", "%d", *r.Steps)
	}
	if r.Scheduler != "" {
		add("Sampler", "%s", r.Scheduler)
	}
	if r.GuidanceScale != nil {
		add("CFG scale", "%v", *r.GuidanceScale)
	}
	if r.Seed != nil {
		add("Seed", "%d", *r.Seed)
	}
	if r.Width != nil && r.Height != nil {
		add("Size", "%s", fmt.Sprintf("%dx%d", *r.Width, *r.Height))
	}
	if len(d.Model.SHA256) >= 10 {
		add("Model hash", "%s", d.Model.SHA256[:10])
	}
	add("Model", "%s", d.Model.Name)
	if r.Count != nil && *r.Count > 1 {
		add("Batch size", "%d", *r.Count)
		add("Batch pos", "%d", d.Index)
	}
	add("Version", "%s", "genfn")
	lines := []string{r.Prompt}
	if r.NegativePrompt != "" {
		lines = append(lines, "Negative prompt: "+r.NegativePrompt)
	}
	return strings.Join(append(lines, strings.Join(pairs, ", ")), "\n")
}
