package model

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNetworkOfRealFilesIsWhatAnXMLDecoderReads(t *testing.T) {
	files, err := filepath.Glob("../pipeline/testdata/*/*/*.xml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		n, err := readNetwork(data)
		require.NoError(t, err, file)
		inputs, weightBytes, info := decoded(t, data)
		require.Equal(t, weightBytes, n.weightBytes, file)
		require.Equal(t, info, n.info, file)
		names := make([]string, len(n.inputs))
		for i, in := range n.inputs {
			names[i] = in.DType
			require.NotEmpty(t, in.Name, file)
		}
		require.Equal(t, inputs, names, file)
	}
}

// decoded reads the element types of the inputs, the bytes of weights and the network's rt_info with encoding/xml.
func decoded(t *testing.T, data []byte) (inputs []string, weightBytes int64, info map[string]string) {
	t.Helper()
	inputs, info = []string{}, map[string]string{}
	d := xml.NewDecoder(bytes.NewReader(data))
	kind, depth, inInfo := "", 0, false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return inputs, weightBytes, info
		}
		require.NoError(t, err)
		switch e := token.(type) {
		case xml.StartElement:
			depth++
			value := func(name string) string {
				for _, a := range e.Attr {
					if a.Name.Local == name {
						return a.Value
					}
				}
				return ""
			}
			switch {
			case e.Name.Local == "layer":
				kind = value("type")
			case e.Name.Local == "data" && kind == "Const":
				offset, err := strconv.ParseInt(value("offset"), 10, 64)
				require.NoError(t, err)
				size, err := strconv.ParseInt(value("size"), 10, 64)
				require.NoError(t, err)
				weightBytes = max(weightBytes, offset+size)
			case e.Name.Local == "data" && kind == "Parameter" && depth == 4:
				inputs = append(inputs, value("element_type"))
			case depth == 3 && inInfo:
				info[e.Name.Local] = value("value")
			}
			inInfo = inInfo || depth == 2 && e.Name.Local == "rt_info"
		case xml.EndElement:
			inInfo = inInfo && (depth != 2 || e.Name.Local != "rt_info")
			depth--
		}
	}
}

func TestNetworkOfUnusualXML(t *testing.T) {
	n, err := readNetwork([]byte(`<?xml version="1.0"?><!DOCTYPE net>
<!-- <net version="7"> --><net name='a "b" > c' version = "11"><layers>
<layer id="0" name="x&gt;y &#65;" type="Parameter"><data shape="?,4" element_type="f32"></data><output><port id="0" names="in&amp;put,other"/></output></layer>
<layer id="1" name="c" type="Const"><data offset="8" size="16" element_type="f32" /></layer>
</layers><rt_info><pad_token_id value='7'/></rt_info></net >`))
	require.NoError(t, err)
	require.Equal(t, []Input{{Name: "in&put", DType: "f32", Shape: []int64{-1, 4}, Ranked: true}}, n.inputs)
	require.EqualValues(t, 24, n.weightBytes)
	require.Equal(t, map[string]string{"pad_token_id": "7"}, n.info)
}

func TestNetworkOfBrokenXML(t *testing.T) {
	const layer = `<net version="11"><layers><layer name="a" type="Parameter"><data shape="1" element_type="f32"/></layer></layers>`
	_, err := readNetwork([]byte(layer + "</net>"))
	require.NoError(t, err)
	for name, text := range map[string]string{
		"ends inside an element":   layer,
		"ends inside a tag":        layer + "</ne",
		"ends inside a quote":      layer + `<meta_data a="></net>`,
		"ends inside a comment":    layer + "</net><!-- ",
		"closes another element":   layer + "</layers></net>",
		"has a second root":        layer + "</net><net version=\"11\"></net>",
		"has no name for a tag":    layer + "< a='1'/></net>",
		"opens a tag within a tag": layer + "<a<b/></net>",
		"nests deeply":             layer + strings.Repeat("<a>", 1000),
		"has a negative size":      strings.Replace(layer, `type="Parameter"><data`, `type="Const"><data offset="0" size="-4"`, 1) + "</net>",
	} {
		_, err := readNetwork([]byte(text))
		var notIR errNotIR
		require.ErrorAs(t, err, &notIR, name)
	}
}

func BenchmarkReadNetwork(b *testing.B) {
	data, err := os.ReadFile("../pipeline/testdata/tiny-sd/unet/openvino_model.xml")
	require.NoError(b, err)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := readNetwork(data); err != nil {
			b.Fatal(err)
		}
	}
}
