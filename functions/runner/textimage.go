package runner

import (
	"errors"

	"genfn/bindings/kernels"
	"genfn/functions/model"
	"genfn/functions/model/session"
)

func newTextToImage(*model.Model, *session.Loader, *kernels.Set) (generator, error) {
	return nil, errors.New("no pipeline yet")
}
