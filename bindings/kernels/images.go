package kernels

// U8ToImage turns height x width x channels bytes into one image of channels x height x width float32 values in [-1, 1]:
// 2*(x/255) - 1 in float32, as diffusers' VaeImageProcessor makes the input of image to image. dst must not share
// memory with src.
func (s *Set) U8ToImage(dst []float32, src []uint8, channels, height, width int) error {
	n, err := checkImage(len(dst), len(src), channels, height, width)
	if err != nil || n == 0 {
		return err
	}
	if s.native != nil {
		nativeImage(s.native, s.native.table.U8ToImage, dst, src, channels, height*width)
		return nil
	}
	u8ToImage(dst, src, channels)
	return nil
}

// U8ToImageF16 is U8ToImage for values in float16; each result is rounded once more.
func (s *Set) U8ToImageF16(dst []Float16, src []uint8, channels, height, width int) error {
	n, err := checkImage(len(dst), len(src), channels, height, width)
	if err != nil || n == 0 {
		return err
	}
	if s.native != nil {
		nativeImage(s.native, s.native.table.U8ToImageF16, dst, src, channels, height*width)
		return nil
	}
	inFloat32(dst, nil, func(dst []float32, _ [][]float32) { u8ToImage(dst, src, channels) })
	return nil
}

func u8ToImage(dst []float32, src []uint8, channels int) {
	pixels := len(src) / channels
	for i, x := range src {
		dst[i%channels*pixels+i/channels] = 2*(float32(x)/255) - 1
	}
}
