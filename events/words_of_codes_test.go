package events

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// codes are all constants of the type Code, read from the source so that a new one cannot be forgotten.
func codes(t *testing.T) (list []Code) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "error.go", nil, 0)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Code" {
			word, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			list = append(list, Code(word))
		}
		return true
	})
	return list
}

// TestEveryCodeHasWords: a title that is no sentence, and advice that is one or more; none but internal has the words
// of internal, which is what a code without a case gets.
func TestEveryCodeHasWords(t *testing.T) {
	all := codes(t)
	require.Len(t, all, 16)
	titles := map[string]Code{}
	for _, code := range all {
		e := Errorf(code, "what happened")
		require.NotEmpty(t, e.Title, code)
		require.Empty(t, titles[e.Title], "%s and %s have the same title", code, titles[e.Title])
		titles[e.Title] = code
		assert.False(t, strings.HasSuffix(e.Title, "."), "%s: %s", code, e.Title)
		assert.True(t, strings.HasSuffix(e.Advice, "."), "%s: %s", code, e.Advice)
		assert.Equal(t, strings.ToUpper(e.Title[:1]), e.Title[:1], code)
		assert.Equal(t, strings.ToUpper(e.Advice[:1]), e.Advice[:1], code)
	}
}
