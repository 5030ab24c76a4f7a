package model

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Input is an input of a network as its file declares it.
type Input struct {
	Name  string
	DType string  // OpenVINO's word: "f32", "i64", "string", ...
	Shape []int64 // -1: free; nil with Ranked false: free rank
	// Ranked says whether the number of dimensions is known.
	Ranked bool
}

// network is what is read from an OpenVINO IR file without loading it.
type network struct {
	inputs      []Input
	weightBytes int64             // the .bin must have at least so many bytes
	wideBytes   int64             // of all constants, with 16-bit floats as float32
	info        map[string]string // values of the file's own rt_info
}

// errNotIR says that an XML file is no OpenVINO model; its text says why.
type errNotIR struct{ reason string }

func (e errNotIR) Error() string { return e.reason }

// readNetwork reads the structure of an OpenVINO IR (versions 10 and 11) from r.
func readNetwork(r io.Reader) (*network, error) {
	p := irReader{dec: xml.NewDecoder(r), n: &network{info: map[string]string{}}, input: -1}
	p.dec.Strict = true
	for {
		token, err := p.dec.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, errNotIR{"it is no well-formed XML: " + err.Error()}
		}
		switch t := token.(type) {
		case xml.StartElement:
			err = p.start(t)
		case xml.EndElement:
			err = p.end(t)
		}
		if err != nil {
			return nil, err
		}
	}
	switch {
	case len(p.path) > 0:
		return nil, errNotIR{fmt.Sprintf("it ends inside <%s>: the file is truncated", p.path[len(p.path)-1])}
	case !p.layers:
		return nil, errNotIR{"it has no <net> with <layers>"}
	}
	return p.n, nil
}

type irReader struct {
	dec    *xml.Decoder
	n      *network
	path   []string // open elements
	layers bool
	kind   string // of the layer at hand
	name   string
	input  int // index in n.inputs of the Parameter at hand, -1: none
}

func (p *irReader) start(t xml.StartElement) error {
	depth := len(p.path)
	if depth == 0 && (t.Name.Local != "net" || p.layers) {
		return errNotIR{fmt.Sprintf("its root element is <%s>, expected one <net>", t.Name.Local)}
	}
	if depth == 0 {
		if v, err := strconv.Atoi(attribute(t, "version")); err != nil || v < 10 {
			return errNotIR{fmt.Sprintf("its <net> has version %q, expected 10 or 11", attribute(t, "version"))}
		}
	}
	if depth > 200 {
		return errNotIR{"its elements are nested more than 200 deep"}
	}
	p.path = append(p.path, t.Name.Local)
	switch t.Name.Local {
	case "layers":
		p.layers = p.layers || depth == 1
	case "layer":
		p.kind, p.name, p.input = attribute(t, "type"), attribute(t, "name"), -1
	case "data":
		return p.data(t, depth == 3)
	case "port":
		// Exporters name the tensor, and mostly the layer too; a tensor may have other names beside that.
		if names := attribute(t, "names"); names != "" && p.input >= 0 && depth == 4 {
			in := &p.n.inputs[p.input]
			if all := strings.Split(names, ","); !slices.Contains(all, in.Name) {
				in.Name = all[0]
			}
		}
	default:
		if depth == 2 && p.path[1] == "rt_info" {
			p.n.info[t.Name.Local] = attribute(t, "value")
		}
	}
	return nil
}

func (p *irReader) end(t xml.EndElement) error {
	last := len(p.path) - 1
	if last < 0 || p.path[last] != t.Name.Local {
		return errNotIR{fmt.Sprintf("</%s> closes nothing", t.Name.Local)}
	}
	p.path = p.path[:last]
	return nil
}

// data reads the <data> of a layer; outer is false inside the bodies of loops and branches, whose Parameters
// are not inputs of the network but whose constants lie in the same .bin.
func (p *irReader) data(t xml.StartElement, outer bool) error {
	switch p.kind {
	case "Const":
		offset, err := strconv.ParseInt(attribute(t, "offset"), 10, 64)
		size, err2 := strconv.ParseInt(attribute(t, "size"), 10, 64)
		if err != nil || err2 != nil || offset < 0 || size < 0 || offset+size < 0 {
			return errNotIR{fmt.Sprintf("constant %q has offset %q and size %q", p.name, attribute(t, "offset"), attribute(t, "size"))}
		}
		p.n.weightBytes = max(p.n.weightBytes, offset+size)
		if t := attribute(t, "element_type"); (t == "f16" || t == "bf16") && size < math.MaxInt64/2 {
			size *= 2
		}
		p.n.wideBytes = addBounded(p.n.wideBytes, size)
	case "Parameter":
		if !outer {
			return nil
		}
		shape, ranked, err := parseShape(attribute(t, "shape"))
		if err != nil {
			return errNotIR{fmt.Sprintf("input %q: %v", p.name, err)}
		}
		p.n.inputs = append(p.n.inputs, Input{Name: p.name, DType: attribute(t, "element_type"), Shape: shape, Ranked: ranked})
		p.input = len(p.n.inputs) - 1
	}
	return nil
}

// addBounded adds without overflow: a damaged file may claim any sizes.
func addBounded(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// parseShape reads a shape as IR files write it: "?,4,1..10,64"; "" is a scalar's, "..." of free rank.
func parseShape(s string) (shape []int64, ranked bool, err error) {
	s = strings.TrimSpace(s)
	if s == "..." {
		return nil, false, nil
	}
	if s == "" {
		return nil, true, nil
	}
	for word := range strings.SplitSeq(s, ",") {
		word = strings.TrimSpace(word)
		if word == "?" || word == "-1" || strings.Contains(word, "..") {
			shape = append(shape, -1)
			continue
		}
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil || n < 0 {
			return nil, false, fmt.Errorf("shape %q is not understood", s)
		}
		shape = append(shape, n)
	}
	return shape, true, nil
}

func attribute(t xml.StartElement, name string) string {
	for _, a := range t.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}
