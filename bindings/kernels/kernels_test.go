package kernels

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

var sizes = []int{0, 1, 3, 7, 8, 15, 16, 17, 31, 33, 64, 511, 512, 513, 1023, 1025, 4097}

// openNative opens the embedded library and fails the test if there is none.
func openNative(t testing.TB) *Set {
	t.Helper()
	s, err := Open(t.TempDir())
	require.NoError(t, err, "the C kernels are needed: run `make native`")
	return s
}

// sets are both implementations, for tests against known results.
func sets(t *testing.T) map[string]*Set {
	return map[string]*Set{"go": Reference(), "native": openNative(t)}
}

// openBaseline builds and loads the C library as it runs on a machine without AVX2.
func openBaseline(t *testing.T) *Set {
	t.Helper()
	path := filepath.Join(t.TempDir(), "libbaseline.so")
	out, err := exec.CommandContext(t.Context(), "make", "-C", "../../native/kernels", "EXTRA=-DGENFN_BASELINE", "LIBRARY="+path).CombinedOutput()
	require.NoError(t, err, "make and a C compiler are needed: %s", out)
	native, isa, err := load(path)
	require.NoError(t, err)
	require.Equal(t, "baseline", isa)
	return &Set{info: Info{Backend: "native", Path: path, ISA: isa}, native: native}
}

// Every kernel on every instruction set gives the reference's values.
func TestNativeEqualsReference(t *testing.T) {
	for name, native := range map[string]*Set{"native": openNative(t), "baseline": openBaseline(t)} {
		t.Run(name+"/Step", func(t *testing.T) { checkStepEqual(t, native) })
		t.Run(name+"/Step in place", func(t *testing.T) { checkStepInPlace(t, native) })
		t.Run(name+"/Scale", func(t *testing.T) { checkScaleEqual(t, native) })
		t.Run(name+"/ImageToU8", func(t *testing.T) { checkImageEqual(t, native) })
		t.Run(name+"/CountNonFinite", func(t *testing.T) { checkCountEqual(t, native) })
		t.Run(name+"/Blend", func(t *testing.T) { checkBlendEqual(t, native) })
		t.Run(name+"/float16", func(t *testing.T) { checkConversionsEqual(t, native) })
		t.Run(name+"/StepF16", func(t *testing.T) { checkStepF16Equal(t, native) })
		t.Run(name+"/other kernels in float16", func(t *testing.T) { checkOthersF16Equal(t, native) })
		t.Run(name+"/Mix and Composite", func(t *testing.T) { checkCompositesEqual(t, native) })
		t.Run(name+"/U8ToImage", func(t *testing.T) { checkU8ToImageEqual(t, native) })
		t.Run(name+"/Resize", func(t *testing.T) { checkResizesEqual(t, native) })
		t.Run(name+"/Checksum and Difference", func(t *testing.T) { checkReductionsEqual(t, native) })
		t.Run(name+"/Philox", func(t *testing.T) { checkPhiloxEqual(t, native) })
		t.Run(name+"/noise", func(t *testing.T) { checkNoiseEqual(t, native) })
	}
}

var specials = []float32{
	0, float32(math.Copysign(0, -1)), 1, -1, 0.5, math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32,
	1e-40, -1e-40, 1.17549435e-38, math.MaxFloat32, -math.MaxFloat32, 1e30, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()),
}

// values gives n random values, about one in eight of them special, starting offset values into their memory.
func values(r *rand.Rand, n, offset int) []float32 {
	v := make([]float32, offset+n)[offset:]
	for i := range v {
		if r.IntN(8) == 0 {
			v[i] = specials[r.IntN(len(specials))]
		} else {
			v[i] = float32(r.NormFloat64())
		}
	}
	return v
}

// same compares bit for bit, with all NaNs equal.
func same(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || (a != a && b != b)
}

// requireSame compares slices with same.
func requireSame(t testing.TB, expected, actual []float32, about ...any) {
	t.Helper()
	require.Len(t, actual, len(expected), about...)
	for i, e := range expected {
		a := actual[i]
		if !same(e, a) {
			require.Failf(t, "values differ", "at %d of %d: expected %v (%#08x), got %v (%#08x); %s",
				i, len(expected), e, math.Float32bits(e), a, math.Float32bits(a), fmt.Sprint(about...))
		}
	}
}

