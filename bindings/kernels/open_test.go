package kernels

import (
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOpenUnpacksAndSaysWhatItIs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	s, err := Open(dir)
	require.NoError(t, err)
	info := s.Info()
	require.Equal(t, "native", info.Backend)
	require.Contains(t, []string{"avx2", "baseline"}, info.ISA)
	require.Equal(t, dir, filepath.Dir(info.Path))
	require.Len(t, info.SHA256, 64)
	requireOnly(t, dir, info.Path)

	status, err := os.Stat(info.Path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o500), status.Mode())
	require.Equal(t, Info{Backend: "go"}, Reference().Info())
}

// requireOnly checks that nothing but the file is in dir: no temporary file stayed.
func requireOnly(t *testing.T, dir, path string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, filepath.Base(path), entries[0].Name())
}

func TestOpenUsesAndRepairsTheCache(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	require.NoError(t, err)
	path := s.Info().Path
	before, err := os.Stat(path)
	require.NoError(t, err)

	_, err = Open(dir)
	require.NoError(t, err)
	again, err := os.Stat(path)
	require.NoError(t, err)
	require.True(t, os.SameFile(before, again), "an intact file is not written again")

	good, err := os.ReadFile(path)
	require.NoError(t, err)
	for name, tamper := range map[string]func() error{
		"changed":   func() error { return os.WriteFile(path, append([]byte("x"), good...), 0o600) },
		"truncated": func() error { return os.WriteFile(path, good[:100], 0o600) },
		"link":      func() error { return os.Symlink("/dev/null", path) },
		"missing":   func() error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, os.Remove(path))
			require.NoError(t, tamper())
			_, err := Open(dir)
			require.NoError(t, err)
			found, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, good, found)
			requireOnly(t, dir, path)
		})
	}
}

func TestOpenAtOnce(t *testing.T) {
	dir := t.TempDir()
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			s, err := Open(dir)
			if err == nil {
				err = s.Step(&StepArgs{Sample: make([]float32, 5), Prev: make([]float32, 5)})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func TestUnpackFailsInWords(t *testing.T) {
	data := []byte("library")
	_, err := unpack("", data, sha256.Sum256(data))
	require.ErrorContains(t, err, "no cache folder")

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = unpack(filepath.Join(file, "sub"), data, sha256.Sum256(data))
	require.ErrorContains(t, err, "not a directory")

	dir := t.TempDir()
	path, err := unpack(dir, data, sha256.Sum256(data))
	require.NoError(t, err)
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.MkdirAll(filepath.Join(path, "in the way"), 0o700))
	_, err = unpack(dir, data, sha256.Sum256(data))
	require.ErrorContains(t, err, "unpacking the C library")
	requireOnly(t, dir, path)
}

// compile builds a library that could be taken for ours.
func compile(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "lib.so")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "lib.c"), []byte(source), 0o600))
	out, err := exec.CommandContext(t.Context(), "cc", "-shared", "-fPIC", "-I../../native/kernels", "-o", path, filepath.Join(dir, "lib.c")).CombinedOutput()
	require.NoError(t, err, "a C compiler is needed: %s", out)
	return path
}

func TestLoadRefusesOtherLibraries(t *testing.T) {
	const functions = `
		#include "genfn_kernels.h"
		#define EMPTY(name, args) void genfn_##name(const struct genfn_##args##_args *a) {}
		GENFN_DEVICE_KERNELS(EMPTY)
		void genfn_blend(const struct genfn_blend_args *a) {}
		void genfn_torch_normal(const struct genfn_fill_args *a) {}
		void genfn_std_normal(const struct genfn_fill_args *a) {}
		uint32_t genfn_kernels_abi(void) { return ABI; }
		void genfn_kernels_describe(struct genfn_description *d)
		{
			*d = (struct genfn_description){
				sizeof(struct genfn_step_args) + WRONG, sizeof(struct genfn_scale_args), sizeof(struct genfn_image_args),
				sizeof(struct genfn_count_args), sizeof(struct genfn_blend_args), sizeof(struct genfn_fill_args), sizeof(struct genfn_torch_normal),
				sizeof(struct genfn_std_normal), sizeof(struct genfn_convert_args), sizeof(struct genfn_mix_args),
				sizeof(struct genfn_composite_args), sizeof(struct genfn_resample_args), sizeof(struct genfn_difference_args),
				sizeof(struct genfn_difference), sizeof(struct genfn_philox_args), ISA,
			};
		}`
	for name, c := range map[string]struct{ source, expected string }{
		"no symbols":   {"int other;", "genfn_kernels_abi"},
		"another abi":  {"#define ABI 99\n#define WRONG 0\n#define ISA 0\n" + functions, "has ABI 99, expected 3"},
		"other struct": {"#define ABI GENFN_KERNELS_ABI\n#define WRONG 8\n#define ISA 0\n" + functions, "has structs of"},
		"unknown isa":  {"#define ABI GENFN_KERNELS_ABI\n#define WRONG 0\n#define ISA 7\n" + functions, "names instruction set 7"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := load(compile(t, c.source))
			require.ErrorContains(t, err, c.expected)
		})
	}
	l, isa, err := load(compile(t, "#define ABI GENFN_KERNELS_ABI\n#define WRONG 0\n#define ISA 1\n"+functions))
	require.NoError(t, err)
	require.Equal(t, "avx2", isa)
	require.NotZero(t, l.table.Step)

	text := filepath.Join(t.TempDir(), "text.so")
	require.NoError(t, os.WriteFile(text, []byte("no library"), 0o600))
	_, _, err = load(text)
	require.ErrorContains(t, err, "choose another cache folder")
}
