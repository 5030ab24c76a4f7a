package openvino

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"genfn/bindings/dynlib"
)

// LibraryDirEnv is the environment variable that names the folder of an installed OpenVINO.
const LibraryDirEnv = "GENFN_OPENVINO_DIR"

const remedy = "run `make runtime`, or name the folder of an installed OpenVINO with --openvino-dir or " + LibraryDirEnv

func withRemedy(err error) error {
	if notFound := (*dynlib.NotFoundError)(nil); errors.As(err, &notFound) {
		notFound.Remedy = remedy
	}
	return err
}

// DefaultSearch returns the folders that Open searches when it is given none: the one named by
// GENFN_OPENVINO_DIR if that is set; else the folder `make runtime` fills, beside the folder of this
// program (bin/) and in the working directory.
func DefaultSearch() []string { return dynlib.InstallDirs(LibraryDirEnv, "openvino") }

// layouts are where the libraries lie below an installation's folder: wheel, wheel's own package
// folder, archive, and the folder of the libraries itself.
var layouts = []string{
	filepath.Join("openvino", "libs"),
	"libs",
	filepath.Join("runtime", "lib", "intel64"),
	".",
}

// find returns the C API library below one of the roots, checked to have its companions beside it.
func find(roots []string) (string, error) {
	var searched []string
	for _, root := range roots {
		for _, layout := range layouts {
			for _, name := range []string{"libopenvino_c.so.*", "libopenvino_c.so"} {
				pattern := filepath.Join(root, layout, name)
				searched = append(searched, pattern)
				matches, err := filepath.Glob(pattern)
				if err != nil || len(matches) == 0 {
					continue
				}
				path := slices.Max(matches)
				return path, checkCompanions(path)
			}
		}
	}
	return "", &dynlib.NotFoundError{Name: "OpenVINO", Searched: searched, Remedy: remedy}
}

// checkCompanions looks for the files without which the C API loads, but nothing works. What OpenVINO
// links to, such as TBB, the loader reports itself.
func checkCompanions(path string) error {
	dir := filepath.Dir(path)
	release := "*" // of the name: .2641 of libopenvino_c.so.2641
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		_, release, _ = strings.Cut(filepath.Base(resolved), ".so")
	}
	for _, companion := range []struct{ file, purpose string }{
		{"libopenvino.so" + release, "the OpenVINO runtime itself"},
		{"libopenvino_ir_frontend.so" + release, "OpenVINO's reader of IR models"},
		{"libopenvino_intel_cpu_plugin.so", "OpenVINO's CPU plugin"},
	} {
		// Distributions keep the plugins in a folder beside the libraries.
		searched := []string{filepath.Join(dir, companion.file), filepath.Join(dir, "openvino-*", companion.file)}
		if !slices.ContainsFunc(searched, exists) {
			return &dynlib.NotFoundError{
				Name:     companion.file + " (" + companion.purpose + ", needed by " + path + ")",
				Searched: searched, Remedy: remedy,
			}
		}
	}
	return nil
}

func exists(pattern string) bool {
	matches, err := filepath.Glob(pattern)
	return err == nil && slices.ContainsFunc(matches, func(path string) bool {
		_, err := os.Stat(path) // a dangling symlink does not count
		return err == nil
	})
}

// findTokenizers returns the extension with the tokenizer operations: the given file, or the one of
// the wheel beside libraries in dir.
func findTokenizers(given, dir string) (string, error) {
	const name = "libopenvino_tokenizers.so"
	searched := []string{given}
	if given == "" {
		searched = []string{
			filepath.Join(dir, "..", "..", "openvino_tokenizers", "lib", name),
			filepath.Join(dir, name),
		}
	}
	for _, path := range searched {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", &dynlib.NotFoundError{Name: name + " (OpenVINO's tokenizer operations)", Searched: searched, Remedy: remedy}
}