// randomStep makes arguments with random terms present; a quarter of the coefficients are 0.
func randomStep(r *rand.Rand, n int) *StepArgs {
	coef := func() float32 {
		if r.IntN(4) == 0 {
			return 0
		}
		return float32(r.NormFloat64())
	}
	slice := func() []float32 { return values(r, n, r.IntN(4)) }
	a := &StepArgs{
		Sample: slice(), Guidance: float32(r.NormFloat64() * 8),
		ConvSample: coef(), ConvOutput: coef(),
		SampleCoef: coef(), OutputCoef: coef(), ConvertedCoef: coef(), NoiseCoef: coef(),
		Prev: slice(), Converted: slice(),
	}
	if r.IntN(4) > 0 {
		a.Cond = slice()
		if r.IntN(2) == 0 {
			a.Uncond = slice()
		}
	}
	if r.IntN(2) == 0 {
		a.Noise = slice()
	}
	if r.IntN(2) == 0 {
		a.Clip = float32(r.ExpFloat64())
	}
	for range r.IntN(MaxHistory + 1) {
		a.History = append(a.History, slice())
		a.HistoryCoef = append(a.HistoryCoef, coef())
	}
	if r.IntN(4) == 0 {
		a.Converted = nil
	} else if r.IntN(4) == 0 {
		a.Prev = nil
	}
	return a
}

// copyStep copies the arguments with their memory; equal slices stay equal.
func copyStep(a *StepArgs) *StepArgs {
	copies := map[*float32][]float32{}
	clone := func(s []float32) []float32 {
		if len(s) == 0 {
			return s
		}
		if copies[&s[0]] == nil {
			copies[&s[0]] = slices.Clone(s)
		}
		return copies[&s[0]]
	}
	b := *a
	for _, s := range []*[]float32{&b.Sample, &b.Cond, &b.Uncond, &b.Noise, &b.Converted, &b.Prev} {
		*s = clone(*s)
	}
	b.History = nil
	for _, h := range a.History {
		b.History = append(b.History, clone(h))
	}
	return &b
}

// requireStepEqual runs a with both and compares everything they could have written.
func requireStepEqual(t testing.TB, native *Set, a *StepArgs) {
	t.Helper()
	b := copyStep(a)
	require.NoError(t, native.Step(a))
	require.NoError(t, Reference().Step(b))
	for name, pair := range map[string][2][]float32{
		"Sample": {b.Sample, a.Sample}, "Cond": {b.Cond, a.Cond}, "Uncond": {b.Uncond, a.Uncond}, "Noise": {b.Noise, a.Noise},
		"Converted": {b.Converted, a.Converted}, "Prev": {b.Prev, a.Prev},
	} {
		requireSame(t, pair[0], pair[1], name)
	}
	for k := range a.History {
		requireSame(t, b.History[k], a.History[k], "History ", k)
	}
}

func checkStepEqual(t *testing.T, native *Set) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range sizes {
		for range 60 {
			requireStepEqual(t, native, randomStep(r, n))
		}
	}
}

func checkStepInPlace(t *testing.T, native *Set) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, n := range sizes {
		for range 20 {
			a := randomStep(r, n)
			inputs := [][]float32{a.Sample}
			for _, s := range append([][]float32{a.Cond, a.Uncond, a.Noise}, a.History...) {
				if s != nil {
					inputs = append(inputs, s)
				}
			}
			r.Shuffle(len(inputs), func(i, j int) { inputs[i], inputs[j] = inputs[j], inputs[i] })
			a.Prev = inputs[0]
			a.Converted = nil
			if len(inputs) > 1 {
				a.Converted = inputs[1]
			}
			requireStepEqual(t, native, a)
		}
	}
}

