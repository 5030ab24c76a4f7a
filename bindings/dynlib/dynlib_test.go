package dynlib_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ebitengine/purego"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/dynlib"
)

// compile builds a shared library from C source and returns its path.
func compile(t *testing.T, dir, name, source string, flags ...string) string {
	t.Helper()
	in, out := filepath.Join(dir, name+".c"), filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(in, []byte(source), 0o600))
	args := append([]string{"-shared", "-fPIC", "-o", out, in}, flags...)
	said, err := exec.CommandContext(t.Context(), "cc", args...).CombinedOutput()
	require.NoError(t, err, "these tests compile small C libraries: install a C compiler as cc\n%s", said)
	return out
}

type arithmetic struct {
	// int twice(int x);
	Twice uintptr `sym:"twice"`
	// int thrice(int x);
	Thrice uintptr `sym:"thrice,optional"`
	Inner  struct {
		// int answer(void);
		Answer uintptr `sym:"answer"`
	}
	Untagged uintptr
}

const source = `int twice(int x) { return 2 * x; } int answer(void) { return 42; }`

func TestOpenBindCall(t *testing.T) {
	path := compile(t, t.TempDir(), "libone.so", source)
	lib, err := dynlib.Open("one", []string{"/nonexistent/libone.so", path})
	require.NoError(t, err)
	assert.Equal(t, path, lib.Path())

	var table arithmetic
	require.NoError(t, lib.Bind(&table))
	r, _, _ := purego.SyscallN(table.Twice, 21)
	assert.EqualValues(t, 42, int32(r))
	r, _, _ = purego.SyscallN(table.Inner.Answer)
	assert.EqualValues(t, 42, int32(r))
	assert.Zero(t, table.Thrice, "an optional symbol that is missing stays 0")
	assert.Zero(t, table.Untagged)

	require.NoError(t, lib.Close())
	require.NoError(t, lib.Close(), "Close is safe twice")
	require.ErrorIs(t, lib.Bind(&table), dynlib.ErrClosed)
}

func TestGlobTakesNewestName(t *testing.T) {
	dir := t.TempDir()
	compile(t, dir, "libone.so.2460", source)
	newest := compile(t, dir, "libone.so.2641", source)
	lib, err := dynlib.Open("one", []string{filepath.Join(dir, "libone.so.[0-9]*")})
	require.NoError(t, err)
	defer func() { require.NoError(t, lib.Close()) }()
	assert.Contains(t, lib.Path(), newest)
}

func TestPlainNameGoesToTheLoader(t *testing.T) {
	lib, err := dynlib.Open("C library", []string{"libc.so.6"})
	require.NoError(t, err)
	require.NoError(t, lib.Close())
}

func TestNotFoundNamesEveryPlace(t *testing.T) {
	searched := []string{"/nonexistent/a/libx.so", "/nonexistent/b/libx.so.*", "libgenfn_no_such.so", "/[/libx.so"}
	_, err := dynlib.Open("the X library", searched)
	var notFound *dynlib.NotFoundError
	require.ErrorAs(t, err, &notFound)
	assert.Equal(t, searched, notFound.Searched)
	require.NoError(t, notFound.Loader)
	notFound.Remedy = "run make x"
	for _, words := range append(searched, "the X library", "run make x") {
		assert.ErrorContains(t, err, words)
	}
}

func TestLoaderErrorOfADefectiveFileIsKept(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "libbroken.so")
	require.NoError(t, os.WriteFile(broken, []byte("not an ELF file"), 0o600))
	_, err := dynlib.Open("broken", []string{broken, "/nonexistent/libbroken.so"})
	var notFound *dynlib.NotFoundError
	require.ErrorAs(t, err, &notFound)
	require.Error(t, notFound.Loader)
	require.ErrorContains(t, err, broken)
	require.Error(t, errors.Unwrap(err))
}

func TestMissingDependencyIsNamedByTheLoader(t *testing.T) {
	dir := t.TempDir()
	dep := compile(t, dir, "libdep.so", `int dep(void) { return 1; }`, "-Wl,-soname,libdep.so")
	user := compile(t, dir, "libuser.so", `int dep(void); int use(void) { return dep(); }`, "-Wl,--no-as-needed", dep)
	require.NoError(t, os.Remove(dep))
	_, err := dynlib.Open("user", []string{user})
	require.ErrorContains(t, err, "libdep.so")
}

func TestAllMissingSymbolsAreListed(t *testing.T) {
	path := compile(t, t.TempDir(), "libone.so", source)
	lib, err := dynlib.Open("one", []string{path})
	require.NoError(t, err)
	defer func() { require.NoError(t, lib.Close()) }()
	var table struct {
		A, B uintptr
		Four uintptr `sym:"four"`
		In   struct {
			Five uintptr `sym:"five"`
		}
	}
	err = lib.Bind(&table)
	var missing *dynlib.MissingSymbolsError
	require.ErrorAs(t, err, &missing)
	assert.Equal(t, []string{"four", "five"}, missing.Symbols)
	assert.ErrorContains(t, err, path)
}

func TestBindRefusesUnusableTables(t *testing.T) {
	path := compile(t, t.TempDir(), "libone.so", source)
	lib, err := dynlib.Open("one", []string{path})
	require.NoError(t, err)
	defer func() { require.NoError(t, lib.Close()) }()
	require.ErrorContains(t, lib.Bind(arithmetic{}), "pointer to a struct")
	require.ErrorContains(t, lib.Bind((*arithmetic)(nil)), "pointer to a struct")
	require.ErrorContains(t, lib.Bind(nil), "pointer to a struct")
	require.ErrorContains(t, lib.Bind(&struct {
		Twice int `sym:"twice"`
	}{}), "Twice")
	require.ErrorContains(t, lib.Bind(&struct {
		twice uintptr `sym:"twice"`
	}{}), "exported")
	require.ErrorContains(t, lib.Bind(&struct {
		Twice uintptr `sym:"twice,maybe"`
	}{}), "maybe")
	require.ErrorContains(t, lib.Bind(&struct {
		Inner struct {
			Twice int32 `sym:"twice"`
		}
	}{}), "Twice")
}
