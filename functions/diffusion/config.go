package diffusion

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// maxConfigBytes bounds scheduler_config.json; trained_betas of 1000 steps take about 20 KiB.
const maxConfigBytes = 1 << 20

// Config is a checked scheduler configuration: a class and the values of the keys it reads. It is immutable.
type Config struct {
	class *class
	// given holds every key of the file, also those that only other classes read: diffusers carries them
	// along when the class changes.
	given map[string]json.RawMessage
	settings
}

// ConfigError is a key of scheduler_config.json whose value cannot be used.
type ConfigError struct {
	Class    string // diffusers class; empty if the class itself is the problem
	Key      string
	Value    string // as it stands in the file; empty if the key is unknown
	Expected string // what is supported
}

func (e *ConfigError) Error() string {
	var b strings.Builder
	b.WriteString("scheduler config: ")
	if e.Class != "" {
		b.WriteString(e.Class + ": ")
	}
	fmt.Fprintf(&b, "key %q", e.Key)
	if e.Value == "" {
		b.WriteString(" " + e.Expected)
		return b.String()
	}
	fmt.Fprintf(&b, " is %s; %s", shorten(e.Value), e.Expected)
	return b.String()
}

// ErrUnknownName says that a scheduler name is neither one of Names nor a supported diffusers class.
var ErrUnknownName = errors.New("unknown scheduler")

// ParseConfig reads a diffusers scheduler_config.json. Errors are *ConfigError for a key or value that is not
// supported, naming what is; other errors say that the text is not such a file.
func ParseConfig(text []byte) (*Config, error) {
	if len(text) > maxConfigBytes {
		return nil, fmt.Errorf("scheduler config: %d bytes, expected at most %d", len(text), maxConfigBytes)
	}
	given, err := decodeObject(quoteNonFinite(text))
	if err != nil {
		return nil, fmt.Errorf("scheduler config: %w", err)
	}
	raw, ok := given["_class_name"]
	if !ok {
		return nil, &ConfigError{Key: "_class_name", Expected: "is missing; supported: " + strings.Join(classNames(), ", ")}
	}
	var name string
	if err := json.Unmarshal(raw, &name); err != nil {
		return nil, &ConfigError{Key: "_class_name", Value: string(raw), Expected: "expected the name of a class"}
	}
	c := findClass(name)
	if c == nil {
		return nil, &ConfigError{Key: "_class_name", Value: string(raw), Expected: "supported: " + strings.Join(classNames(), ", ")}
	}
	if given, err = dropDefaulted(given); err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if !knownKey(key) {
			return nil, &ConfigError{Class: c.name, Key: key, Expected: "is unknown; known keys: " + strings.Join(readKeys(c), ", ")}
		}
	}
	return configure(c, given, nil)
}

// WithClass gives the configuration that diffusers' from_config makes of c for another class: keys that c's file
// states and the class reads are carried over, all others take the defaults of the class. The name is a diffusers
// class, or one of Names; dpmpp names also fix the solver's order and algorithm and the use of Karras sigmas.
// An unknown name is ErrUnknownName; a value that the class cannot use is a *ConfigError.
func (c *Config) WithClass(name string) (*Config, error) {
	preset := preset{class: name}
	if p, ok := presets[name]; ok {
		preset = p
	}
	class := findClass(preset.class)
	if class == nil {
		return nil, fmt.Errorf("%w %q; supported: %s", ErrUnknownName, name, strings.Join(Names(), ", "))
	}
	return configure(class, c.given, preset.override)
}

// Class is the name of the diffusers class.
func (c *Config) Class() string { return c.class.name }

// PredictionType is what the model predicts: epsilon, v_prediction, sample or flow_prediction. FlowMatch has no such
// key; its models predict the flow.
func (c *Config) PredictionType() string {
	if c.class.name == classFlowMatch {
		return predictFlow
	}
	return c.predictionType
}

// NeedsMu says that Options.Mu must be given to Begin: the schedule is shifted by the resolution.
func (c *Config) NeedsMu() bool {
	return c.dynamicShifting && c.class.name != classDPM
}