// The formula of the documentation, by hand, for both implementations.
func TestStepValues(t *testing.T) {
	nan := float32(math.NaN())
	for name, s := range sets(t) {
		t.Run(name, func(t *testing.T) {
			prev, converted := make([]float32, 2), make([]float32, 2)
			require.NoError(t, s.Step(&StepArgs{
				Sample: []float32{1, 2}, Cond: []float32{3, 4}, Uncond: []float32{1, 8}, Guidance: 2, // e = 5, 0
				ConvSample: 2, ConvOutput: 3, Clip: 10, // m = 17, 4 -> 10, 4
				SampleCoef: 1, OutputCoef: 10, ConvertedCoef: 100, NoiseCoef: 0.5,
				History: [][]float32{{1, 2}, {4, 8}}, HistoryCoef: []float32{1000, -1000},
				Noise: []float32{2, 4}, Converted: converted, Prev: prev,
			}))
			require.Equal(t, []float32{10, 4}, converted)
			require.Equal(t, []float32{1 + 50 + 1000 + 1000 - 4000 + 1, 2 + 0 + 400 + 2000 - 8000 + 2}, prev)

			// Without Uncond, e is Cond; without Cond the output terms vanish, and so do terms whose coefficient is 0.
			require.NoError(t, s.Step(&StepArgs{Sample: []float32{1, 2}, Cond: []float32{3, 4}, Guidance: nan, SampleCoef: 1, OutputCoef: 1, Prev: prev}))
			require.Equal(t, []float32{4, 6}, prev)
			require.NoError(t, s.Step(&StepArgs{Sample: []float32{1, 2}, OutputCoef: nan, ConvOutput: nan, SampleCoef: 2, NoiseCoef: 1, Prev: prev}))
			require.Equal(t, []float32{2, 4}, prev)
			require.NoError(t, s.Step(&StepArgs{Sample: []float32{nan, nan}, Cond: []float32{3, 4}, OutputCoef: 1, Noise: []float32{nan, nan}, Prev: prev}))
			require.Equal(t, []float32{3, 4}, prev)

			// The clamp lets NaN through, so that it is found afterwards.
			require.NoError(t, s.Step(&StepArgs{Sample: []float32{nan, -9}, ConvSample: 1, Clip: 1, ConvertedCoef: 1, Prev: prev}))
			require.True(t, math.IsNaN(float64(prev[0])))
			requireSame(t, []float32{-1}, prev[1:])
		})
	}
}

func TestStepRefusesBadArguments(t *testing.T) {
	memory := make([]float32, 12)
	four := func() []float32 { return make([]float32, 4) }
	ok := func() *StepArgs { return &StepArgs{Sample: memory[:4], Prev: memory[:4]} }
	cases := map[string]struct {
		change   func(*StepArgs)
		expected string
	}{
		"nothing wanted":        {func(a *StepArgs) { a.Prev = nil }, "neither Prev nor Converted"},
		"guidance without cond": {func(a *StepArgs) { a.Uncond = four() }, "Uncond without Cond"},
		"short cond":            {func(a *StepArgs) { a.Cond = make([]float32, 3) }, "Cond has 3 values, expected 4"},
		"long uncond":           {func(a *StepArgs) { a.Cond, a.Uncond = four(), make([]float32, 5) }, "Uncond has 5 values, expected 4"},
		"empty noise":           {func(a *StepArgs) { a.Noise = []float32{} }, "Noise has 0 values, expected 4"},
		"short prev":            {func(a *StepArgs) { a.Prev = memory[:1] }, "Prev has 1 values, expected 4"},
		"short converted":       {func(a *StepArgs) { a.Converted = make([]float32, 1) }, "Converted has 1 values, expected 4"},
		"history without coef":  {func(a *StepArgs) { a.History = [][]float32{four()} }, "1 entries in History and 0 in HistoryCoef"},
		"too much history":      {func(a *StepArgs) { a.History, a.HistoryCoef = make([][]float32, 9), make([]float32, 9) }, "at most 8"},
		"nil history":           {func(a *StepArgs) { a.History, a.HistoryCoef = make([][]float32, 1), make([]float32, 1) }, "History[0] has 0 values"},
		"negative clip":         {func(a *StepArgs) { a.Clip = -1 }, "Clip is -1"},
		"clip not a number":     {func(a *StepArgs) { a.Clip = float32(math.NaN()) }, "Clip is NaN"},
		"prev is converted":     {func(a *StepArgs) { a.Converted = a.Prev }, "Prev and Converted share memory"},
		"prev over converted":   {func(a *StepArgs) { a.Prev, a.Converted = memory[4:8], memory[7:11] }, "Prev and Converted share memory"},
		"prev over sample":      {func(a *StepArgs) { a.Prev = memory[3:7] }, "Prev overlaps an input"},
		"converted over noise":  {func(a *StepArgs) { a.Noise, a.Converted = memory[5:9], memory[4:8] }, "Converted overlaps an input"},
		"prev over some history": {func(a *StepArgs) {
			a.Prev, a.History, a.HistoryCoef = memory[4:8], [][]float32{four(), memory[5:9]}, []float32{0, 0}
		}, "Prev overlaps History[1]"},
	}
	require.NoError(t, Reference().Step(ok()))
	for name, c := range cases {
		for backend, s := range sets(t) {
			t.Run(name+"/"+backend, func(t *testing.T) {
				a := ok()
				c.change(a)
				require.ErrorContains(t, s.Step(a), c.expected)
			})
		}
	}
}

