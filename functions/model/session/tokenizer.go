package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"genfn/bindings/openvino"
	"genfn/bindings/tensor"
	"genfn/events"
	"genfn/functions/model"
)

// Tokenizer turns prompts into token ids of a fixed number. It is safe for concurrent use.
type Tokenizer struct {
	loader   *Loader
	file     model.Component
	limit    int
	pad      int64
	unkept   string // its key in the cache while it is not there
	cuts     bool   // it cuts prompts itself
	compiled *openvino.CompiledModel
	ids      int // index of the output input_ids
	mask     int // index of the output attention_mask, -1: none

	mu      sync.Mutex
	request *openvino.Request
}

// Tokens are the ids of a prompt.
type Tokens struct {
	IDs []int64 // exactly the model's limit
	// Truncated: the prompt had more tokens than fit. The end token is kept.
	Truncated bool
	used      int // ids before the padding
}

// OpenTokenizer compiles a model's tokenizer for the CPU, whatever the device of the networks.
func (l *Loader) OpenTokenizer(m *model.Model) (*Tokenizer, error) {
	t := &Tokenizer{loader: l, file: m.Tokenizer, limit: m.MaxTokens, pad: m.PadToken, cuts: m.TokenizerTruncates}
	if err := t.load(); err != nil {
		return nil, err
	}
	compiled := t.compiled
	outputs := compiled.Outputs()
	named := func(name string) int {
		return slices.IndexFunc(outputs, func(p tensor.Port) bool { return p.Name == name })
	}
	t.ids, t.mask = named("input_ids"), named("attention_mask")
	if t.ids < 0 {
		return nil, errors.Join(loadFailed(m.Tokenizer, "use", errors.New(`it has no output "input_ids"`)), compiled.Close())
	}
	var err error
	if t.request, err = compiled.NewRequest(); err != nil {
		return nil, errors.Join(loadFailed(m.Tokenizer, "make a request of", err), compiled.Close())
	}
	return t, nil
}

// load imports the tokenizer from the cache, or reads and compiles it.
func (t *Tokenizer) load() error {
	l, c := t.loader, t.file
	key := l.compiledKey(l.tokenizers, c, openShapes)
	if t.compiled = l.imported(l.tokenizers, c, openShapes, key); t.compiled != nil {
		return nil
	}
	network, err := readOn(l.tokenizers, c)
	if err != nil {
		if e := events.AsError(err); e.Code == events.CodeModelLoadFailed && strings.Contains(e.Detail, "xtension") {
			e.Advice = "The tokenizer was converted by another release of openvino-tokenizers: convert it again, or install that release."
		}
		return err
	}
	defer network.Close()
	if hook := l.options.OnCompile; hook != nil {
		hook(c.Name, openShapes, false)
	}
	native, err := l.tokenizers.get()
	if err != nil {
		return err
	}
	if t.compiled, err = native.Compile(network, "CPU", l.tokenizers.properties); err != nil {
		return loadFailed(c, "compile", err)
	}
	t.unkept = key
	return nil
}

// Keep writes the tokenizer to the cache if it was compiled.
func (t *Tokenizer) Keep() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.loader.keep(t.unkept, t.file, t.compiled)
	t.unkept = ""
}

// Tokenize returns the ids of a prompt, padded or cut to the model's limit.
func (t *Tokenizer) Tokenize(ctx context.Context, prompt string) (Tokens, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	in, err := t.loader.runtime.StringTensor([]string{prompt})
	if err != nil {
		return Tokens{}, tokenizeFailed(err)
	}
	defer in.Close()
	if err := t.request.SetInput(0, in); err != nil {
		return Tokens{}, tokenizeFailed(err)
	}
	if err := t.request.Infer(ctx); err != nil {
		if ctx.Err() != nil {
			return Tokens{}, err
		}
		return Tokens{}, tokenizeFailed(err)
	}
	ids, err := t.output(t.ids)
	if err != nil {
		return Tokens{}, tokenizeFailed(err)
	}
	var mask []int64
	if t.mask >= 0 {
		if mask, err = t.output(t.mask); err != nil {
			return Tokens{}, tokenizeFailed(err)
		}
	}
	tokens, err := fit(ids, mask, t.limit, t.pad)
	// How long a prompt was cannot be seen behind a tokenizer that cuts: one that fills the limit counts as cut.
	tokens.Truncated = tokens.Truncated || t.cuts && tokens.used == t.limit
	return tokens, err
}

func tokenizeFailed(err error) error {
	e := events.Errorf(events.CodeInternal, "the tokenizer failed")
	e.Detail, e.Cause = err.Error(), err
	return e
}

// output copies an output of whole numbers.
func (t *Tokenizer) output(i int) ([]int64, error) {
	out, err := t.request.Output(i)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	switch out.DType() {
	case tensor.I64:
		return slices.Clone(out.I64()), nil
	case tensor.I32:
		narrow := out.I32()
		wide := make([]int64, len(narrow))
		for k, v := range narrow {
			wide[k] = int64(v)
		}
		return wide, nil
	}
	return nil, fmt.Errorf("output %d of the tokenizer has elements of type %s, expected i64 or i32", i, out.DType())
}

// fit brings the ids of one prompt to exactly limit: shorter ones are padded, longer ones cut before the end
// token, which stays the last. mask, if there is one, tells the ids from padding that the tokenizer added itself.
func fit(ids, mask []int64, limit int, pad int64) (Tokens, error) {
	if len(mask) == len(ids) {
		n := 0
		for _, m := range mask {
			n += int(min(m, 1))
		}
		if n == 0 || mask[0] == 0 {
			return Tokens{}, tokenizeFailed(errors.New("it pads prompts on the left or returned no tokens"))
		}
		ids = ids[:n]
	}
	if len(ids) == 0 {
		return Tokens{}, tokenizeFailed(errors.New("it returned no tokens"))
	}
	out := make([]int64, limit)
	k := copy(out, ids)
	if len(ids) > limit {
		out[limit-1] = ids[len(ids)-1]
		return Tokens{IDs: out, Truncated: true, used: limit}, nil
	}
	for i := k; i < limit; i++ {
		out[i] = pad
	}
	return Tokens{IDs: out, used: k}, nil
}

// Close frees the tokenizer. It may be called twice.
func (t *Tokenizer) Close() error { return errors.Join(t.request.Close(), t.compiled.Close()) }
