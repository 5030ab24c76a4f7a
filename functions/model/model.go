package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"genfn/events"
)

// KindImage is the Kind of a text-to-image model.
const KindImage = "image"

// Pipeline classes that can be run.
const (
	ClassStableDiffusion   = "StableDiffusionPipeline"
	ClassLatentConsistency = "LatentConsistencyModelPipeline"
)

var supportedClasses = []string{ClassStableDiffusion, ClassLatentConsistency}

// Model is a checked model folder. Apart from SHA256, which Hash sets, it does not change after Open.
type Model struct {
	Name   string // the folder's name
	Dir    string
	Class  string // pipeline class, e.g. "StableDiffusionPipeline"
	Kind   string // KindImage
	SHA256 string // of the model's files, lower-case hex; "" before Hash

	TextEncoder, Tokenizer, UNet, VAEDecoder Component
	VAEEncoder                               *Component // nil: the folder has none

	SchedulerConfig []byte // scheduler/scheduler_config.json

	LatentChannels int
	VAEScale       int     // pixels per latent along each axis
	VAESample      int     // latents: the side the VAE was trained for (its sample_size), in diffusers that of a tile
	ScalingFactor  float64 // latents are divided by it before decoding...
	ShiftFactor    float64 // ...and then this is added
	SampleWidth    int     // latents
	SampleHeight   int     // latents
	SizeStep       int     // pixels; the UNet's own halvings want sizes that are multiples of it
	MaxTokens      int     // of a prompt, with its start and end tokens
	PadToken       int64
	// TokenizerTruncates: the converted tokenizer cuts prompts itself, so their true length cannot be seen.
	TokenizerTruncates bool
	HiddenSize         int     // of the text encoder
	UNetLevels         []Level // the finest first, each half the size of the one before
	VAEChannels        []int   // of the decoder's levels, the finest first
	TimeCondProjDim    int     // of the UNet's guidance embedding (latent consistency models); 0: it has none

	DefaultWidth, DefaultHeight int // pixels
	DefaultSteps                int
	DefaultGuidance             float64
	FixedSizes                  []Size // the only sizes of an export with fixed shapes; nil: any
}

// Size is an image size in pixels.
type Size struct{ Width, Height int }

func (s Size) String() string { return fmt.Sprintf("%dx%d", s.Width, s.Height) }

// Level is a resolution level of a UNet.
type Level struct {
	Channels  int
	Attention bool // its blocks attend to themselves and to the prompt
}

// Component is a network of a model folder.
type Component struct {
	Name    string // folder, e.g. "unet"
	Path    string // of openvino_model.xml or model.onnx
	Weights string // of the .bin; "" for ONNX
	Bytes   int64  // of both files
	// WeightBytes is what the constants take with 16-bit floats widened to float32, as the CPU holds them; of ONNX the
	// file's size.
	WeightBytes int64
	// Inputs of an IR network as its file declares them; nil for ONNX, which is not read here.
	Inputs []Input
}

// ONNX reports whether the network is an ONNX file.
func (c Component) ONNX() bool { return c.Weights == "" && strings.HasSuffix(c.Path, ".onnx") }

// Input returns the declared input of a name.
func (c Component) Input(name string) (Input, bool) {
	i := slices.IndexFunc(c.Inputs, func(in Input) bool { return in.Name == name })
	if i < 0 {
		return Input{}, false
	}
	return c.Inputs[i], true
}

// Open reads and checks a model folder. A damaged or unsupported one is an *events.Error of code model_invalid
// that names the file and the key.
func Open(dir string) (*Model, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, events.Errorf(events.CodeModelInvalid, "model folder %q: %w", dir, err)
	}
	m := &Model{Name: filepath.Base(abs), Dir: abs, Kind: KindImage}
	for _, step := range []func() error{
		m.readIndex, m.readScheduler, m.readTextEncoder, m.readTokenizer, m.readUNet, m.readVAE, m.readDefaults, m.checkFixed,
	} {
		if err := step(); err != nil {
			e := events.AsError(err)
			e.Message = fmt.Sprintf("model %q: %s", m.Name, e.Message)
			return nil, e
		}
	}
	return m, nil
}

