// Package headeraudit compares a raw layer over a C library (a Table of symbols, a method of API for each, structs and
// constants) with the library's own headers, in tests: a mistake there is a crash elsewhere.
//
// It holds four things against each other for every symbol: its prototype in the headers, the prototype in the comment
// above the Table's field, the parameters of the API method, and the arguments of the method's SyscallN, or hot in its place.
package headeraudit

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Rules are what differs between libraries.
type Rules struct {
	// Types are the Go types that stand for C types; "" for void. A pointer to one is a pointer to the other, unless it
	// has an entry of its own.
	Types map[string]string
	// Underlying are the Go types that those above must have, so that a C int is 32 bits and a size_t 64.
	Underlying map[string]string
	// Words are the fields of structs that are passed by value, by the struct's name in Go: "uintptr($.Rank)".
	Words map[string][]string
	// Prefix is that of the functions, without the underscores of their names: "ov".
	Prefix string
}

// goType returns the Go type for a C type, "" for void, false for one the audit does not know.
func (r Rules) goType(c string) (string, bool) {
	if g, ok := r.Types[c]; ok {
		return g, true
	}
	pointee, pointer := strings.CutSuffix(c, "*")
	if !pointer {
		return "", false
	}
	g, ok := r.goType(pointee)
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
	cStruct    = regexp.MustCompile(`typedef struct\s*\w*\s*\{([^}]*)\}\s*(\w+)\s*;`)
	cEnum      = regexp.MustCompile(`\b(\w+)\s*=\s*(0[xX][0-9a-fA-F]+|\d+)\b`)
	cDefine    = regexp.MustCompile(`(?m)^#define\s+(\w+)\s+(0[xX][0-9a-fA-F]+|\d+)\s*$`)
	goConstant = regexp.MustCompile(`(?m)(?:=|^)\s*(\d+),?\s*// (\w+)\b`)
	cPrototype = regexp.MustCompile(`^([\w\s*]+?)(\w+)\(([^;]*)\);$`)
	cConst     = regexp.MustCompile(`\bconst\b`)
	cParam     = regexp.MustCompile(`^(.*?)\s*(\w+)(\[\d+\])?$`)
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
	return cType(m[1]) + m[3]
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

// Headers are the functions, structs and constants of a release.
type Headers struct {
	functions map[string]prototype
	structs   map[string][]string // types of the fields, in order
	constants map[string]int64
}

// ParseHeaders reads the text of headers. function finds declarations: result, name, parameters. Structs are found as
// typedef struct.
func ParseHeaders(source string, function *regexp.Regexp) Headers {
	h := Headers{functions: map[string]prototype{}, structs: map[string][]string{}, constants: map[string]int64{}}
	source = cComment.ReplaceAllString(source, "")
	for _, m := range function.FindAllStringSubmatch(source, -1) {
		h.functions[m[2]] = newPrototype(m[1], m[3])
	}
	for _, expression := range []*regexp.Regexp{cEnum, cDefine} {
		for _, m := range expression.FindAllStringSubmatch(source, -1) {
			if value, err := strconv.ParseInt(m[2], 0, 64); err == nil {
				h.constants[m[1]] = value
			}
		}
	}
	for _, m := range cStruct.FindAllStringSubmatch(source, -1) {
		var fields []string
		for field := range strings.SplitSeq(m[1], ";") {
			if first, more, _ := strings.Cut(field, ","); strings.TrimSpace(first) != "" {
				fields = append(fields, slices.Repeat([]string{declared(first)}, 1+len(strings.FieldsFunc(more, func(r rune) bool { return r == ',' })))...)
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

// Bindings are a package's own sources.
type Bindings struct {
	fields  map[string]binding
	methods map[string]method
	structs map[string][]string
	types   map[string]string
}

// ParseBindings reads Go sources.
func ParseBindings(sources ...string) (Bindings, error) {
	b := Bindings{fields: map[string]binding{}, methods: map[string]method{}, structs: map[string][]string{}, types: map[string]string{}}
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

// Symbols returns how many symbols the Table has.
func (b Bindings) Symbols() int { return len(b.fields) }

func (b Bindings) addTypes(decl *ast.GenDecl) {
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

func (b Bindings) addField(field *ast.Field) {
	tag := reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("sym")
	symbol, option, _ := strings.Cut(tag, ",")
	b.fields[field.Names[0].Name] = binding{symbol: symbol, optional: option == "optional", comment: field.Doc.Text()}
}

func (b Bindings) addMethod(decl *ast.FuncDecl) {
	if decl.Recv == nil || types.ExprString(decl.Recv.List[0].Type) != "*API" || decl.Name.Name == "hot" {
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
		if !ok || !slices.Contains([]string{"purego.SyscallN", "a.hot"}, types.ExprString(call.Fun)) {
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

// Audit returns what does not agree with the headers of releases, in words. A symbol that is not optional is in all of
// them.
func (r Rules) Audit(releases map[string]Headers, b Bindings) []string {
	var findings []string
	found := func(format string, args ...any) { findings = append(findings, fmt.Sprintf(format, args...)) }
	for name, want := range r.Underlying {
		if b.types[name] != want {
			found("type %s is %s, not %s", name, b.types[name], want)
		}
	}
	for name, f := range b.fields {
		if want := r.fieldName(f.symbol); !strings.EqualFold(name, want) {
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
				for _, text := range r.auditSymbol(name, p, b) {
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
		for _, text := range r.auditStructs(h, b) {
			found("%s: %s", release, text)
		}
	}
	slices.Sort(findings)
	return findings
}

func (r Rules) fieldName(symbol string) string {
	return strings.TrimPrefix(strings.ReplaceAll(symbol, "_", ""), r.Prefix)
}

func (r Rules) auditSymbol(name string, p prototype, b Bindings) (findings []string) {
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
	result, known := r.goType(p.result)
	if !known || m.result != result {
		found("method returns %q for %s", m.result, p.result)
	}
	if len(m.params) < len(p.params) || len(m.params) > len(p.params) && !p.variadic {
		found("method takes %d parameters, the function %d", len(m.params), len(p.params))
		return findings
	}
	var wanted []string
	for i, c := range p.params {
		g, known := r.goType(c)
		if !known || m.params[i].typ != g {
			found("parameter %d is %s in Go, %s in C", i+1, m.params[i].typ, c)
		}
		words := r.arguments(m.params[i])
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

// arguments are the words of the call that pass a parameter.
func (r Rules) arguments(p param) []string {
	var words []string
	for _, word := range r.Words[p.typ] {
		words = append(words, strings.ReplaceAll(word, "$", p.name))
	}
	switch {
	case words != nil:
		return words
	case strings.HasPrefix(p.typ, "*"):
		return []string{"uintptr(unsafe.Pointer(" + p.name + "))"}
	default:
		return []string{"uintptr(" + p.name + ")"}
	}
}

// auditStructs compares the fields of the structs that C reads or writes.
func (r Rules) auditStructs(h Headers, b Bindings) (findings []string) {
	for c, g := range r.Types {
		want, isStruct := h.structs[c]
		if !isStruct {
			continue
		}
		got := b.structs[g]
		fields := make([]string, len(want))
		for i, field := range want {
			fields[i], _ = r.goType(field)
		}
		if !slices.Equal(got, fields) {
			findings = append(findings, fmt.Sprintf("struct %s has (%s) in Go, (%s) in C", g, strings.Join(got, ", "), strings.Join(want, ", ")))
		}
	}
	return findings
}

// AuditConstants compares the numbers of Go sources that are followed by a name of C ("16 // cudaName") with the headers,
// and returns what does not agree and how many names it knew. A name that no release has is not one of C's.
func AuditConstants(releases map[string]Headers, sources ...string) (findings []string, known int) {
	for _, m := range goConstant.FindAllStringSubmatch(strings.Join(sources, "\n"), -1) {
		got, err := strconv.ParseInt(m[1], 0, 64)
		found := false
		for release, h := range releases {
			want, ok := h.constants[m[2]]
			found = found || ok
			if ok && (err != nil || got != want) {
				findings = append(findings, fmt.Sprintf("%s is %s, in the headers of %s %d", m[2], m[1], release, want))
			}
		}
		if found {
			known++
		}
	}
	slices.Sort(findings)
	return findings, known
}
