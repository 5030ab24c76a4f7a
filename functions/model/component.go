package model

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// component finds and checks the network of a folder: the IR named ir if it is there, otherwise onnx ("": no
// ONNX form).
func (m *Model) component(folder, ir, onnx string) (Component, map[string]string, error) {
	c := Component{Name: folder, Path: filepath.Join(m.Dir, folder, ir)}
	_, err := os.Stat(c.Path)
	if errors.Is(err, fs.ErrNotExist) && onnx != "" {
		path := filepath.Join(m.Dir, folder, onnx)
		if st, err := os.Stat(path); err == nil {
			c.Path, c.Bytes, c.WeightBytes = path, st.Size(), st.Size()
			if !st.Mode().IsRegular() || st.Size() == 0 {
				return c, nil, invalid(folder+"/"+onnx, "", "the file is empty or not a regular file", "an ONNX model")
			}
			return c, nil, nil
		}
		return c, nil, invalid(folder+"/"+ir, "", "the file is missing, and so is "+folder+"/"+onnx, "the network as OpenVINO IR or as ONNX")
	}
	if err != nil {
		return c, nil, unreadable(folder+"/"+ir, err)
	}
	info, err := c.readIR(folder + "/" + ir)
	return c, info, err
}

// readIR reads the network's structure and compares the weights file with what its constants need.
func (c *Component) readIR(file string) (map[string]string, error) {
	data, err := os.ReadFile(c.Path)
	if err != nil {
		return nil, unreadable(file, err)
	}
	n, err := readNetwork(data)
	if err != nil {
		return nil, invalid(file, "", "it is not an OpenVINO model: "+err.Error(), "an OpenVINO IR file of version 10 or 11")
	}
	c.Inputs, c.WeightBytes = n.inputs, n.wideBytes
	c.Weights = strings.TrimSuffix(c.Path, ".xml") + ".bin"
	binary := strings.TrimSuffix(file, ".xml") + ".bin"
	weights, err := os.Stat(c.Weights)
	switch {
	case errors.Is(err, fs.ErrNotExist) && n.weightBytes == 0:
		c.Weights = ""
		return n.info, nil
	case err != nil:
		e := unreadable(binary, err)
		e.Advice = "Copy the folder again: the weights are missing beside the .xml."
		return nil, e
	case weights.Size() < n.weightBytes:
		e := invalid(binary, "", fmt.Sprintf("the file is truncated: it has %d bytes", weights.Size()), fmt.Sprintf("at least %d bytes, as the .xml says", n.weightBytes))
		e.Advice = "Copy or download the file again."
		return nil, e
	}
	c.Bytes = int64(len(data)) + weights.Size()
	return n.info, nil
}

// InONNX returns the ONNX form of a network that computes in a precision: for "f16" the model_fp16.onnx in its folder, else
// itself or the model.onnx beside the IR. A folder without one is model_invalid.
func (c Component) InONNX(precision string) (Component, error) {
	file := onnxFile
	if precision == "f16" {
		file = onnxFileF16
	} else if c.ONNX() {
		return c, nil
	}
	path := filepath.Join(filepath.Dir(c.Path), file)
	st, err := os.Stat(path)
	if err != nil || !st.Mode().IsRegular() || st.Size() == 0 {
		e := invalid(c.Name+"/"+file, "", "the file is missing or empty", "the network as ONNX, which ONNX Runtime needs")
		e.Advice, e.Cause = "Export the model as ONNX too, or serve it on OpenVINO, which runs both.", err
		if precision == "f16" {
			e.Expected, e.Advice = "the network as ONNX in float16, as --precision f16 asks for", "Export the model in float16 too, or serve it with --precision f32."
		}
		return c, e
	}
	return Component{Name: c.Name, Path: path, Bytes: st.Size(), WeightBytes: st.Size()}, nil
}

// Names of a network in ONNX in its folder. The second is what transformers.js and the models of onnx-community call it.
const (
	onnxFile    = "model.onnx"
	onnxFileF16 = "model_fp16.onnx"
)
