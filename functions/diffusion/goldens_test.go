package diffusion_test

import (
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/bindings/cuda"
	"genfn/bindings/kernels"
	"genfn/bindings/tensor/tensortest"
	"genfn/functions/cudadevice"
	"genfn/functions/cudadevice/cudadevicetest"
	"genfn/functions/diffusion"
)

// golden is one case of testdata/make_goldens.py, which documents the fields.
type golden struct {
	Class          string          `json:"class"`
	Name           string          `json:"name"`     // for WithClass; empty: the configuration is of the class
	Original       string          `json:"original"` // the class that a configuration for WithClass is of
	Steps          int             `json:"steps"`
	Config         json.RawMessage `json:"config"`
	Guidance       float32         `json:"guidance"`
	Mu             *float64        `json:"mu"`
	GivenSigmas    []float64       `json:"given_sigmas"`
	Smooth         bool            `json:"smooth"`
	Tolerance      float64         `json:"tolerance"` // 0: stepTolerance
	Timesteps      []float64       `json:"timesteps"`
	Sigmas         []float64       `json:"sigmas"`
	InitNoiseSigma float64         `json:"init_noise_sigma"`
	Scales         []float64       `json:"scales"`
	Kept           int             `json:"kept"`
	Samples        string          `json:"samples"`
}

const (
	batch    = 2
	elements = 3 * 3 * 5
	// The goals: relative to the largest value.
	scheduleTolerance = 1e-6
	stepTolerance     = 1e-5
)

func TestGoldens(t *testing.T) {
	files, err := filepath.Glob("testdata/goldens/*.json.gz")
	require.NoError(t, err)
	require.Len(t, files, 9, "one file for each class and one for from_config: run testdata/make_goldens.py")
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json.gz")
		cases := readGoldens(t, file)
		require.GreaterOrEqual(t, len(cases), 5)
		for kind, set := range kernelSets(t) {
			for i, g := range cases {
				t.Run(fmt.Sprintf("%s/%s/%d", kind, name, i), func(t *testing.T) { checkGolden(t, diffusion.Host(set), hostValues, g) })
			}
		}
		t.Run("device/"+name, func(t *testing.T) {
			d := cudadevicetest.Open(t, tensortest.NewLedger(t))
			for _, g := range cases {
				arrays := d.NewArrays()
				checkGolden(t, arrays, deviceValues(arrays), g)
				require.NoError(t, arrays.Close())
			}
		})
	}
}

// values is how a test gets at the values of arrays.
type values[V any] struct {
	put func(t *testing.T, v []float32) V
	get func(t *testing.T, v V) []float32
}

var hostValues = values[[]float32]{
	func(_ *testing.T, v []float32) []float32 { return v },
	func(_ *testing.T, v []float32) []float32 { return v },
}

func deviceValues(a *cudadevice.Arrays) values[cuda.View] {
	return values[cuda.View]{
		func(t *testing.T, v []float32) cuda.View {
			out, err := a.Make(len(v))
			require.NoError(t, err)
			require.NoError(t, a.Write(out, v))
			return out
		},
		func(t *testing.T, v cuda.View) []float32 {
			out, err := a.Fetch(v)
			require.NoError(t, err)
			return out
		},
	}
}

// kernelSets are the Go reference and, where the binary holds it, the C library.
func kernelSets(t *testing.T) map[string]*kernels.Set {
	t.Helper()
	sets := map[string]*kernels.Set{"go": kernels.Reference()}
	native, err := kernels.Open(t.TempDir())
	if errors.Is(err, kernels.ErrNotBuilt) {
		t.Log("the C library is not built, so only the Go reference is tested; `make native` builds it")
		return sets
	}
	require.NoError(t, err)
	sets["native"] = native
	return sets
}

func readGoldens(t *testing.T, file string) []golden {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	var content struct {
		Shape []int    `json:"shape"`
		Cases []golden `json:"cases"`
	}
	require.NoError(t, json.NewDecoder(z).Decode(&content))
	require.Equal(t, []int{batch, 3, 3, 5}, content.Shape)
	return content.Cases
}

func (g *golden) scheduler(t *testing.T) diffusion.Scheduler {
	t.Helper()
	var keys map[string]any
	require.NoError(t, json.Unmarshal(g.Config, &keys))
	keys["_class_name"] = g.Class
	if g.Name != "" {
		keys["_class_name"] = g.Original
	}
	text, err := json.Marshal(keys)
	require.NoError(t, err)
	config, err := diffusion.ParseConfig(text)
	require.NoError(t, err)
	if g.Name != "" {
		config, err = config.WithClass(g.Name)
		require.NoError(t, err)
	}
	s, err := diffusion.New(config)
	require.NoError(t, err)
	require.Equal(t, g.Class, s.Class())
	return s
}

