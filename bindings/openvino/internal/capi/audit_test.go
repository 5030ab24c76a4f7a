package capi_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// The audit holds four things against each other for every symbol of the Table: its prototype in the C
// headers, the prototype in the comment above the field, the parameters of the API method, and the
// arguments of the method's SyscallN.

// goTypes are the Go types that stand for C types.
var goTypes = map[string]string{
	"size_t": "Size", "int64_t": "int64", "bool": "bool", "void": "",
	"ov_status_e": "Status", "ov_element_type_e": "ElementType",
	"ov_core_t*": "Core", "ov_model_t*": "Model", "ov_output_const_port_t*": "ConstPort",
	"ov_compiled_model_t*": "CompiledModel", "ov_infer_request_t*": "InferRequest", "ov_tensor_t*": "Tensor",
	"ov_shape_t": "Shape", "ov_partial_shape_t": "PartialShape", "ov_dimension_t": "Dimension", "ov_rank_t": "Dimension",
	"ov_version_t": "Version", "ov_available_devices_t": "AvailableDevices",
	"char": "byte", "void*": "unsafe.Pointer",
}

// underlying are the Go types that those above must have, so that a C int is 32 bits and a size_t 64.
var underlying = map[string]string{
	"Size": "uintptr", "Status": "int32", "ElementType": "uint32",
	"Core": "uintptr", "Model": "uintptr", "ConstPort": "uintptr", "CompiledModel": "uintptr", "InferRequest": "uintptr", "Tensor": "uintptr",
}

// goType returns the Go type for a C type, "" for void, false for one the audit does not know.
func goType(c string) (string, bool) {
	if g, ok := goTypes[c]; ok {
		return g, true
	}
	pointee, pointer := strings.CutSuffix(c, "*")
	if !pointer {
		return "", false
	}
	g, ok := goType(pointee)
	return "*" + g, ok
}

// prototype is a C function's, with const and names of parameters left out.
type prototype struct {
	result   string
	params   []string
	variadic bool
}

func (p prototype) String() string {
	params := p.params
	if p.variadic {
		params = append(slices.Clone(params), "...")
	}
	return p.result + " (" + strings.Join(params, ", ") + ")"
}