func checkScaleEqual(t *testing.T, native *Set) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, n := range sizes {
		for offset := range 4 {
			src := values(r, n, offset)
			mul, add := float32(r.NormFloat64()), float32(r.NormFloat64())
			expected, actual := make([]float32, n), make([]float32, n+1)[1:]
			require.NoError(t, Reference().Scale(expected, src, mul, add))
			require.NoError(t, native.Scale(actual, src, mul, add))
			requireSame(t, expected, actual, "out of place")
			require.NoError(t, native.Scale(src, src, mul, add))
			requireSame(t, expected, src, "in place")
		}
	}
}

func TestScaleRefusesBadArguments(t *testing.T) {
	v := make([]float32, 8)
	for _, s := range sets(t) {
		require.ErrorContains(t, s.Scale(v[:3], v[:4], 1, 0), "dst has 3 values, expected 4")
		require.ErrorContains(t, s.Scale(v[1:5], v[:4], 1, 0), "overlaps")
		require.ErrorContains(t, s.Scale(v[:4], v[1:5], 1, 0), "overlaps")
		require.NoError(t, s.Scale(v[4:], v[:4], 1, 0))
	}
}

func checkImageEqual(t *testing.T, native *Set) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, size := range [][3]int{{3, 0, 5}, {3, 1, 1}, {1, 3, 5}, {3, 5, 3}, {4, 7, 9}, {2, 16, 16}, {3, 17, 31}, {3, 64, 64}, {3, 33, 67}} {
		n := size[0] * size[1] * size[2]
		for offset := range 4 {
			src := values(r, n, offset)
			expected, actual := make([]uint8, n), make([]uint8, n+1)[1:]
			require.NoError(t, Reference().ImageToU8(expected, src, size[0], size[1], size[2]))
			require.NoError(t, native.ImageToU8(actual, src, size[0], size[1], size[2]))
			require.Equal(t, expected, actual, "%v", size)
		}
	}
}

func TestImageToU8RefusesBadArguments(t *testing.T) {
	for _, s := range sets(t) {
		require.ErrorContains(t, s.ImageToU8(make([]uint8, 12), make([]float32, 11), 3, 2, 2), "expected 12")
		require.ErrorContains(t, s.ImageToU8(make([]uint8, 13), make([]float32, 12), 3, 2, 2), "expected 12")
		require.ErrorContains(t, s.ImageToU8(nil, nil, -1, -1, 0), "expected 0 to 1048576 each")
		require.ErrorContains(t, s.ImageToU8(nil, nil, 1<<32, 1<<32, 1), "expected 0 to 1048576 each")
	}
}

func checkCountEqual(t *testing.T, native *Set) {
	r := rand.New(rand.NewPCG(9, 10))
	for _, n := range sizes {
		v := values(r, n, n%4)
		require.Equal(t, Reference().CountNonFinite(v), native.CountNonFinite(v))
	}
}

func TestCountNonFinite(t *testing.T) {
	for name, s := range sets(t) {
		require.Zero(t, s.CountNonFinite(nil), name)
		require.Equal(t, 3, s.CountNonFinite(specials), name)
		require.Equal(t, 300, s.CountNonFinite(slices.Repeat(specials, 100)), name)
	}
}

