// Package onnxtest writes small ONNX networks for tests, in the protocol buffers of onnx.proto (ONNX 1.16, opset 17).
package onnxtest

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/bindings/tensor"
)

// message is a protocol buffer message in the making.
type message []byte

func (m message) number(field int, n uint64) message {
	return binary.AppendUvarint(binary.AppendUvarint(m, uint64(field)<<3), n)
}

func (m message) bytes(field int, b []byte) message {
	m = binary.AppendUvarint(m, uint64(field)<<3|2)
	return append(binary.AppendUvarint(m, uint64(len(b))), b...)
}

func (m message) text(field int, s string) message { return m.bytes(field, []byte(s)) }

// elements are TensorProto.DataType.
var elements = map[tensor.DType]uint64{tensor.F32: 1, tensor.U8: 2, tensor.I32: 6, tensor.I64: 7, tensor.Bool: 9, tensor.F16: 10}

// Value describes an input or output. Dims are of type int, or string for a named open one. Without Dims it is a scalar.
type Value struct {
	Name  string
	DType tensor.DType
	Dims  []any
}

func (v Value) encode() message {
	var shape message
	for _, d := range v.Dims {
		var dim message
		switch d := d.(type) {
		case int:
			dim = dim.number(1, uint64(d)) //nolint:gosec // tests give small numbers
		case string:
			dim = dim.text(2, d)
		}
		shape = shape.bytes(1, dim)
	}
	kind := message(nil).bytes(1, message(nil).number(1, elements[v.DType]).bytes(2, shape))
	return message(nil).text(1, v.Name).bytes(2, kind)
}

// Node is an operation. Body, if not nil, is its attribute "body": the graph of a loop.
type Node struct {
	Op              string
	Inputs, Outputs []string
	Body            *Graph
}

func (n Node) encode() message {
	var m message
	for _, name := range n.Inputs {
		m = m.text(1, name)
	}
	for _, name := range n.Outputs {
		m = m.text(2, name)
	}
	m = m.text(4, n.Op)
	if n.Body != nil {
		const graph = 5 // AttributeProto.AttributeType
		m = m.bytes(5, message(nil).text(1, "body").bytes(6, n.Body.encode()).number(20, graph))
	}
	return m
}

// Constant is an initializer of float32 values.
type Constant struct {
	Name   string
	Dims   []int
	Values []float32
}

func (c Constant) encode() message {
	var m message
	for _, d := range c.Dims {
		m = m.number(1, uint64(d)) //nolint:gosec // tests give small numbers
	}
	var raw []byte
	for _, v := range c.Values {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	return m.number(2, elements[tensor.F32]).text(8, c.Name).bytes(9, raw)
}

// Graph is a network, its nodes in the order in which they run.
type Graph struct {
	Inputs, Outputs []Value
	Constants       []Constant
	Nodes           []Node
}

func (g *Graph) encode() message {
	var m message
	for _, n := range g.Nodes {
		m = m.bytes(1, n.encode())
	}
	m = m.text(2, "test")
	for _, c := range g.Constants {
		m = m.bytes(5, c.encode())
	}
	for _, v := range g.Inputs {
		m = m.bytes(11, v.encode())
	}
	for _, v := range g.Outputs {
		m = m.bytes(12, v.encode())
	}
	return m
}

// Write writes a network to a file of the test and returns its path.
func Write(t testing.TB, name string, g *Graph) string {
	t.Helper()
	const irVersion, opset = 8, 17
	m := message(nil).number(1, irVersion).bytes(8, message(nil).text(1, "").number(2, opset)).bytes(7, g.encode())
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, m, 0o600))
	return path
}

// Affine is y = x * w + b for rows of four, [n,4] to [n,3], with w from 1 to 12 and b 0.5, -1 and 100.
func Affine() *Graph {
	return &Graph{
		Inputs: []Value{{"x", tensor.F32, []any{"rows", 4}}}, Outputs: []Value{{"y", tensor.F32, []any{"rows", 3}}},
		Constants: []Constant{{"w", []int{4, 3}, []float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}, {"b", []int{3}, []float32{0.5, -1, 100}}},
		Nodes:     []Node{{"MatMul", []string{"x", "w"}, []string{"xw"}, nil}, {"Add", []string{"xw", "b"}, []string{"y"}, nil}},
	}
}

// Count adds one to x as often as the scalar n says: an inference takes as long as a test wants.
func Count() *Graph {
	body := &Graph{
		Inputs:    []Value{{"i", tensor.I64, nil}, {"going", tensor.Bool, nil}, {"v", tensor.F32, []any{1}}},
		Outputs:   []Value{{"on", tensor.Bool, nil}, {"next", tensor.F32, []any{1}}},
		Constants: []Constant{{"one", []int{1}, []float32{1}}},
		Nodes:     []Node{{"Identity", []string{"going"}, []string{"on"}, nil}, {"Add", []string{"v", "one"}, []string{"next"}, nil}},
	}
	return &Graph{
		Inputs: []Value{{"n", tensor.I64, nil}, {"x", tensor.F32, []any{1}}}, Outputs: []Value{{"y", tensor.F32, []any{1}}},
		Nodes: []Node{{"Loop", []string{"n", "", "x"}, []string{"y"}, body}},
	}
}
