package kernels

import (
	"math"
	"math/bits"
	"unsafe"
)

// CUDADevice is what PyTorch's layout of noise depends on: the multiprocessors of the device, and the threads that one
// of them can hold (cudaDevAttrMultiProcessorCount and cudaDevAttrMaxThreadsPerMultiProcessor).
type CUDADevice struct {
	Multiprocessors, ThreadsPerMultiprocessor int
}

// torchThreads is how many threads PyTorch starts for n values: blocks of 256, as many as take a value each but no more
// than the device holds at once (calc_execution_policy of ATen/native/cuda/DistributionTemplates.h).
func (d CUDADevice) torchThreads(n int) int {
	const block = 256
	return block * min((n+block-1)/block, max(1, d.Multiprocessors*(d.ThreadsPerMultiprocessor/block)))
}

// TorchCUDANormal returns the noise of PyTorch's generator for CUDA devices: after
// torch.Generator("cuda").manual_seed(seed), Fill(dst) gives torch.randn(len(dst), generator=g, device="cuda") on such a
// device. Up to as many values as the device has threads, 270,336 on an H100, the values are the same on every device.
//
// The layout is that of PyTorch's distribution_elementwise_grid_stride_kernel: thread t of T draws blocks of four words
// of cuRAND's Philox 4x32-10 under the seed as key and t as subsequence, makes each four normal values (curand_normal4,
// Box-Muller), and puts those of its r-th block to r*4*T + t, and T, 2*T and 3*T further. The words are Random123's
// (Salmon et al. 2011), and both were compared with what NVIDIA's headers compute on a CPU: testdata/make_philox.cpp.
//
// The words are exact, and the values are the same on a CPU and on a device. They are not PyTorch's to the last bit:
// they differ from those of cuRAND on a CPU by 2e-6 at most, and a device's __sincosf, with an error of 2^-21 to which a
// radius of up to 6.8 comes, lets expect 1e-5. It was not compared with PyTorch on a device.
func (s *Set) TorchCUDANormal(seed uint64, d CUDADevice) NormalSource {
	return &philoxNormal{library: s.native, seed: seed, device: d}
}

type philoxNormal struct {
	library      *library
	device       CUDADevice
	seed, offset uint64
}

var _ NormalSource = (*philoxNormal)(nil)

// Fill implements NormalSource.
func (g *philoxNormal) Fill(dst []float32) {
	if len(dst) == 0 {
		return
	}
	args := newPhiloxArgs(data(dst), len(dst), g.seed, g.offset, g.device)
	if g.library != nil {
		with(&g.library.philoxes, g.library.table.PhiloxNormal, args)
	} else {
		philoxFill(dst, &args)
	}
	g.offset += philoxWords * uint64(args.n/args.threads)
}

// philoxWords is how many words a block has; offsets count words.
const philoxWords = 4

func newPhiloxArgs[P any](dst P, n int, seed, offset uint64, d CUDADevice) philoxArgs[P] {
	threads := d.torchThreads(n)
	rounds := (n-1)/(threads*philoxWords) + 1
	return philoxArgs[P]{dst: dst, seed: seed, offset: offset, threads: int64(threads), values: int64(n), n: int64(threads * rounds)}
}

func philoxFill(dst []float32, a *philoxArgs[unsafe.Pointer]) {
	for i := range int(a.n) {
		round, thread := i/int(a.threads), i%int(a.threads)
		w := philox(a.seed, a.offset/philoxWords+uint64(round), uint64(thread))
		var v [philoxWords]float32
		v[0], v[1] = normalPair(w[0], w[1])
		v[2], v[3] = normalPair(w[2], w[3])
		for k, x := range v {
			if at := (philoxWords*round+k)*int(a.threads) + thread; at < len(dst) {
				dst[at] = x
			}
		}
	}
}

// philox returns a block of Philox 4x32-10: the seed is the key, the counter's low half counts and its high half is the
// subsequence.
func philox(seed, count, sequence uint64) [philoxWords]uint32 {
	v := [...]uint32{uint32(count), uint32(count >> 32), uint32(sequence), uint32(sequence >> 32)}
	key := [...]uint32{uint32(seed), uint32(seed >> 32)}
	for range 10 {
		high0, low0 := bits.Mul32(v[0], 0xd2511f53)
		high1, low1 := bits.Mul32(v[2], 0xcd9e8d57)
		v = [...]uint32{high1 ^ v[1] ^ key[0], low1, high0 ^ v[3] ^ key[1], low0}
		key[0] += 0x9e3779b9
		key[1] += 0xbb67ae85
	}
	return v
}

// normalPair is cuRAND's Box-Muller: words to (0, 1] and (0, 2*pi), the radius of the first, sine and cosine of the second.
func normalPair(x, y uint32) (first, second float32) {
	const step = 1.46291807926715968e-09 // 2*pi*2^-32
	u := float32(float32(x)*0x1p-32) + 0x1p-33
	angle := fma32(float32(y), step, float32(step)/2)
	radius := float32(math.Sqrt(float64(-2 * log32(u))))
	sin, cos := sincos32(angle)
	return radius * sin, radius * cos
}