var (
	cComment   = regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*`)
	cFunction  = regexp.MustCompile(`OPENVINO_C_API\(([^)]*)\)\s*(\w+)\s*\(([^;]*)\)\s*;`)
	cStruct    = regexp.MustCompile(`typedef struct\s*\w*\s*\{([^}]*)\}\s*(\w+)\s*;`)
	cPrototype = regexp.MustCompile(`^([\w\s*]+?)(\w+)\(([^;]*)\);$`)
	cConst     = regexp.MustCompile(`\bconst\b`)
	cParam     = regexp.MustCompile(`^(.*?)\s*(\w+)$`)
)

func cType(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(cConst.ReplaceAllString(s, " ")), " "), " *", "*")
}

// declared splits "const char* name" into its type.
func declared(s string) string {
	m := cParam.FindStringSubmatch(strings.TrimSpace(s))
	if m == nil || cType(m[1]) == "" { // a type alone
		return cType(s)
	}
	return cType(m[1])
}

func newPrototype(result, params string) prototype {
	p := prototype{result: cType(result)}
	for param := range strings.SplitSeq(params, ",") {
		switch param = strings.TrimSpace(param); param {
		case "", "void":
		case "...":
			p.variadic = true
		default:
			p.params = append(p.params, declared(param))
		}
	}
	return p
}

// headers are the functions and structs of a release.
type headers struct {
	functions map[string]prototype
	structs   map[string][]string // types of the fields, in order
}

func parseHeaders(source string) headers {
	h := headers{functions: map[string]prototype{}, structs: map[string][]string{}}
	source = cComment.ReplaceAllString(source, "")
	for _, m := range cFunction.FindAllStringSubmatch(source, -1) {
		h.functions[m[2]] = newPrototype(m[1], m[3])
	}
	for _, m := range cStruct.FindAllStringSubmatch(source, -1) {
		var fields []string
		for field := range strings.SplitSeq(m[1], ";") {
			if strings.TrimSpace(field) != "" {
				fields = append(fields, declared(field))
			}
		}
		h.structs[m[2]] = fields
	}
	return h
}

// binding is a field of the Table.
type binding struct {
	symbol   string
	optional bool
	comment  string
}

// method is a method of API.
type method struct {
	params []param
	result string
	field  string   // of the Table, in the call
	args   []string // of the call, after the function
}

type param struct{ name, typ string }

// bindings are the package's own sources.
type bindings struct {
	fields  map[string]binding
	methods map[string]method
	structs map[string][]string
	types   map[string]string
}

func parseBindings(sources ...string) (bindings, error) {
	b := bindings{fields: map[string]binding{}, methods: map[string]method{}, structs: map[string][]string{}, types: map[string]string{}}
	for _, source := range sources {
		file, err := parser.ParseFile(token.NewFileSet(), "", source, parser.ParseComments)
		if err != nil {
			return b, err
		}
		for _, decl := range file.Decls {
			switch decl := decl.(type) {
			case *ast.GenDecl:
				b.addTypes(decl)
			case *ast.FuncDecl:
				b.addMethod(decl)
			}
		}
	}
	return b, nil
}

func (b bindings) addTypes(decl *ast.GenDecl) {
	for _, spec := range decl.Specs {
		spec, ok := spec.(*ast.TypeSpec)
		if !ok {
			continue
		}
		s, ok := spec.Type.(*ast.StructType)
		switch {
		case !ok:
			b.types[spec.Name.Name] = types.ExprString(spec.Type)
		case spec.Name.Name == "Table":
			for _, field := range s.Fields.List {
				b.addField(field)
			}
		default:
			for _, field := range s.Fields.List {
				for range field.Names {
					b.structs[spec.Name.Name] = append(b.structs[spec.Name.Name], types.ExprString(field.Type))
				}
			}
		}
	}
}

func (b bindings) addField(field *ast.Field) {
	tag := reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("sym")
	symbol, option, _ := strings.Cut(tag, ",")
	b.fields[field.Names[0].Name] = binding{symbol: symbol, optional: option == "optional", comment: field.Doc.Text()}
}

func (b bindings) addMethod(decl *ast.FuncDecl) {
	if decl.Recv == nil || types.ExprString(decl.Recv.List[0].Type) != "*API" {
		return
	}
	var m method
	for _, field := range decl.Type.Params.List {
		for _, name := range field.Names {
			m.params = append(m.params, param{name.Name, types.ExprString(field.Type)})
		}
	}
	if decl.Type.Results != nil {
		m.result = types.ExprString(decl.Type.Results.List[0].Type)
	}
	ast.Inspect(decl.Body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || types.ExprString(call.Fun) != "purego.SyscallN" {
			return true
		}
		m.field = strings.TrimPrefix(types.ExprString(call.Args[0]), "a.Table.")
		for _, arg := range call.Args[1:] {
			m.args = append(m.args, types.ExprString(arg))
		}
		return true
	})
	b.methods[decl.Name.Name] = m
}

// audit returns what does not agree, in words.
func audit(releases map[string]headers, b bindings) []string {
	var findings []string
	found := func(format string, args ...any) { findings = append(findings, fmt.Sprintf(format, args...)) }
	for name, want := range underlying {
		if b.types[name] != want {
			found("type %s is %s, not %s", name, b.types[name], want)
		}
	}
	for name, f := range b.fields {
		if want := fieldName(f.symbol); !strings.EqualFold(name, want) {
			found("%s: field is called %s", f.symbol, name)
		}
		inRelease := 0
		for release, h := range releases {
			p, ok := h.functions[f.symbol]
			if ok {
				inRelease++
			} else if !f.optional {
				found("%s: not in the headers of %s", f.symbol, release)
			}
			if ok {
				for _, text := range auditSymbol(name, p, b) {
					found("%s (%s): %s", f.symbol, release, text)
				}
			}
		}
		if inRelease == 0 {
			found("%s: in no header", f.symbol)
		}
	}
	for name := range b.methods {
		if _, ok := b.fields[name]; !ok {
			found("method %s has no symbol", name)
		}
	}
	for release, h := range releases {
		for _, text := range auditStructs(h, b) {
			found("%s: %s", release, text)
		}
	}
	slices.Sort(findings)
	return findings
}

func fieldName(symbol string) string {
	return strings.ReplaceAll(strings.TrimPrefix(symbol, "ov_"), "_", "")
}

func auditSymbol(name string, p prototype, b bindings) (findings []string) {
	found := func(format string, args ...any) { findings = append(findings, fmt.Sprintf(format, args...)) }
	comment, ok := commentPrototype(b.fields[name])
	if !ok || comment.String() != p.String() {
		found("prototype in the comment is %q, in the header %q", comment, p)
	}
	m, ok := b.methods[name]
	if !ok {
		return append(findings, "no method")
	}
	if m.field != name {
		found("method calls %q", m.field)
	}
	result, known := goType(p.result)
	if !known || m.result != result {
		found("method returns %q for %s", m.result, p.result)
	}
	if len(m.params) < len(p.params) || len(m.params) > len(p.params) && !p.variadic {
		found("method takes %d parameters, the function %d", len(m.params), len(p.params))
		return findings
	}
	var wanted []string
	for i, c := range p.params {
		g, known := goType(c)
		if !known || m.params[i].typ != g {
			found("parameter %d is %s in Go, %s in C", i+1, m.params[i].typ, c)
		}
		words := arguments(m.params[i])
		// A struct that does not fit the registers left goes to the stack as a whole: not as words.
		if len(words) > 1 && len(wanted)+len(words) > integerRegisters {
			found("parameter %d, %s by value, straddles the last register", i+1, c)
		}
		wanted = append(wanted, words...)
	}
	if len(m.args) < len(wanted) || !slices.Equal(m.args[:len(wanted)], wanted) || len(m.args) > len(wanted) && !p.variadic {
		found("call passes (%s), not (%s)", strings.Join(m.args, ", "), strings.Join(wanted, ", "))
	}
	return findings
}

// integerRegisters are those of the System V AMD64 calling convention.
const integerRegisters = 6

// commentPrototype finds the prototype among the paragraphs of a field's comment.
func commentPrototype(f binding) (prototype, bool) {
	for paragraph := range strings.SplitSeq(f.comment, "\n\n") {
		m := cPrototype.FindStringSubmatch(strings.Join(strings.Fields(paragraph), " "))
		if m != nil && m[2] == f.symbol {
			return newPrototype(m[1], m[3]), true
		}
	}
	return prototype{}, false
}

// arguments are the words of SyscallN that pass a parameter.
func arguments(p param) []string {
	switch {
	case p.typ == "Shape":
		return []string{"uintptr(" + p.name + ".Rank)", "uintptr(unsafe.Pointer(" + p.name + ".Dims))"}
	case strings.HasPrefix(p.typ, "*"):
		return []string{"uintptr(unsafe.Pointer(" + p.name + "))"}
	default:
		return []string{"uintptr(" + p.name + ")"}
	}
}

// auditStructs compares the fields of the structs that C reads or writes.
func auditStructs(h headers, b bindings) (findings []string) {
	for c, g := range goTypes {
		want, isStruct := h.structs[c]
		if !isStruct {
			continue
		}
		got := b.structs[g]
		fields := make([]string, len(want))
		for i, field := range want {
			fields[i], _ = goType(field)
		}
		if !slices.Equal(got, fields) {
			findings = append(findings, fmt.Sprintf("struct %s has (%s) in Go, (%s) in C", g, strings.Join(got, ", "), strings.Join(want, ", ")))
		}
	}
	return findings
}
