package events

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

//go:embed schema/*.json
var schemaFiles embed.FS

// Schemas returns the JSON Schema files (draft 2020-12), one for each event
// type and common.v1.json with what they share.
func Schemas() fs.FS {
	sub, err := fs.Sub(schemaFiles, "schema")
	if err != nil {
		return schemaFiles // cannot happen: "schema" is a valid path
	}
	return sub
}

// SchemaFile returns the name of the schema file of an event type.
func SchemaFile(typ string) string { return strings.TrimPrefix(typ, typePrefix) + ".json" }

// Types returns all event types, requests first.
func Types() []string {
	return []string{
		TypeImageGenerate, TypeCancel,
		TypeAccepted, TypeStarted, TypeProgress, TypeSucceeded, TypeFailed, TypeCancelled, TypeExpired,
		TypeConditionChanged, TypeHeartbeat, TypeCanary, TypeDecision, TypeCommand,
	}
}

const (
	typePrefix = "dev.genfn."
	schemaBase = "genfn:///"
)

// schemaSet holds the compiled schemas and, for error messages, their source.
type schemaSet struct {
	byType map[string]*jsonschema.Schema
	source map[string]any // by URL without fragment
}

// loadSchemas compiles the embedded schemas once.
var loadSchemas = sync.OnceValues(compileSchemas)

func compileSchemas() (*schemaSet, error) {
	s := &schemaSet{byType: make(map[string]*jsonschema.Schema), source: make(map[string]any)}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.AssertContent()
	names, err := fs.Glob(schemaFiles, "schema/*.json")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := schemaFiles.ReadFile(name)
		if err != nil {
			return nil, err
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		url := schemaBase + path.Base(name)
		s.source[url] = doc
		if err := c.AddResource(url, doc); err != nil {
			return nil, err
		}
	}
	for _, typ := range Types() {
		if s.byType[typ], err = c.Compile(schemaBase + SchemaFile(typ)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// node returns the schema object at a URL with a JSON pointer as fragment, with
// its references followed; nil if there is none.
func (s *schemaSet) node(url string) map[string]any {
	n, _ := s.lookup(s.resolve(url))
	return n
}

// resolve follows references and returns the URL where they end.
func (s *schemaSet) resolve(url string) string {
	for range maxNesting { // a chain of references is never that long
		n, file := s.lookup(url)
		ref, ok := n["$ref"].(string)
		if !ok {
			break
		}
		url = schemaBase + ref
		if strings.HasPrefix(ref, "#") {
			url = file + ref
		}
		if !strings.Contains(url, "#") {
			url += "#"
		}
	}
	return url
}

func (s *schemaSet) lookup(url string) (node map[string]any, file string) {
	file, pointer, _ := strings.Cut(url, "#")
	node, _ = at(s.source[file], pointerTokens(pointer)).(map[string]any)
	return node, file
}

// at walks down a JSON value; the result is nil where there is nothing.
func at(value any, tokens []string) any {
	for _, t := range tokens {
		switch v := value.(type) {
		case map[string]any:
			value = v[t]
		case []any:
			i, err := strconv.Atoi(t)
			if err != nil || i < 0 || i >= len(v) {
				return nil
			}
			value = v[i]
		default:
			return nil
		}
	}
	return value
}

// pointerTokens splits a JSON pointer (RFC 6901).
func pointerTokens(pointer string) []string {
	tokens := strings.Split(pointer, "/")[1:]
	for i, t := range tokens {
		tokens[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(t)
	}
	return tokens
}
