package kernels

import "math"

// NormalSource draws float32 values of the standard normal distribution. Its state carries over from one Fill to
// the next. It is not safe for concurrent use.
type NormalSource interface {
	Fill(dst []float32)
}

// TorchNormal returns the noise of PyTorch's CPU generator: after torch.Generator("cpu").manual_seed(seed), Fill(dst)
// gives torch.randn(len(dst), generator=g, dtype=torch.float32). As in PyTorch only the low 32 bits of the seed count.
//
// The values are PyTorch's own bit for bit on x86-64 with AVX2 and FMA, whose arithmetic is repeated here operation by
// operation. Builds of PyTorch that use the C library's log, sin and cos differ from that by about 2e-6 at most.
// Calls for fewer than 16 values use PyTorch's scalar path, in double precision; there an error of the C library in
// the last bit can, about once in 2^29 values, show in the last bit of the float32.
func (s *Set) TorchNormal(seed uint64) NormalSource {
	g := &torchNormal{library: s.native}
	g.engine.seed(uint32(seed))
	return g
}

// StdNormal returns the noise of C++: std::mt19937(seed) with one std::normal_distribution<float> as libstdc++ has it
// (Marsaglia's polar method; OpenVINO GenAI draws its latents so). libstdc++ calls the C library's logf, repeated here
// as glibc computes it (since 2.27).
func (s *Set) StdNormal(seed uint32) NormalSource {
	g := &stdNormal{library: s.native}
	g.engine.seed(seed)
	return g
}

const mtSize = 624

// mt19937 is the Mersenne Twister of Matsumoto and Nishimura (1998), seeded as in their 2002 revision.
// The C library reads and writes the same layout.
type mt19937 struct {
	state [mtSize]uint32
	next  uint32 // index of the next word; mtSize: none left
}

func (g *mt19937) seed(seed uint32) {
	g.state[0] = seed
	for i := uint32(1); i < mtSize; i++ {
		p := g.state[i-1]
		g.state[i] = 1812433253*(p^p>>30) + i
	}
	g.next = mtSize
}

func (g *mt19937) refill() {
	const shift = 397
	for i := range mtSize {
		y := g.state[i]&0x80000000 | g.state[(i+1)%mtSize]&0x7fffffff
		x := g.state[(i+shift)%mtSize] ^ y>>1
		if y&1 != 0 {
			x ^= 0x9908b0df
		}
		g.state[i] = x
	}
	g.next = 0
}

func (g *mt19937) uint32() uint32 {
	if g.next >= mtSize {
		g.refill()
	}
	y := g.state[g.next]
	g.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// torchState has the layout of struct genfn_torch_normal.
type torchState struct {
	engine   mt19937
	hasSaved uint32
	saved    float64 // the second value of the scalar path's last pair
}

type torchNormal struct {
	torchState
	library *library
}

var _ NormalSource = (*torchNormal)(nil)

// Fill implements NormalSource.
func (g *torchNormal) Fill(dst []float32) {
	switch {
	case len(dst) == 0:
	case g.library != nil:
		g.library.torchNormal(&g.torchState, dst)
	default:
		g.fill(dst)
	}
}

// torchBlock is the number of values that one Box-Muller block turns from uniform into normal ones: value j and
// value j+8 make a pair. Shorter requests take the scalar path.
const torchBlock = 16

func (g *torchState) fill(dst []float32) {
	if len(dst) < torchBlock {
		for i := range dst {
			dst[i] = g.scalar()
		}
		return
	}
	g.uniform(dst)
	for i := 0; i+torchBlock <= len(dst); i += torchBlock {
		boxMuller16(dst[i:])
	}
	if len(dst)%torchBlock != 0 { // the last block is drawn again over what the blocks before it left there
		tail := dst[len(dst)-torchBlock:]
		g.uniform(tail)
		boxMuller16(tail)
	}
}

// uniform fills dst with multiples of 2^-24 in [0, 1).
func (g *torchState) uniform(dst []float32) {
	for i := range dst {
		dst[i] = float32(g.engine.uint32()&(1<<24-1)) * (1.0 / (1 << 24))
	}
}

// scalar is at::normal_distribution<double>: Box-Muller in double precision, the sine kept for the next call.
func (g *torchState) scalar() float32 {
	if g.hasSaved != 0 {
		g.hasSaved = 0
		return float32(g.saved)
	}
	u1 := g.uniform53()
	u2 := g.uniform53()
	radius := math.Sqrt(-2 * log64(1-u2)) // 1-u2 is exact
	sin, cos := sincos64(2 * math.Pi * u1)
	g.saved = radius*sin + 0 // + 0: no negative zero
	g.hasSaved = 1
	return float32(radius*cos + 0)
}

// uniform53 gives multiples of 2^-53 in [0, 1); the first word drawn is the high one.
func (g *torchState) uniform53() float64 {
	high := uint64(g.engine.uint32())
	low := uint64(g.engine.uint32())
	return float64((high<<32|low)&(1<<53-1)) * (1.0 / (1 << 53))
}

func boxMuller16(v []float32) {
	for j := range torchBlock / 2 {
		u1, u2 := 1-v[j], v[j+8] // u1 in (0, 1]
		radius := float32(math.Sqrt(float64(-2 * log32(u1))))
		sin, cos := sincos32(float32(2*math.Pi) * u2)
		v[j] = float32(radius*cos) + 0 // + 0: no negative zero
		v[j+8] = float32(radius*sin) + 0
	}
}

// stdState has the layout of struct genfn_std_normal.
type stdState struct {
	engine   mt19937
	hasSaved uint32
	saved    float32
}

type stdNormal struct {
	stdState
	library *library
}

var _ NormalSource = (*stdNormal)(nil)

// Fill implements NormalSource.
func (g *stdNormal) Fill(dst []float32) {
	switch {
	case len(dst) == 0:
	case g.library != nil:
		g.library.stdNormal(&g.stdState, dst)
	default:
		for i := range dst {
			dst[i] = g.value()
		}
	}
}

func (g *stdState) value() float32 {
	if g.hasSaved != 0 {
		g.hasSaved = 0
		return g.saved
	}
	for {
		x := 2*g.canonical() - 1
		y := 2*g.canonical() - 1
		r2 := float32(x*x) + float32(y*y)
		if r2 > 1 || r2 == 0 {
			continue
		}
		mul := float32(math.Sqrt(float64(-2 * glibcLogf(r2) / r2)))
		g.saved = x * mul
		g.hasSaved = 1
		return y * mul
	}
}

// canonical is std::generate_canonical<float, 24> over a 32-bit engine.
func (g *stdState) canonical() float32 {
	u := float32(g.engine.uint32()) * (1.0 / (1 << 32))
	if u >= 1 {
		return math.Nextafter32(1, 0)
	}
	return u
}
