package model

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/events"
)

// requireReadable fails for an error that is not an *events.Error of code model_invalid.
func requireReadable(t *testing.T, err error) {
	t.Helper()
	var e *events.Error
	if err != nil && (!errors.As(err, &e) || e.Code != events.CodeModelInvalid) {
		t.Fatalf("unexpected kind of error: %v", err)
	}
}

func FuzzConfigs(f *testing.F) {
	for _, file := range []string{
		"model_index.json", "text_encoder/config.json", "unet/config.json", "vae_decoder/config.json",
		"tokenizer/tokenizer_config.json", "scheduler/scheduler_config.json",
	} {
		data, err := os.ReadFile(filepath.Join("../pipeline/testdata/tiny-sd", file))
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add([]byte(`{"num_inference_steps": 25, "guidance_scale": 4, "width": 1e400}`))
	f.Add([]byte(`{"pad_token": {"content": "x"}, "added_tokens": [{"id": 3, "content": "x"}], "sample_size": [1, 2]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseConfig("fuzzed.json", data)
		requireReadable(t, err)
		if err != nil {
			return
		}
		m := &Model{}
		_, err = indexClass(c)
		requireReadable(t, err)
		requireReadable(t, m.applyTextEncoder(c))
		_, err = m.applyTokenizer(c)
		requireReadable(t, err)
		requireReadable(t, m.applyUNet(c))
		if err := m.applyVAE(c); err != nil {
			requireReadable(t, err)
			return
		}
		requireReadable(t, m.applyDefaults(c))
		vocabularyID(data, "x")
		if m.VAEScale < 1 || m.ScalingFactor == 0 {
			t.Fatalf("accepted a VAE of scale %d and factor %v", m.VAEScale, m.ScalingFactor)
		}
	})
}

func FuzzNetwork(f *testing.F) {
	data, err := os.ReadFile("../pipeline/testdata/tiny-sd/tokenizer/openvino_tokenizer.xml")
	require.NoError(f, err)
	f.Add(data)
	f.Add([]byte(`<net version="11"><layers><layer name="a" type="Parameter"><data shape="?,1..3,..." element_type="f32"/></layer></layers></net>`))
	f.Add([]byte(`<net version="11"><layers><layer name="a" type="Const"><data offset="9223372036854775807" size="1"/></layer></layers></net>`))
	f.Add([]byte(`<net version="11"><layers/><rt_info><pad_token_id value="3"/></rt_info></net>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := readNetwork(data)
		if err != nil {
			var notIR errNotIR
			if !errors.As(err, &notIR) {
				t.Fatalf("unexpected kind of error: %v", err)
			}
			return
		}
		if n.weightBytes < 0 {
			t.Fatalf("negative size %d", n.weightBytes)
		}
		for _, in := range n.inputs {
			for _, d := range in.Shape {
				if d < -1 {
					t.Fatalf("shape %v", in.Shape)
				}
			}
		}
	})
}
