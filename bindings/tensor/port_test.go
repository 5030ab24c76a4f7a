package tensor_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"genfn/bindings/tensor"
)

func TestPartialShape(t *testing.T) {
	static, ok := tensor.StaticShape(1, 4, 64).Static()
	assert.True(t, ok)
	assert.Equal(t, tensor.Shape{1, 4, 64}, static)
	_, ok = tensor.PartialShape{tensor.Dynamic}.Static()
	assert.False(t, ok)
	_, ok = tensor.PartialShape(nil).Static()
	assert.False(t, ok)
	scalar, ok := tensor.PartialShape{}.Static()
	assert.True(t, ok)
	assert.Equal(t, tensor.Shape{}, scalar)
	assert.Equal(t, "[1,?,2..,1..8]", tensor.PartialShape{{Min: 1, Max: 1}, tensor.Dynamic, {Min: 2, Max: -1}, {Min: 1, Max: 8}}.String())
	assert.Equal(t, "unknown rank", tensor.PartialShape(nil).String())
	assert.Equal(t, "[]", tensor.PartialShape{}.String())
}
