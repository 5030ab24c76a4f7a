package model

import "math"

// Workload is what the memory and time of a generation depend on, beside the model.
type Workload struct {
	Width, Height, Count int
	Guided               bool
	Economy              Economy
}

// Parts of the estimate that do not depend on a model, measured with OpenVINO 2026.4.1 on a CPU with AVX2: a runner with
// a tokenizer, and what compiling a network adds in code and graphs.
const (
	runtimeBytes = 96 << 20
	networkBytes = 32 << 20
)

// PeakBytes estimates the highest resident set of a runner process that generates w on the CPU with nothing loaded
// before: the prior of memory admission until something is measured. It grows with size and count.
//
//	runtime + sum of networks (code + 2 * weights as float32 + activations) + pictures
//
// The weights count twice: the CPU plugin keeps them as float32 and once more in the layout of its kernels.
//
// Activations in float32 values, for a batch of b, over the latents' n positions and the picture's p pixels:
//
//	text encoder   b * tokens * 20 hidden                          attention and MLP of one layer
//	UNet           b * (max over levels i of n/4^i * work + skips)  work: 24 c with attention, otherwise that of a
//	                                                                resnet in the up path, c' + 5c; skips: 3c n/4^i
//	VAE decoder    p * (3 max(c0, c1) + 3)                          the finest level after its upsampling
//
// c are the channels of a level, c' those of the level below. Attention is computed in blocks, its matrix takes no
// memory. Every compiled network keeps its activations, so they add up; with OffloadModels the largest network counts
// alone. Tiles count with their side in place of the picture, and with their float32 pixels of all images.
//
// Against 21 measured peaks of three models (1.3 to 67 million parameters, 64x64 to 1024x768 pixels, each economy) the
// estimate is 0.99 to 1.27 times what was measured; the test has those of the models in this repository.
func (m *Model) PeakBytes(w Workload) int64 {
	text, unet, vae := m.networkNeeds(w, float32Bytes, m.resident)
	total := text + unet + vae
	if w.Economy.OffloadModels {
		total = max(text, unet, vae)
	}
	return bytesOf(runtimeBytes + total + m.pictureNeeds(w))
}

// DeviceBytes estimates the most that a generation of w holds of a GPU's own memory, with numbers of so many bytes (2
// for f16, 4 for f32): the weights once, and half of the activations of PeakBytes, because the GPU plugin's pool gives
// the buffers of one operation to the next. It is meant to be too high rather than too low: of the one model measured,
// 0.1 MB of weights at 32x32 and 64x64 with OpenVINO 2026.4.1 on the virtual GPU in f32, activations took 0.26 of
// PeakBytes's for each pixel.
func (m *Model) DeviceBytes(w Workload, bytes int) int64 {
	resident := func(c Component) float64 { return float64(c.WeightBytes) / float32Bytes * float64(bytes) }
	text, unet, vae := m.networkNeeds(w, float64(bytes)/2, resident)
	total := text + unet + vae
	if w.Economy.OffloadModels {
		total = max(text, unet, vae)
	}
	return bytesOf(total)
}

// bytesOf converts an estimate, which may be beyond any integer.
func bytesOf(v float64) int64 {
	if v >= math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(v)
}

const float32Bytes = 4

// networkNeeds are the bytes of each network when it is compiled, which takes what resident says, and has run with
// values of so many bytes.
func (m *Model) networkNeeds(w Workload, value float64, resident func(Component) float64) (text, unet, vae float64) {
	batch := 1.0
	if w.Guided {
		batch = 2
	}
	text = resident(m.TextEncoder) + batch*float64(m.MaxTokens)*20*float64(m.HiddenSize)*value
	if w.Economy.SequentialGuidance {
		batch = 1
	}
	unet = resident(m.UNet) + batch*m.unetValues(w)*value
	vae = resident(m.VAEDecoder) + m.vaeValues(w)*value
	return text, unet, vae
}

// resident is what a compiled network takes before it runs.
func (m *Model) resident(c Component) float64 {
	return networkBytes + 2*float64(c.WeightBytes)
}

// latents returns the positions of the latents.
func (m *Model) latents(w Workload) float64 {
	return float64(w.Width) / float64(m.VAEScale) * float64(w.Height) / float64(m.VAEScale)
}

func (m *Model) unetValues(w Workload) float64 {
	n := m.latents(w)
	var work, skips float64
	for i, level := range m.UNetLevels {
		c := float64(level.Channels)
		values := float64(m.UNetLevels[min(i+1, len(m.UNetLevels)-1)].Channels) + 5*c
		if level.Attention {
			values = max(values, 24*c)
		}
		work = max(work, n*values)
		skips += 3 * n * c
		n /= 4
	}
	return work + skips
}

// vaeValues counts the activations of decoding one picture or one tile.
func (m *Model) vaeValues(w Workload) float64 {
	width, height := w.Width, w.Height
	if side := m.TileSide(w.Economy, width, height) * m.VAEScale; side > 0 {
		width, height = min(width, side), min(height, side)
	}
	finest := 0
	for _, c := range m.VAEChannels[:min(2, len(m.VAEChannels))] {
		finest = max(finest, c)
	}
	return float64(width) * float64(height) * float64(3*finest+3)
}

// pictureNeeds are the bytes outside of the networks: latents, and pixels as bytes or, of tiles, as float32 until they
// are joined. Tiles overlap: they hold 16/9 of the picture.
func (m *Model) pictureNeeds(w Workload) float64 {
	count, pixels := float64(max(w.Count, 1)), float64(w.Width)*float64(w.Height)
	need := count * (3*pixels + 4*m.latents(w)*float64(m.LatentChannels)*float32Bytes)
	if m.TileSide(w.Economy, w.Width, w.Height) > 0 {
		need += (count*16/9 + 1) * 3 * pixels * float32Bytes
	}
	return need
}

// MinStepSeconds is the least time of one denoising step on a CPU of so many cores: the arithmetic of self-attention
// alone, 4 n^2 c for n positions and c channels in each of the level's blocks (one down and two up, one in the middle), at
// 100 billion operations a second and core, which current cores hardly exceed. It tells sizes that can never end in time
// from those that are merely slow.
func (m *Model) MinStepSeconds(w Workload, cores int) float64 {
	const perCore = 1e11
	n, operations := m.latents(w), 0.0
	for i, level := range m.UNetLevels {
		blocks := 0.0
		if level.Attention {
			blocks = 3
		}
		if i == len(m.UNetLevels)-1 {
			blocks++
		}
		operations += blocks * 4 * n * n * float64(level.Channels)
		n /= 4
	}
	if w.Guided {
		operations *= 2
	}
	return operations / perCore / float64(max(cores, 1))
}

// Largest returns the largest size of about the workload's proportions that fits, no larger than it, in multiples of
// SizeStep; ok is false if none does.
func (m *Model) Largest(w Workload, fits func(Workload) bool) (size Size, ok bool) {
	ratio := float64(w.Height) / float64(w.Width)
	for width := w.Width / m.SizeStep * m.SizeStep; width >= m.SizeStep; width -= m.SizeStep {
		smaller := w
		smaller.Width = width
		smaller.Height = max(m.SizeStep, int(float64(width)*ratio)/m.SizeStep*m.SizeStep)
		if fits(smaller) {
			return Size{smaller.Width, smaller.Height}, true
		}
	}
	return Size{}, false
}