// ResolutionShift is mu for an image of seqLen latent tokens, interpolated between base_shift and max_shift
// (calculate_shift of the diffusers Flux pipeline). It has a meaning for FlowMatch only.
func (c *Config) ResolutionShift(seqLen int) (float64, error) {
	if c.class.name != classFlowMatch {
		return 0, &ConfigError{Class: c.class.name, Key: "base_shift", Expected: "belongs to " + classFlowMatch + ", the only one with a resolution shift"}
	}
	if c.baseShift == nil || c.maxShift == nil {
		return 0, &ConfigError{Class: c.class.name, Key: "base_shift", Value: "null", Expected: "base_shift and max_shift must be numbers for a shift by resolution"}
	}
	m := (*c.maxShift - *c.baseShift) / float64(c.maxImageSeqLen-c.baseImageSeqLen)
	return float64(seqLen)*m + (*c.baseShift - m*float64(c.baseImageSeqLen)), nil
}

// New makes a scheduler; Begin must be called before anything else.
func New(c *Config) (Scheduler, error) {
	if c == nil || c.class == nil {
		return nil, errors.New("scheduler config: none given; use ParseConfig")
	}
	return c.class.make(&c.settings), nil
}

// Names are the scheduler names that WithClass takes: the short ones first, then the diffusers classes.
func Names() []string {
	return append(slices.Clone(shortNames), classNames()...)
}

// configure resolves the keys of the class: override before file before default.
func configure(c *class, given, override map[string]json.RawMessage) (*Config, error) {
	out := &Config{class: c, given: maps.Clone(given)}
	maps.Copy(out.given, override)
	for _, key := range readKeys(c) {
		target := fields[key](&out.settings)
		raw, ok := out.given[key]
		if !ok {
			assign(target, c.defaults[key])
			continue
		}
		if err := decode(raw, target); err != nil {
			return nil, &ConfigError{Class: c.name, Key: key, Value: string(raw), Expected: err.Error()}
		}
	}
	if err := c.checkSettings(&out.settings); err != nil {
		err.Class = c.name
		return nil, err
	}
	return out, nil
}

// dropDefaulted removes the keys that diffusers marks as not stated by the user, and the mark.
func dropDefaulted(given map[string]json.RawMessage) (map[string]json.RawMessage, error) {
	raw, ok := given["_use_default_values"]
	if !ok {
		return given, nil
	}
	var names []string
	if err := json.Unmarshal(raw, &names); err != nil {
		return nil, &ConfigError{Key: "_use_default_values", Value: string(raw), Expected: "expected a list of keys"}
	}
	out := maps.Clone(given)
	delete(out, "_use_default_values")
	for _, name := range names {
		delete(out, name)
	}
	return out, nil
}

func decodeObject(text []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	var given map[string]json.RawMessage
	if err := d.Decode(&given); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	if given == nil {
		return nil, errors.New("not a JSON object: null")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more text after the JSON object")
	}
	return given, nil
}

// quoteNonFinite turns the bare words NaN, Infinity and -Infinity, which Python's json writes (lambda_min_clipped is
// -Infinity by default), into strings, so that the text is JSON. decode reads those strings where they may stand.
func quoteNonFinite(text []byte) []byte {
	if !bytes.Contains(text, []byte("NaN")) && !bytes.Contains(text, []byte("Infinity")) {
		return text
	}
	out := make([]byte, 0, len(text)+16)
	inString := false
	for i := 0; i < len(text); {
		if inString || text[i] == '"' {
			if text[i] == '"' {
				inString = !inString
			}
			if inString && text[i] == '\\' && i+1 < len(text) {
				out = append(out, text[i])
				i++
			}
			out = append(out, text[i])
			i++
			continue
		}
		word := nonFiniteWord(text[i:])
		if word == "" {
			out = append(out, text[i])
			i++
			continue
		}
		out = append(out, '"')
		out = append(out, word...)
		out = append(out, '"')
		i += len(word)
	}
	return out
}

func nonFiniteWord(text []byte) string {
	for _, word := range []string{"NaN", "-Infinity", "Infinity"} {
		if bytes.HasPrefix(text, []byte(word)) {
			return word
		}
	}
	return ""
}

func shorten(s string) string {
	const limit = 80
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "..."
}
