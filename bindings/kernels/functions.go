package kernels

import "math"

// Logarithm, sine and cosine with a fixed sequence of operations, so that C and Go agree on every machine.
// native/kernels/functions.h holds the same functions; they change together.

// fma32 returns a*b + c. The product is exact and the sum is rounded twice, to float64 and to float32, which for every
// one of the 2^24 arguments that the generators can have ends as if it was rounded once, as a fused multiply-add does
// (`make -C native/kernels check` compares them all).
func fma32(a, b, c float32) float32 {
	return float32(float64(a)*float64(b) + float64(c))
}

// log32 is the natural logarithm as PyTorch's AVX2 code computes it: the polynomial of Moshier's Cephes logf,
// multiply-adds fused. x is a normal number greater than 0.
func log32(x float32) float32 {
	bits := math.Float32bits(x)
	e := float32(int32(bits>>23) - 126)
	x = math.Float32frombits(bits&0x007fffff | 0x3f000000) // [0.5, 1)
	if x < 0.707106781186547524 {
		e--
		x = (x - 1) + x
	} else {
		x--
	}
	z := float32(x * x)
	y := float32(7.0376836292e-2)
	for _, c := range [...]float32{-1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1} {
		y = fma32(y, x, c)
	}
	y = float32(y * x)
	y = fma32(y, z, float32(e*-2.12194440e-4))
	y -= float32(z * 0.5)
	return (x + y) + float32(e*0.693359375) // the product is exact
}

// sincos32 is sine and cosine as PyTorch's AVX2 code computes them: the reduction and the polynomials of Cephes
// sinf and cosf, multiply-adds fused. 0 <= x < 8192.
func sincos32(x float32) (sin, cos float32) {
	octant := (int32(float32(x*1.27323954473516)) + 1) &^ 1 // 4/pi
	y := float32(octant)
	x = fma32(y, -0.78515625, x)
	x = fma32(y, -2.4187564849853515625e-4, x)
	x = fma32(y, -3.77489497744594108e-8, x)
	z := float32(x * x)

	c := fma32(2.443315711809948e-5, z, -1.388731625493765e-3)
	c = fma32(c, z, 4.166664568298827e-2)
	c = float32(c * z)
	c = fma32(c, z, -float32(z*0.5)) + 1

	s := fma32(-1.9515295891e-4, z, 8.3321608736e-3)
	s = fma32(s, z, -1.6666654611e-1)
	s = float32(s * z)
	s = fma32(s, x, x)

	if octant&2 != 0 {
		s, c = c, s
	}
	if octant&4 != 0 {
		s = -s
	}
	if (octant+2)&4 != 0 {
		c = -c
	}
	return s, c
}

// log64 is the natural logarithm by the series of atanh, coefficients of fdlibm's e_log.c. 0 < x <= 1, normal.
func log64(x float64) float64 {
	bits := math.Float64bits(x)
	bits += 0x3ff00000_00000000 - 0x3fe6a09e_00000000 // carries into the exponent from sqrt(1/2) on
	k := float64(int64(bits>>52) - 1023)
	f := math.Float64frombits(bits&0x000fffff_ffffffff+0x3fe6a09e_00000000) - 1 // [sqrt(1/2), sqrt(2)) - 1
	s := f / (2 + f)
	z := float64(s * s)
	r := 1.479819860511658591e-01
	for _, c := range [...]float64{1.531383769920937332e-01, 1.818357216161805012e-01, 2.222219843214978396e-01, 2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01} {
		r = float64(r*z) + c
	}
	r = float64(r * z)
	h := float64(float64(0.5*f) * f)
	const high, low = 6.93147180369123816490e-01, 1.90821492927058770002e-10 // ln 2
	return float64(k*high) - ((h - (float64(s*(h+r)) + float64(k*low))) - f)
}

// sincos64 is sine and cosine, coefficients of fdlibm's k_sin.c and k_cos.c. 0 <= x <= 2*pi.
func sincos64(x float64) (sin, cos float64) {
	quarter := int32(float64(x*(2/math.Pi)) + 0.5)
	k := float64(quarter)
	x = (x - float64(k*1.57079632673412561417e+00)) - float64(k*6.07710050650619224932e-11) // pi/2 in two parts
	z := float64(x * x)

	s := 1.58969099521155010221e-10
	for _, c := range [...]float64{-2.50507602534068634195e-08, 2.75573137070700676789e-06, -1.98412698298579493134e-04, 8.33333333332248946124e-03, -1.66666666666666324348e-01} {
		s = float64(s*z) + c
	}
	s = x + float64(x*float64(z*s))

	c := -1.13596475577881948265e-11
	for _, d := range [...]float64{2.08757232129817482790e-09, -2.75573143513906633035e-07, 2.48015872894767294178e-05, -1.38888888888741095749e-03, 4.16666666666666019037e-02} {
		c = float64(c*z) + d
	}
	c = 1 - (float64(0.5*z) - float64(float64(z*z)*c))

	switch quarter & 3 {
	case 1:
		return c, -s
	case 2:
		return -s, -c
	case 3:
		return -c, s
	}
	return s, c
}

// glibcLogf is logf as glibc computes it: a table of 16 reciprocals and a cubic in double precision (Arm's
// optimized-routines, logf.c; the numbers are those of its logf_data.c). x is a normal number greater than 0.
func glibcLogf(x float32) float32 {
	const offset = 0x3f330000
	bits := math.Float32bits(x)
	if bits == 0x3f800000 {
		return 0
	}
	t := bits - offset
	entry := &logTable[t>>19&15]
	k := float64(int32(t) >> 23)
	z := float64(math.Float32frombits(bits - t&0xff800000))
	r := float64(z*entry.inverse) - 1
	y0 := entry.log + float64(k*0x1.62e42fefa39efp-1)
	r2 := float64(r * r)
	y := float64(0x1.5575b0be00b6ap-2*r) + -0x1.ffffef20a4123p-2
	y = float64(-0x1.00ea348b88334p-2*r2) + y
	return float32(float64(y*r2) + (y0 + r))
}

var logTable = [16]struct{ inverse, log float64 }{
	{0x1.661ec79f8f3bep+0, -0x1.57bf7808caadep-2},
	{0x1.571ed4aaf883dp+0, -0x1.2bef0a7c06ddbp-2},
	{0x1.49539f0f010bp+0, -0x1.01eae7f513a67p-2},
	{0x1.3c995b0b80385p+0, -0x1.b31d8a68224e9p-3},
	{0x1.30d190c8864a5p+0, -0x1.6574f0ac07758p-3},
	{0x1.25e227b0b8eap+0, -0x1.1aa2bc79c81p-3},
	{0x1.1bb4a4a1a343fp+0, -0x1.a4e76ce8c0e5ep-4},
	{0x1.12358f08ae5bap+0, -0x1.1973c5a611cccp-4},
	{0x1.0953f419900a7p+0, -0x1.252f438e10c1ep-5},
	{0x1p+0, 0x0p+0},
	{0x1.e608cfd9a47acp-1, 0x1.aa5aa5df25984p-5},
	{0x1.ca4b31f026aap-1, 0x1.c5e53aa362eb4p-4},
	{0x1.b2036576afce6p-1, 0x1.526e57720db08p-3},
	{0x1.9c2d163a1aa2dp-1, 0x1.bc2860d22477p-3},
	{0x1.886e6037841edp-1, 0x1.1058bc8a07ee1p-2},
	{0x1.767dcf5534862p-1, 0x1.4043057b6ee09p-2},
}