func checkGolden[V any](t *testing.T, arrays diffusion.Arrays[V], at values[V], g golden) {
	s := g.scheduler(t)
	options := diffusion.Options{Mu: g.Mu, Sigmas: g.GivenSigmas}
	require.NoError(t, s.Begin(g.Steps, batch, elements, options), "%s", g.Config)
	requireClose(t, g.Timesteps, s.Timesteps(), scheduleTolerance, "timesteps")
	if g.Sigmas == nil {
		require.Nil(t, s.Sigmas())
	} else {
		requireClose(t, g.Sigmas, s.Sigmas(), scheduleTolerance, "sigmas")
	}
	require.InEpsilon(t, g.InitNoiseSigma, s.InitNoiseSigma(), scheduleTolerance)
	for i, scale := range g.Scales {
		require.InEpsilon(t, scale, s.InputScale(i), scheduleTolerance, "scale_model_input at call %d", i)
	}

	tolerance := stepTolerance
	if g.Tolerance > 0 {
		tolerance = g.Tolerance
	}
	want := decodeSamples(t, g.Samples)
	require.Len(t, want, g.Kept)
	initial := gaussian(streamSample, 0)
	for j := range initial {
		initial[j] *= float32(s.InitNoiseSigma())
	}
	run, err := diffusion.Start(s, arrays)
	require.NoError(t, err)
	sample := at.put(t, initial)
	for i := range g.Timesteps {
		in := diffusion.StepInput[V]{Sample: sample, Cond: at.put(t, g.output(streamCond, i))}
		if g.Guidance > 1 {
			in.Uncond, in.Guidance = at.put(t, g.output(streamUncond, i)), g.Guidance
		}
		if s.NeedsNoise(i) {
			in.Noise = at.put(t, gaussian(streamNoise, uint64(i)))
		}
		require.NoError(t, run.Step(i, in))
		if k := i - (len(g.Timesteps) - g.Kept); k >= 0 {
			requireClose(t, want[k], at.get(t, sample), tolerance, "sample after call %d of %d of %s", i, len(g.Timesteps), g.Config)
		}
		require.Equal(t, arrays.Len(sample), arrays.Len(run.Denoised()))
	}
}

// requireClose compares relative to the largest expected value.
func requireClose[F float32 | float64](t *testing.T, want, got []F, tolerance float64, what string, args ...any) {
	t.Helper()
	require.Len(t, got, len(want), what)
	var difference, largest float64
	for i := range want {
		difference = math.Max(difference, math.Abs(float64(got[i])-float64(want[i])))
		largest = math.Max(largest, math.Abs(float64(want[i])))
	}
	require.LessOrEqualf(t, difference, tolerance*largest, what, args...)
	require.False(t, math.IsNaN(difference), what)
}

func decodeSamples(t *testing.T, text string) [][]float32 {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(text)
	require.NoError(t, err)
	require.Zero(t, len(raw)%(4*batch*elements))
	var out [][]float32
	for len(raw) > 0 {
		sample := make([]float32, batch*elements)
		for j := range sample {
			sample[j] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*j:]))
		}
		out, raw = append(out, sample), raw[4*len(sample):]
	}
	return out
}

// The inputs of the goldens, as make_goldens.py makes them.
const (
	streamSample = iota
	streamCond
	streamUncond
	streamNoise
)

func gaussian(stream, call uint64) []float32 {
	out := make([]float32, batch*elements)
	for i := range out {
		z := splitmix(stream<<48 | call<<24 | uint64(i))
		total := z&0xffff + z>>16&0xffff + z>>32&0xffff + z>>48
		out[i] = float32((float64(total) - 131070) / 37837)
	}
	return out
}

func splitmix(state uint64) uint64 {
	z := state + 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (g *golden) output(stream, call int) []float32 {
	if !g.Smooth {
		return gaussian(uint64(stream), uint64(call))
	}
	base, weight := call/32, float32(call%32)/32
	from, to := gaussian(uint64(stream), uint64(base)), gaussian(uint64(stream), uint64(base+1))
	for i := range from {
		from[i] = float32(from[i]*(1-weight)) + float32(to[i]*weight)
	}
	return from
}
