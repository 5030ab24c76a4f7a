package model

import (
	"bytes"
	"fmt"
	"html"
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

// readNetwork reads the structure of an OpenVINO IR (versions 10 and 11).
//
// Files have up to some hundred thousand elements, and every start of every process reads them: this looks at tags only, and
// in those that matter at attributes, where a full XML decoder takes ten times as long. What exporters do not write
// (document types, CDATA, processing instructions beside the declaration) is skipped as a decoder would.
func readNetwork(data []byte) (*network, error) {
	p := irReader{n: &network{info: map[string]string{}}, input: -1}
	for {
		tag, rest, err := nextTag(data)
		if err != nil {
			return nil, err
		}
		if tag == nil {
			break
		}
		data = rest
		if err := p.tag(tag); err != nil {
			return nil, err
		}
	}
	switch {
	case len(p.path) > 0:
		return nil, errNotIR{fmt.Sprintf("its XML ends inside <%s>: the file is truncated", p.path[len(p.path)-1])}
	case !p.layers:
		return nil, errNotIR{"it has no <net> with <layers>"}
	}
	return p.n, nil
}

// nextTag returns what the next tag has between its angle brackets, and what follows it; nil at the end. Comments and
// the like are left out.
func nextTag(data []byte) (tag, rest []byte, err error) {
	for {
		open := bytes.IndexByte(data, '<')
		if open < 0 {
			return nil, nil, nil
		}
		data = data[open+1:]
		end := ""
		switch {
		case bytes.HasPrefix(data, []byte("!--")):
			end = "-->"
		case bytes.HasPrefix(data, []byte("![CDATA[")):
			end = "]]>"
		case bytes.HasPrefix(data, []byte("?")):
			end = "?>"
		case bytes.HasPrefix(data, []byte("!")):
			end = ">"
		}
		if end == "" {
			n := tagLength(data)
			if n < 0 {
				return nil, nil, errNotIR{"its XML ends inside a tag: the file is truncated"}
			}
			return data[:n], data[n+1:], nil
		}
		n := bytes.Index(data, []byte(end))
		if n < 0 {
			return nil, nil, errNotIR{fmt.Sprintf("its XML ends before a %q: the file is truncated", end)}
		}
		data = data[n+len(end):]
	}
}

// tagLength returns where the tag that data begins with ends, -1 if it does not. A ">" within quotes ends none.
func tagLength(data []byte) int {
	quote := byte(0)
	for n, c := range data {
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '>':
			return n
		case c == '"' || c == '\'':
			quote = c
		}
	}
	return -1
}

type irReader struct {
	n      *network
	path   []string // open elements
	layers bool
	kind   string // of the layer at hand
	name   string
	input  int // index in n.inputs of the Parameter at hand, -1: none
}

// tag takes what stands between the angle brackets of a tag.
func (p *irReader) tag(tag []byte) error {
	if name, closing := bytes.CutPrefix(tag, []byte("/")); closing {
		return p.end(bytes.TrimRight(name, xmlSpace))
	}
	body, empty := bytes.CutSuffix(tag, []byte("/"))
	n := 0
	for n < len(body) && !isSpace(body[n]) && !isMarkup(body[n]) {
		n++
	}
	name, attributes := body[:n], body[n:]
	if n == 0 || n < len(body) && !isSpace(body[n]) {
		return errNotIR{fmt.Sprintf("it is no well-formed XML: it has a tag <%.40s>", tag)}
	}
	if err := p.start(name, attributes); err != nil {
		return err
	}
	if empty {
		p.path = p.path[:len(p.path)-1]
	}
	return nil
}

