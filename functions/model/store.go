package model

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"genfn/events"
)

// Store is a folder of model folders, which it only reads. Model folders may be symbolic links.
type Store struct{ dir string }

// OpenStore opens a folder of model folders. It is model_not_found if the folder is not there.
func OpenStore(dir string) (*Store, error) {
	abs, err := filepath.Abs(dir)
	if err == nil {
		_, err = os.ReadDir(abs)
	}
	if err != nil {
		e := events.Errorf(events.CodeModelNotFound, "the model store %q cannot be read: %w", dir, err)
		e.Advice = "Name a folder that holds model folders."
		return nil, e
	}
	return &Store{dir: abs}, nil
}

// Dir returns the store's folder.
func (s *Store) Dir() string { return s.dir }

// Names lists the folders that hold a model_index.json and can be asked for, sorted.
func (s *Store) Names() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, events.Errorf(events.CodeModelNotFound, "the model store %q cannot be read: %w", s.dir, err)
	}
	var names []string
	for _, entry := range entries {
		if !events.ValidModel(entry.Name()) {
			continue
		}
		if _, err := os.Stat(filepath.Join(s.dir, entry.Name(), "model_index.json")); err == nil {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// List opens every model of the store, sorted by name, and returns the errors of those that are not usable.
func (s *Store) List() ([]*Model, []error) {
	names, err := s.Names()
	if err != nil {
		return nil, []error{err}
	}
	var models []*Model
	var errs []error
	for _, name := range names {
		m, err := Open(filepath.Join(s.dir, name))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		models = append(models, m)
	}
	return models, errs
}

// Get opens the model of a name. A name that is none is invalid_request, an unknown one model_not_found with
// the names there are, a damaged folder model_invalid.
func (s *Store) Get(name string) (*Model, error) {
	if !events.ValidModel(name) {
		e := events.Errorf(events.CodeInvalidRequest, "%.100q is no model name", name)
		e.Field, e.Expected = "/model", "1 to 64 letters, digits, dots, dashes and underscores, the first one a letter or a digit"
		return nil, e
	}
	dir := filepath.Join(s.dir, name)
	if _, err := os.Stat(filepath.Join(dir, "model_index.json")); errors.Is(err, fs.ErrNotExist) {
		return nil, s.notFound(name)
	}
	return Open(dir)
}

func (s *Store) notFound(name string) error {
	e := events.Errorf(events.CodeModelNotFound, "there is no model %q", name)
	e.Field = "/model"
	names, err := s.Names()
	switch {
	case err != nil:
		return err
	case len(names) == 0:
		e.Expected = fmt.Sprintf("a model of the store, but %q holds none", s.dir)
	default:
		e.Expected = "one of " + strings.Join(names, ", ")
	}
	return e
}
