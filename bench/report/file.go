package report

import (
	"bytes"
	_ "embed" // of the schema
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

//go:embed schema.json
var schemaText []byte

var compiledSchema = sync.OnceValues(func() (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemaText))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("schema.json", doc); err != nil {
		return nil, err
	}
	return c.Compile("schema.json")
})

// Write leaves report.json, report.md and the charts in dir.
func (r *Report) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("report folder: %w", err)
	}
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "report.json"), append(raw, '\n'), 0o644); err != nil {
		return err
	}
	return r.Render(dir)
}

// Render leaves report.md and the charts in dir.
func (r *Report) Render(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("report folder: %w", err)
	}
	var md strings.Builder
	r.Markdown(&md)
	if err := os.WriteFile(filepath.Join(dir, "report.md"), []byte(md.String()), 0o644); err != nil {
		return err
	}
	for _, g := range r.Groups {
		for _, c := range g.charts() {
			var svg bytes.Buffer
			if err := c.draw(&svg); err != nil {
				return fmt.Errorf("chart %s: %w", c.file, err)
			}
			if err := os.WriteFile(filepath.Join(dir, c.file), svg.Bytes(), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// Read reads a report.json. It refuses reports of another schema version, and what the schema does not allow.
func Read(path string) (*Report, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var version struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(raw, &version); err != nil {
		return nil, fmt.Errorf("%s is not a report of the harness, expected its report.json: %w", path, err)
	}
	if version.Schema != SchemaVersion {
		return nil, fmt.Errorf("%s has schema version %d, expected %d: measure again with this harness, or read it with the one that made it", path, version.Schema, SchemaVersion)
	}
	schema, err := compiledSchema()
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := schema.Validate(doc); err != nil {
		return nil, fmt.Errorf("%s is not as bench/report/schema.json says: %w", path, err)
	}
	var r Report
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &r, nil
}
