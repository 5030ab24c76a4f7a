package instance

import (
	"context"

	"genfn/functions/model"
)

// store serves the models of a folder.
type store struct {
	models   *model.Store
	cacheDir string
}

var _ Models = store{}

// StoreModels returns the models of a store. Their checksums are kept in cacheDir, if it is not empty.
func StoreModels(s *model.Store, cacheDir string) Models { return store{s, cacheDir} }

func (s store) Names() []string {
	names, err := s.models.Names()
	if err != nil {
		return nil // a folder that cannot be read serves nothing; Get says why
	}
	return names
}

func (s store) Get(name string) (Model, error) {
	m, err := s.models.Get(name)
	if err != nil {
		return Model{}, err
	}
	return Model{
		Name: m.Name, Dir: m.Dir, Width: m.DefaultWidth, Height: m.DefaultHeight,
		Steps: m.DefaultSteps, GuidanceScale: m.DefaultGuidance, Folder: m,
	}, nil
}

func (s store) SHA256(ctx context.Context, name string) (string, error) {
	m, err := s.models.Get(name)
	if err != nil {
		return "", err
	}
	err = m.Hash(ctx, s.cacheDir, nil)
	return m.SHA256, err
}