func TestHotCallsDoNotAllocate(t *testing.T) {
	allowed := 0.0
	if raceEnabled {
		allowed = 3 // the race detector makes sync.Pool drop items at random
	}
	n := 256
	v := func() []float32 { return make([]float32, n) }
	step := &StepArgs{Sample: v(), Cond: v(), Uncond: v(), Guidance: 7.5, SampleCoef: 1, OutputCoef: -0.1, History: [][]float32{v()}, HistoryCoef: []float32{1}, Noise: v(), Prev: v(), Converted: v()}
	pixels := make([]uint8, n)
	region := &BlendArgs{Dst: v(), DstRow: 16, Src: v(), SrcRow: 16, Planes: 1, Rows: 16, Columns: 16}
	half := inHalves(step)
	for name, s := range sets(t) {
		torch, std, philox := s.TorchNormal(1), s.StdNormal(1), s.TorchCUDANormal(1, h100)
		for call, f := range map[string]func(){
			"Step":           func() { _ = s.Step(step) },
			"Scale":          func() { _ = s.Scale(step.Prev, step.Sample, 2, 1) },
			"ImageToU8":      func() { _ = s.ImageToU8(pixels, step.Sample, 1, 16, 16) },
			"CountNonFinite": func() { _ = s.CountNonFinite(step.Sample) },
			"Blend":          func() { _ = s.Blend(region) },
			"TorchNormal":    func() { torch.Fill(step.Noise) },
			"StdNormal":      func() { std.Fill(step.Noise) },
			"Philox":         func() { philox.Fill(step.Noise) },
			"Mix":            func() { _ = s.Mix(step.Prev, step.Sample, step.Noise, 0.5) },
			"Composite":      func() { _ = s.Composite(step.Prev, step.Sample, step.Noise, step.Cond, 1) },
			"U8ToImage":      func() { _ = s.U8ToImage(step.Prev, pixels, 1, 16, 16) },
			"Checksum":       func() { s.Checksum(step.Sample) },
			"Difference":     func() { _, _ = s.Difference(step.Sample, step.Noise) },
			"F32ToF16":       func() { _ = s.F32ToF16(half.Sample, step.Sample) },
			"StepF16": func() {
				if s.native != nil { // the reference converts whole arrays
					_ = s.StepF16(half)
				}
			},
		} {
			require.LessOrEqual(t, testing.AllocsPerRun(200, f), allowed, "%s of %s", call, name)
		}
	}
}

// One Set serves many goroutines, each with its own memory.
func TestConcurrentUse(t *testing.T) {
	native := openNative(t)
	var group sync.WaitGroup
	for seed := range uint64(8) {
		group.Go(func() {
			r := rand.New(rand.NewPCG(seed, 15))
			for range 200 {
				src := values(r, 300, 0)
				expected, actual := make([]float32, len(src)), make([]float32, len(src))
				mul := float32(seed + 1)
				err := errors.Join(Reference().Scale(expected, src, mul, 1), native.Scale(actual, src, mul, 1))
				finite := len(src) - native.CountNonFinite(src)
				if err != nil || finite != len(src)-Reference().CountNonFinite(src) || !slices.EqualFunc(expected, actual, same) {
					t.Errorf("goroutine %d: results differ (%v)", seed, err)
				}
			}
		})
	}
	group.Wait()
}

func FuzzStep(f *testing.F) {
	native := openNative(f)
	for seed := range uint64(8) {
		f.Add(seed, uint16(seed*97), float32(seed), float32(-1), float32(7.5), float32(seed)-3)
	}
	f.Fuzz(func(t *testing.T, seed uint64, n uint16, sample, cond, guidance, coef float32) {
		a := randomStep(rand.New(rand.NewPCG(seed, 0)), int(n%2048))
		if len(a.Sample) > 0 {
			a.Sample[0] = sample
			if a.Cond != nil {
				a.Cond[len(a.Cond)-1] = cond
			}
		}
		a.Guidance, a.OutputCoef = guidance, coef
		requireStepEqual(t, native, a)
	})
}
