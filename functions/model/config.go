package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"

	"genfn/events"
)

const maxConfigBytes = 16 << 20

// config is a JSON object of a model folder. Its accessors name file and key when something is wrong.
type config struct {
	file   string // relative to the model folder
	values map[string]json.RawMessage
}

func parseConfig(file string, data []byte) (config, error) {
	c := config{file: file}
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&c.values); err != nil {
		return c, invalid(file, "", "the file is not a JSON object: "+err.Error(), "a JSON object")
	}
	if c.values == nil {
		return c, invalid(file, "", "the file holds null", "a JSON object")
	}
	if dec.More() {
		return c, invalid(file, "", "the file holds more than one JSON value", "one JSON object")
	}
	return c, nil
}

// invalid is a model_invalid error for a key of a file; key "" means the whole file.
func invalid(file, key, found, expected string) *events.Error {
	where := file
	if key != "" {
		where = fmt.Sprintf("%s: key %q", file, key)
	}
	e := events.Errorf(events.CodeModelInvalid, "%s: %s", where, found)
	e.Expected = expected
	e.Advice = "Export the model folder again, or correct this file."
	return e
}

// has reports whether the key is there with a value other than null.
func (c config) has(key string) bool {
	raw, ok := c.values[key]
	return ok && !bytes.Equal(bytes.TrimSpace(raw), []byte("null"))
}

// get decodes a needed key.
func get[T any](c config, key, expected string) (T, error) {
	var v T
	if !c.has(key) {
		return v, invalid(c.file, key, "it is missing", expected)
	}
	if err := json.Unmarshal(c.values[key], &v); err != nil {
		return v, invalid(c.file, key, "found "+short(c.values[key]), expected)
	}
	return v, nil
}

func short(raw json.RawMessage) string {
	const limit = 60
	s := string(bytes.ToValidUTF8(raw, []byte("?")))
	if len(s) > limit {
		s = string(bytes.ToValidUTF8([]byte(s[:limit]), nil)) + "..."
	}
	return s
}

func (c config) text(key string) (string, error) {
	s, err := get[string](c, key, "a text")
	if err == nil && s == "" {
		err = invalid(c.file, key, "it is empty", "a text")
	}
	return s, err
}

// integer returns a needed whole number within [low, high].
func (c config) integer(key string, low, high int) (int, error) {
	expected := fmt.Sprintf("a whole number from %d to %d", low, high)
	v, err := get[float64](c, key, expected)
	if err != nil {
		return 0, err
	}
	if v != math.Trunc(v) || v < float64(low) || v > float64(high) {
		return 0, invalid(c.file, key, "found "+short(c.values[key]), expected)
	}
	return int(v), nil
}

// number returns a needed finite number other than 0.
func (c config) number(key string) (float64, error) {
	v, err := get[float64](c, key, "a number other than 0")
	if err == nil && v == 0 {
		err = invalid(c.file, key, "found 0", "a number other than 0")
	}
	return v, err
}

// integers returns a needed list of 1 to 16 whole numbers from 1 to 65536.
func (c config) integers(key string) ([]int, error) {
	const expected = "a list of 1 to 16 whole numbers from 1 to 65536"
	v, err := get[[]int](c, key, expected)
	if err != nil {
		return nil, err
	}
	bad := len(v) == 0 || len(v) > 16
	for _, n := range v {
		bad = bad || n < 1 || n > 65536
	}
	if bad {
		return nil, invalid(c.file, key, "found "+short(c.values[key]), expected)
	}
	return v, nil
}
