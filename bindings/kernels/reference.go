package kernels

import "math"

// The Go language may fuse x*y + z on some machines; an explicit conversion of the product forbids it.

// step is the reference of StepArgs; a has been checked.
func step(a *StepArgs) {
	for i, sample := range a.Sample {
		var e, m, prev float32
		if a.Cond != nil {
			e = a.Cond[i]
			if a.Uncond != nil {
				u := a.Uncond[i]
				e = u + float32(a.Guidance*(e-u))
			}
		}
		if a.ConvSample != 0 {
			m = float32(a.ConvSample * sample)
		}
		if a.ConvOutput != 0 && a.Cond != nil {
			m += float32(a.ConvOutput * e)
		}
		if a.Clip > 0 {
			m = clamp(m, -a.Clip, a.Clip)
		}
		if a.SampleCoef != 0 {
			prev = float32(a.SampleCoef * sample)
		}
		if a.OutputCoef != 0 && a.Cond != nil {
			prev += float32(a.OutputCoef * e)
		}
		if a.ConvertedCoef != 0 {
			prev += float32(a.ConvertedCoef * m)
		}
		for k, h := range a.History {
			if c := a.HistoryCoef[k]; c != 0 {
				prev += float32(c * h[i])
			}
		}
		if a.NoiseCoef != 0 && a.Noise != nil {
			prev += float32(a.NoiseCoef * a.Noise[i])
		}
		if a.Converted != nil {
			a.Converted[i] = m
		}
		if a.Prev != nil {
			a.Prev[i] = prev
		}
	}
}

// clamp lets NaN through.
func clamp(x, low, high float32) float32 {
	if x < low {
		return low
	}
	if x > high {
		return high
	}
	return x
}

func scale(dst, src []float32, mul, add float32) {
	for i, x := range src {
		dst[i] = float32(x*mul) + add
	}
}

func imageToU8(dst []uint8, src []float32, channels, pixels int) {
	for c := range channels {
		for i, x := range src[c*pixels : (c+1)*pixels] {
			x = clamp(float32(x*0.5)+0.5, 0, 1) * 255
			if x == x { // not NaN
				dst[i*channels+c] = uint8(math.RoundToEven(float64(x)))
			} else {
				dst[i*channels+c] = 0
			}
		}
	}
}

func countNonFinite(src []float32) int {
	const exponent = 0x7f800000
	n := 0
	for _, x := range src {
		if math.Float32bits(x)&exponent == exponent {
			n++
		}
	}
	return n
}

func blend(a *BlendArgs) {
	extent := a.Columns
	if a.Down {
		extent = a.Rows
	}
	for plane := range a.Planes {
		for y := range a.Rows {
			dst, src := a.Dst[plane*a.DstPlane+y*a.DstRow:], a.Src[plane*a.SrcPlane+y*a.SrcRow:]
			for x := range a.Columns {
				k := x
				if a.Down {
					k = y
				}
				keep := float64(k) / float64(extent)
				dst[x] = float32(src[x]*float32(1-keep)) + float32(dst[x]*float32(keep))
			}
		}
	}
}
