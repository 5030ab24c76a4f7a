package dynlib

import (
	"os"
	"path/filepath"
	"slices"
)

// InstallDirs returns where an installation of native parts is looked for: the folder that the environment variable
// env names if it is set; else .runtime/name, which make fills, beside the folder of this program (bin/) and in the
// working directory.
func InstallDirs(env, name string) []string {
	if dir := os.Getenv(env); dir != "" {
		return []string{dir}
	}
	installed := filepath.Join(".runtime", name)
	var dirs []string
	if exe, err := os.Executable(); err == nil {
		if resolved, err := filepath.EvalSymlinks(exe); err == nil {
			exe = resolved
		}
		dirs = append(dirs, filepath.Join(filepath.Dir(filepath.Dir(exe)), installed))
	}
	if wd, err := os.Getwd(); err == nil {
		dirs = append(dirs, filepath.Join(wd, installed))
	}
	return slices.Compact(dirs)
}