func (m *Model) readConfig(file string) (config, error) {
	data, err := m.readFile(file)
	if err != nil {
		return config{}, err
	}
	return parseConfig(file, data)
}

func (m *Model) readFile(file string) ([]byte, error) {
	f, err := os.Open(filepath.Join(m.Dir, filepath.FromSlash(file)))
	if err != nil {
		return nil, unreadable(file, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		return nil, unreadable(file, err)
	}
	if len(data) > maxConfigBytes {
		return nil, invalid(file, "", "the file is larger than 16 MiB", "a configuration file")
	}
	return data, nil
}

func unreadable(file string, err error) *events.Error {
	if errors.Is(err, fs.ErrNotExist) {
		return invalid(file, "", "the file is missing", "a model folder in the layout of diffusers")
	}
	e := invalid(file, "", "it cannot be read: "+err.Error(), "a readable file")
	e.Cause = err
	return e
}

func (m *Model) readIndex() error {
	c, err := m.readConfig("model_index.json")
	if err != nil {
		return err
	}
	if m.Class, err = indexClass(c); err != nil {
		return err
	}
	m.DefaultSteps, m.DefaultGuidance = 50, 7.5 // StableDiffusionPipeline.__call__
	if m.Class == ClassLatentConsistency {
		m.DefaultSteps, m.DefaultGuidance = 4, 8.5 // LatentConsistencyModelPipeline.__call__
	}
	return nil
}

func indexClass(c config) (string, error) {
	class, err := c.text("_class_name")
	if err != nil {
		return "", err
	}
	if !slices.Contains(supportedClasses, class) {
		e := invalid(c.file, "_class_name", fmt.Sprintf("pipeline class %q is not supported", class), strings.Join(supportedClasses, " or "))
		e.Advice = "Use a text-to-image model of a supported class (Stable Diffusion 1.x or 2.x)."
		return "", e
	}
	for _, part := range []string{"scheduler", "text_encoder", "tokenizer", "unet", "vae"} {
		if v, err := get[[]*string](c, part, `a list like ["diffusers", "UNet2DConditionModel"]`); err != nil {
			return "", err
		} else if len(v) != 2 || v[1] == nil || *v[1] == "" {
			return "", invalid(c.file, part, "found "+short(c.values[part]), `a list like ["diffusers", "UNet2DConditionModel"]`)
		}
	}
	return class, nil
}

func (m *Model) readScheduler() error {
	const file = "scheduler/scheduler_config.json"
	data, err := m.readFile(file)
	if err != nil {
		return err
	}
	c, err := parseConfig(file, data)
	if err != nil {
		return err
	}
	if _, err := c.text("_class_name"); err != nil {
		return err
	}
	m.SchedulerConfig = data
	return nil
}

func (m *Model) readTextEncoder() error {
	c, err := m.readConfig("text_encoder/config.json")
	if err != nil {
		return err
	}
	if err := m.applyTextEncoder(c); err != nil {
		return err
	}
	m.TextEncoder, _, err = m.component("text_encoder", "openvino_model.xml", "model.onnx")
	if err != nil {
		return err
	}
	return checkInputs(m.TextEncoder, []string{"input_ids"}, []string{"attention_mask"})
}

func (m *Model) applyTextEncoder(c config) (err error) {
	if m.MaxTokens, err = c.integer("max_position_embeddings", 3, 65536); err != nil {
		return err
	}
	m.HiddenSize, err = c.integer("hidden_size", 1, 1<<20)
	return err
}

func (m *Model) readUNet() error {
	c, err := m.readConfig("unet/config.json")
	if err != nil {
		return err
	}
	if err := m.applyUNet(c); err != nil {
		return err
	}
	if m.UNet, _, err = m.component("unet", "openvino_model.xml", "model.onnx"); err != nil {
		return err
	}
	needed := []string{"sample", "timestep", "encoder_hidden_states"}
	if m.TimeCondProjDim > 0 {
		needed = append(needed, "timestep_cond")
	}
	return checkInputs(m.UNet, needed, nil)
}

func (m *Model) applyUNet(c config) (err error) {
	if m.LatentChannels, err = c.integer("in_channels", 1, 4096); err != nil {
		return err
	}
	if m.SampleWidth, m.SampleHeight, err = sampleSize(c); err != nil {
		return err
	}
	blocks, err := c.integers("block_out_channels")
	if err != nil {
		return err
	}
	m.SizeStep = 1 << (len(blocks) - 1) // times VAEScale, once that is known
	if m.UNetLevels, err = unetLevels(c, blocks); err != nil {
		return err
	}
	if cross, err := c.integer("cross_attention_dim", 1, 1<<20); err != nil {
		return err
	} else if cross != m.HiddenSize {
		return invalid(c.file, "cross_attention_dim", fmt.Sprintf("found %d", cross), fmt.Sprintf("%d, the hidden_size of text_encoder/config.json", m.HiddenSize))
	}
	if c.has("time_cond_proj_dim") {
		if m.TimeCondProjDim, err = c.integer("time_cond_proj_dim", 4, 65536); err != nil {
			return err
		}
		m.DefaultSteps, m.DefaultGuidance = 4, 8.5 // distilled with guidance as an input
	}
	return nil
}

// unetLevels reads which levels have attention. Without the key it is UNet2DConditionModel's default: all but the last.
func unetLevels(c config, channels []int) ([]Level, error) {
	levels := make([]Level, len(channels))
	var types []string
	if c.has("down_block_types") {
		var err error
		if types, err = get[[]string](c, "down_block_types", "a list of names"); err != nil {
			return nil, err
		}
	}
	for i, n := range channels {
		levels[i] = Level{Channels: n, Attention: i < len(channels)-1}
		if i < len(types) {
			levels[i].Attention = strings.Contains(types[i], "Attn")
		}
	}
	return levels, nil
}

// sampleSize reads "sample_size": one number for a square, or [height, width].
func sampleSize(c config) (width, height int, err error) {
	const expected = "a whole number from 1 to 8192, or [height, width]"
	if !c.has("sample_size") {
		return 0, 0, invalid(c.file, "sample_size", "it is missing", expected)
	}
	var side int
	var sides []int
	switch raw := c.values["sample_size"]; {
	case json.Unmarshal(raw, &side) == nil:
		width, height = side, side
	case json.Unmarshal(raw, &sides) == nil && len(sides) == 2:
		height, width = sides[0], sides[1]
	}
	if min(width, height) < 1 || max(width, height) > 8192 {
		return 0, 0, invalid(c.file, "sample_size", "found "+short(c.values["sample_size"]), expected)
	}
	return width, height, nil
}

func (m *Model) readVAE() error {
	c, err := m.readConfig("vae_decoder/config.json")
	if err != nil {
		return err
	}
	if err := m.applyVAE(c); err != nil {
		return err
	}
	if m.VAEDecoder, _, err = m.component("vae_decoder", "openvino_model.xml", "model.onnx"); err != nil {
		return err
	}
	if err := checkInputs(m.VAEDecoder, []string{"latent_sample"}, nil); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(m.Dir, "vae_encoder")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	encoder, _, err := m.component("vae_encoder", "openvino_model.xml", "model.onnx")
	m.VAEEncoder = &encoder
	return err
}

func (m *Model) applyVAE(c config) error {
	channels, err := c.integer("latent_channels", 1, 4096)
	if err != nil {
		return err
	}
	if channels != m.LatentChannels {
		e := invalid("unet/config.json", "in_channels", fmt.Sprintf("found %d", m.LatentChannels), fmt.Sprintf("%d, the latent_channels of %s", channels, c.file))
		e.Advice = "Use a text-to-image model; inpainting and image-to-image UNets take other inputs."
		return e
	}
	blocks, err := c.integers("block_out_channels")
	if err != nil {
		return err
	}
	if c.has("out_channels") {
		if _, err := c.integer("out_channels", 3, 3); err != nil {
			return err
		}
	}
	m.VAEScale, m.VAEChannels = 1<<(len(blocks)-1), blocks
	m.SizeStep *= m.VAEScale
	if m.VAESample, err = vaeSample(c, m.VAEScale); err != nil {
		return err
	}
	m.DefaultWidth, m.DefaultHeight = m.SampleWidth*m.VAEScale, m.SampleHeight*m.VAEScale
	if m.ScalingFactor, err = c.number("scaling_factor"); err != nil {
		return err
	}
	if c.has("shift_factor") {
		m.ShiftFactor, err = get[float64](c, "shift_factor", "a number")
	}
	return err
}

// vaeSample reads the VAE's "sample_size", which is in pixels, as latents. Without one it is diffusers' default.
func vaeSample(c config, scale int) (int, error) {
	if !c.has("sample_size") {
		return max(1, 32/scale), nil
	}
	width, height, err := sampleSize(c)
	return max(1, min(width, height)/scale), err
}

// readDefaults reads the optional generation_config.json, whose keys are those of OpenVINO GenAI's
// ImageGenerationConfig: what a request takes that does not say.
func (m *Model) readDefaults() error {
	const file = "generation_config.json"
	if _, err := os.Stat(filepath.Join(m.Dir, file)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	c, err := m.readConfig(file)
	if err != nil {
		return err
	}
	return m.applyDefaults(c)
}

func (m *Model) applyDefaults(c config) (err error) {
	for _, d := range []struct {
		key      string
		value    *int
		multiple int
	}{{"num_inference_steps", &m.DefaultSteps, 1}, {"width", &m.DefaultWidth, m.VAEScale}, {"height", &m.DefaultHeight, m.VAEScale}} {
		if !c.has(d.key) {
			continue
		}
		if *d.value, err = c.integer(d.key, 1, 8192); err != nil {
			return err
		}
		if *d.value%d.multiple != 0 {
			return invalid(c.file, d.key, fmt.Sprintf("found %d", *d.value), fmt.Sprintf("a multiple of %d", d.multiple))
		}
	}
	if c.has("guidance_scale") {
		m.DefaultGuidance, err = get[float64](c, "guidance_scale", "a number from 0 to 100")
		if err == nil && (m.DefaultGuidance < 0 || m.DefaultGuidance > 100) {
			err = invalid(c.file, "guidance_scale", "found "+short(c.values["guidance_scale"]), "a number from 0 to 100")
		}
	}
	return err
}

// checkFixed compares the fixed extents of the exported networks with the configs and derives FixedSizes.
func (m *Model) checkFixed() error {
	fixed := Size{}
	for _, in := range []struct {
		c    Component
		name string
	}{{m.UNet, "sample"}, {m.VAEDecoder, "latent_sample"}} {
		input, ok := in.c.Input(in.name)
		if !ok || !input.Ranked {
			continue
		}
		file := in.c.Name + "/openvino_model.xml"
		if len(input.Shape) != 4 || input.Shape[1] > 0 && input.Shape[1] != int64(m.LatentChannels) {
			return invalid(file, "", fmt.Sprintf("input %q has shape %v", in.name, input.Shape), fmt.Sprintf("[batch, %d, height, width]", m.LatentChannels))
		}
		for k, p := range []*int{&fixed.Height, &fixed.Width} {
			n := input.Shape[2+k]
			if n <= 0 {
				continue
			}
			if n > math.MaxInt32 || *p != 0 && int64(*p) != n*int64(m.VAEScale) {
				return invalid(file, "", fmt.Sprintf("input %q has the fixed shape %v", in.name, input.Shape), "the fixed size of the UNet")
			}
			*p = int(n) * m.VAEScale
		}
	}
	if fixed.Width > 0 && fixed.Height > 0 {
		m.FixedSizes = []Size{fixed}
		m.DefaultWidth, m.DefaultHeight = fixed.Width, fixed.Height
	}
	return nil
}

// checkInputs compares the declared inputs of an IR network with those the pipeline feeds.
func checkInputs(c Component, needed, optional []string) error {
	if c.Inputs == nil {
		return nil
	}
	file := c.Name + "/" + filepath.Base(c.Path)
	for _, name := range needed {
		if _, ok := c.Input(name); !ok {
			return invalid(file, "", fmt.Sprintf("the network has no input %q", name), "inputs "+strings.Join(needed, ", "))
		}
	}
	for _, in := range c.Inputs {
		if !slices.Contains(needed, in.Name) && !slices.Contains(optional, in.Name) {
			return invalid(file, "", fmt.Sprintf("the network has an input %q that the pipeline does not know", in.Name), "inputs "+strings.Join(needed, ", "))
		}
	}
	return nil
}
