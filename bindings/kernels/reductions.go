package kernels

import (
	"fmt"
	"math"
	"unsafe"
)

// Checksum is a sum, modulo 2^64, over the bits w and the index of each value: (w ^ a)*b, where a and odd b are a hash
// of the index. A single wrong value always changes it, and so do values that changed places or number, but for
// coincidence. It is the same on every device. -0 is another value than 0, and so are NaNs with other payloads.
func (s *Set) Checksum(src []float32) uint64 {
	if s.native != nil && len(src) > 0 {
		return nativeCount(s.native, s.native.table.Checksum, src)
	}
	sum := uint64(0)
	for i, x := range src {
		sum += mixed(math.Float32bits(x), uint32(i))
	}
	return sum
}

// ChecksumF16 is Checksum for values in float16. It is not that of the same numbers in float32.
func (s *Set) ChecksumF16(src []Float16) uint64 {
	if s.native != nil && len(src) > 0 {
		return nativeCount(s.native, s.native.table.ChecksumF16, src)
	}
	sum := uint64(0)
	for i, x := range src {
		sum += mixed(uint32(x), uint32(i))
	}
	return sum
}

// mixed takes the multipliers of xxHash32 (Collet).
func mixed(w, index uint32) uint64 {
	h := index * 0x9e3779b1
	h = (h ^ h>>15) * 0x85ebca77
	h ^= h >> 13
	return uint64(w^h*0xc2b2ae3d) * uint64(h|1)
}

// Difference is how far two arrays are apart: of |a-b|, rounded to float32, the least, the most and the mean. Those
// that are not finite count in NotFinite alone. If there are no others, all are 0.
type Difference struct {
	Least, Most float32
	Mean        float64 // of differences rounded down to steps of 2^-31, and taken for 2147483520 from there on
	NotFinite   int
}

// Difference compares arrays of the same length. It is the same on every device: sums are of whole numbers.
func (s *Set) Difference(a, b []float32) (Difference, error) {
	if err := checkDifference(len(a), len(b)); err != nil || len(a) == 0 {
		return Difference{}, err
	}
	if s.native != nil {
		return nativeDifference(s.native, s.native.table.Difference, a, b), nil
	}
	d := differ(a, b)
	return d.of(len(a)), nil
}

// DifferenceF16 is Difference for values in float16, whose differences are in float32.
func (s *Set) DifferenceF16(a, b []Float16) (Difference, error) {
	if err := checkDifference(len(a), len(b)); err != nil || len(a) == 0 {
		return Difference{}, err
	}
	if s.native != nil {
		return nativeDifference(s.native, s.native.table.DifferenceF16, a, b), nil
	}
	d := differ(widened(a), widened(b))
	return d.of(len(a)), nil
}

func checkDifference(a, b int) error {
	if a != b {
		return fmt.Errorf("kernels: Difference: %d values and %d, expected as many", a, b)
	}
	return nil
}

// of returns what the sums of n differences tell.
func (d *difference) of(n int) Difference {
	out := Difference{NotFinite: int(d.notFinite)}
	if finite := n - out.NotFinite; finite > 0 {
		out.Least, out.Most = math.Float32frombits(^d.leastInverted), math.Float32frombits(d.most)
		out.Mean = (float64(d.whole) + float64(d.fraction)*(1.0/(1<<31))) / float64(finite)
	}
	return out
}

func nativeDifference[T value](l *library, function uintptr, a, b []T) Difference {
	result, ok := l.results.Get().(*difference)
	if !ok {
		result = new(difference)
	}
	defer l.results.Put(result)
	*result = difference{}
	with(&l.differences, function, differenceArgs[unsafe.Pointer]{a: data(a), b: data(b), result: unsafe.Pointer(result), n: int64(len(a))})
	return result.of(len(a))
}

func differ(a, b []float32) (d difference) {
	const most = 2147483520 // the float32 before 2^31
	for i := range a {
		bits := math.Float32bits(a[i]-b[i]) & 0x7fffffff
		if bits >= 0x7f800000 {
			d.notFinite++
			continue
		}
		d.most, d.leastInverted = max(d.most, bits), max(d.leastInverted, ^bits)
		x := min(math.Float32frombits(bits), most)
		whole := uint64(x)
		d.whole += whole
		d.fraction += uint64((x - float32(whole)) * (1 << 31))
	}
	return d
}
