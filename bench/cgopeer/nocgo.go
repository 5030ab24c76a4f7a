//go:build !cgo

package main

import "errors"

func open(_, _, _ string) (map[string]func() error, error) {
	return nil, errors.New("built without cgo: build with CGO_ENABLED=1 and a C compiler")
}