func (p *irReader) start(name, attributes []byte) error {
	depth := len(p.path)
	if depth == 0 && (string(name) != "net" || p.layers) {
		return errNotIR{fmt.Sprintf("its root element is <%s>, expected one <net>", name)}
	}
	if depth == 0 {
		version := attribute(attributes, "version")
		if v, err := strconv.Atoi(version); err != nil || v < 10 {
			return errNotIR{fmt.Sprintf("its <net> has version %q, expected 10 or 11", version)}
		}
	}
	if depth > 200 {
		return errNotIR{"its elements are nested more than 200 deep"}
	}
	word := elementName(name)
	p.path = append(p.path, word)
	switch word {
	case "layers":
		p.layers = p.layers || depth == 1
	case "layer":
		p.kind, p.name, p.input = attribute(attributes, "type"), attribute(attributes, "name"), -1
	case "data":
		return p.data(attributes, depth == 3)
	case "port":
		// Exporters name the tensor, and mostly the layer too; a tensor may have other names beside that.
		if p.input < 0 || depth != 4 {
			return nil
		}
		if names := attribute(attributes, "names"); names != "" {
			in := &p.n.inputs[p.input]
			if all := strings.Split(names, ","); !slices.Contains(all, in.Name) {
				in.Name = all[0]
			}
		}
	default:
		if depth == 2 && p.path[1] == "rt_info" {
			p.n.info[word] = attribute(attributes, "value")
		}
	}
	return nil
}

// elementName is name as a string, without a copy for those that there are many of.
func elementName(name []byte) string {
	switch string(name) {
	case "dim":
		return "dim"
	case "port":
		return "port"
	case "edge":
		return "edge"
	case "layer":
		return "layer"
	case "data":
		return "data"
	case "input":
		return "input"
	case "output":
		return "output"
	case "attribute":
		return "attribute"
	case "rt_info":
		return "rt_info"
	}
	return string(name)
}

func (p *irReader) end(name []byte) error {
	last := len(p.path) - 1
	if last < 0 || p.path[last] != string(name) {
		return errNotIR{fmt.Sprintf("</%s> closes nothing", name)}
	}
	p.path = p.path[:last]
	return nil
}

// data reads the <data> of a layer; outer is false inside the bodies of loops and branches, whose Parameters
// are not inputs of the network but whose constants lie in the same .bin.
func (p *irReader) data(attributes []byte, outer bool) error {
	switch p.kind {
	case "Const":
		from, length := attribute(attributes, "offset"), attribute(attributes, "size")
		offset, err := strconv.ParseInt(from, 10, 64)
		size, err2 := strconv.ParseInt(length, 10, 64)
		if err != nil || err2 != nil || offset < 0 || size < 0 || offset+size < 0 {
			return errNotIR{fmt.Sprintf("constant %q has offset %q and size %q", p.name, from, length)}
		}
		p.n.weightBytes = max(p.n.weightBytes, offset+size)
		if t := attribute(attributes, "element_type"); (t == "f16" || t == "bf16") && size < math.MaxInt64/2 {
			size *= 2
		}
		p.n.wideBytes = addBounded(p.n.wideBytes, size)
	case "Parameter":
		if !outer {
			return nil
		}
		shape, ranked, err := parseShape(attribute(attributes, "shape"))
		if err != nil {
			return errNotIR{fmt.Sprintf("input %q: %v", p.name, err)}
		}
		p.n.inputs = append(p.n.inputs, Input{Name: p.name, DType: attribute(attributes, "element_type"), Shape: shape, Ranked: ranked})
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

// isMarkup reports whether c cannot be in a name.
func isMarkup(c byte) bool { return c == '<' || c == '&' || c == '"' || c == '\'' || c == '=' }

const xmlSpace = " \t\r\n"

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// attribute returns the value of an attribute, "" if there is none.
func attribute(attributes []byte, name string) string {
	for {
		attributes = bytes.TrimLeft(attributes, xmlSpace)
		equals := bytes.IndexByte(attributes, '=')
		if equals < 0 {
			return ""
		}
		found := bytes.TrimRight(attributes[:equals], xmlSpace)
		rest := bytes.TrimLeft(attributes[equals+1:], xmlSpace)
		if len(rest) == 0 || rest[0] != '"' && rest[0] != '\'' {
			return ""
		}
		end := bytes.IndexByte(rest[1:], rest[0])
		if end < 0 {
			return ""
		}
		if string(found) == name {
			return unescape(rest[1 : 1+end])
		}
		attributes = rest[end+2:]
	}
}

// unescape replaces the predefined and the numeric entities.
func unescape(value []byte) string {
	if bytes.IndexByte(value, '&') < 0 {
		return string(value)
	}
	return html.UnescapeString(string(value))
}
