package kernels

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// The sizes that testdata/make_goldens.py draws.
var (
	freshSizes = []int{1, 2, 7, 15, 16, 17, 31, 1000, 4096}
	rowSizes   = append(freshSizes[:len(freshSizes):len(freshSizes)], 3, 16, 5, 48, 1, 1)
)

func golden(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err, "run testdata/make_goldens.py")
	return data
}

func goldenFloats(t *testing.T, name string) []float32 {
	t.Helper()
	data := golden(t, name)
	v := make([]float32, len(data)/4)
	_, err := binary.Decode(data, binary.LittleEndian, v)
	require.NoError(t, err)
	return v
}

func fill(source NormalSource, n int) []float32 {
	v := make([]float32, n)
	source.Fill(v)
	return v
}

func TestTorchNormalEqualsTorch(t *testing.T) {
	for name, s := range sets(t) {
		for _, seed := range []uint64{0, 1, 42, 1<<32 + 5, 1<<53 - 1} {
			t.Run(fmt.Sprint(name, "/", seed), func(t *testing.T) {
				expected, source := goldenFloats(t, fmt.Sprintf("torch_row_%d.bin", seed)), s.TorchNormal(seed)
				for i, n := range rowSizes {
					requireSame(t, expected[:n], fill(source, n), "call ", i)
					expected = expected[n:]
				}
				require.Empty(t, expected)
			})
		}
		t.Run(name+"/fresh", func(t *testing.T) {
			expected := goldenFloats(t, "torch_fresh_42.bin")
			for _, n := range freshSizes {
				requireSame(t, expected[:n], fill(s.TorchNormal(42), n), "size ", n)
				expected = expected[n:]
			}
			require.Empty(t, expected)
		})
	}
}

func TestStdNormalEqualsLibstdcxx(t *testing.T) {
	for name, s := range sets(t) {
		for _, seed := range []uint32{0, 1, 42, 5489, math.MaxUint32} {
			t.Run(fmt.Sprint(name, "/", seed), func(t *testing.T) {
				expected, source := goldenFloats(t, fmt.Sprintf("std_%d.bin", seed)), s.StdNormal(seed)
				for n := 1; len(expected) > 0; n *= 2 { // the pairs carry over from call to call
					n = min(n, len(expected))
					requireSame(t, expected[:n], fill(source, n))
					expected = expected[n:]
				}
			})
		}
	}
}

// A million values of each seed, by their checksum.
func TestLongSequences(t *testing.T) {
	var hashes struct {
		Torch, Std map[string]string
		Length     int
	}
	require.NoError(t, json.Unmarshal(golden(t, "hashes.json"), &hashes))
	check := func(t *testing.T, expected string, source NormalSource) {
		data, err := binary.Append(nil, binary.LittleEndian, fill(source, hashes.Length))
		require.NoError(t, err)
		digest := sha256.Sum256(data)
		require.Equal(t, expected, hex.EncodeToString(digest[:]))
	}
	for name, s := range sets(t) {
		for seed, expected := range hashes.Torch {
			n, err := strconv.ParseUint(seed, 10, 64)
			require.NoError(t, err)
			t.Run(name+"/torch/"+seed, func(t *testing.T) { check(t, expected, s.TorchNormal(n)) })
		}
		for seed, expected := range hashes.Std {
			n, err := strconv.ParseUint(seed, 10, 32)
			require.NoError(t, err)
			t.Run(name+"/std/"+seed, func(t *testing.T) { check(t, expected, s.StdNormal(uint32(n))) })
		}
	}
}

func checkNoiseEqual(t *testing.T, native *Set) {
	r := rand.New(rand.NewPCG(11, 12))
	for range 50 {
		seed := r.Uint64()
		pairs := map[string][2]NormalSource{
			"torch": {Reference().TorchNormal(seed), native.TorchNormal(seed)},
			"std":   {Reference().StdNormal(uint32(seed)), native.StdNormal(uint32(seed))},
		}
		for range 10 {
			n, offset := r.IntN(3000), r.IntN(4)
			for name, p := range pairs {
				expected, actual := make([]float32, n), make([]float32, offset+n)[offset:]
				p[0].Fill(expected)
				p[1].Fill(actual)
				requireSame(t, expected, actual, name, " seed ", seed, " size ", n)
			}
		}
	}
}

func TestSeedsCountModulo32Bits(t *testing.T) {
	for _, s := range sets(t) {
		require.Equal(t, fill(s.TorchNormal(5), 40), fill(s.TorchNormal(1<<32+5), 40))
		require.NotEqual(t, fill(s.TorchNormal(5), 40), fill(s.TorchNormal(6), 40))
	}
}

// The C++ standard gives the 10,000th word of the default seed.
func TestMersenneTwister(t *testing.T) {
	var g mt19937
	g.seed(5489)
	for range 9999 {
		g.uint32()
	}
	require.Equal(t, uint32(4123659995), g.uint32())
}

// The values that no short sequence shows: a zero is positive, and a word that rounds to 1 counts as less than 1.
func TestRareNoise(t *testing.T) {
	for name, s := range sets(t) {
		t.Run(name, func(t *testing.T) {
			torch := s.TorchNormal(0).(*torchNormal)
			torch.engine = mt19937{} // all words are 0, and so is every radius
			requireSame(t, make([]float32, 16), fill(torch, 16), "block")
			requireSame(t, make([]float32, 4), fill(torch, 4), "scalar path")

			std := s.StdNormal(0).(*stdNormal)
			std.engine = mt19937{state: [mtSize]uint32{0x12dd9bb3, 0x80102204}} // drawn as 0xffffffff and 0x80000000
			v := fill(std, 2)
			require.Zero(t, v[0])
			require.InDelta(t, 6.9e-4, v[1], 1e-5)
		})
	}
}

// The double-precision functions of the scalar path stay within about two units in the last place of Go's own.
func TestFunctionsOfDoublePrecision(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	var ofLog, ofSin, ofCos float64
	for range 200_000 {
		x := 1 - r.Float64() // (0, 1]
		ofLog = max(ofLog, math.Abs(math.Log(x)-log64(x))/max(math.Abs(math.Log(x)), 1e-300))
		angle := 2 * math.Pi * r.Float64()
		sin, cos := sincos64(angle)
		ofSin = max(ofSin, math.Abs(math.Sin(angle)-sin))
		ofCos = max(ofCos, math.Abs(math.Cos(angle)-cos))
	}
	require.Less(t, ofLog, 4e-16)
	require.Less(t, ofSin, 4e-16)
	require.Less(t, ofCos, 4e-16)
	require.Zero(t, log64(1))
}

func TestImageToU8EqualsDiffusers(t *testing.T) {
	image, expected := goldenFloats(t, "image_3x17x19.f32.bin"), golden(t, "image_17x19x3.u8.bin")
	for name, s := range sets(t) {
		actual := make([]uint8, len(expected))
		require.NoError(t, s.ImageToU8(actual, image, 3, 17, 19))
		require.Equal(t, expected, actual, name)
	}
}
