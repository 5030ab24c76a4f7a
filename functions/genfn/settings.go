package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"genfn/functions/runner"
	"genfn/functions/runner/crashreport"
)

// settings are the flags that several commands share.
type settings struct {
	nats     string
	creds    string
	models   string
	openvino string
	onnx     string
	cache    string
	logLevel string
	json     bool
}

func (s *settings) addGlobal(root *cobra.Command) {
	f := root.PersistentFlags()
	f.BoolVar(&s.json, "json", false, "print JSON for programs")
	f.StringVar(&s.logLevel, "log-level", "info", "debug, info, warn or error; logs go to standard error")
}

// addNATS adds the flags of a command that connects to a broker.
func (s *settings) addNATS(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.nats, "nats", cmp.Or(os.Getenv("GENFN_NATS"), "nats://127.0.0.1:4222"), "URL of the NATS server, several separated by commas (env GENFN_NATS)")
	cmd.Flags().StringVar(&s.creds, "creds", os.Getenv("GENFN_CREDS"), "NATS credentials file (env GENFN_CREDS)")
}

// addModels adds the flag of the model store.
func (s *settings) addModels(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.models, "models", defaultModels(), "folder whose sub-folders are models (env GENFN_MODELS)")
	s.addCache(cmd)
}

func (s *settings) addCache(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.cache, "cache-dir", defaultCache(), "folder for compiled models, unpacked kernels, compile journals and crash reports (env GENFN_CACHE_DIR)")
}

// addRuntime adds the flag that says where OpenVINO is.
func (s *settings) addRuntime(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.openvino, "openvino-dir", os.Getenv("GENFN_OPENVINO_DIR"), "folder with the OpenVINO libraries (env GENFN_OPENVINO_DIR; default: .runtime/openvino beside the binary or here)")
}

// addONNXRuntime adds the flag that says where ONNX Runtime is.
func (s *settings) addONNXRuntime(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.onnx, "onnxruntime-dir", os.Getenv("GENFN_ONNXRUNTIME_DIR"), "folder with the library of ONNX Runtime (env GENFN_ONNXRUNTIME_DIR; default: .runtime/onnxruntime beside the binary or here)")
}

func (s *settings) logger(cmd *cobra.Command) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.logLevel)); err != nil {
		return nil, usageError{fmt.Errorf("--log-level %q: expected debug, info, warn or error", s.logLevel)}
	}
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level})), nil
}

// defaultModels is GENFN_MODELS, else the models of a checkout (./deploy/models, or beside the binary's
// folder), else the user's data folder.
func defaultModels() string {
	if dir := os.Getenv("GENFN_MODELS"); dir != "" {
		return dir
	}
	candidates := []string{filepath.Join("deploy", "models")}
	if exe, err := os.Executable(); err == nil {
		candidates = append(candidates, filepath.Join(filepath.Dir(exe), "..", "deploy", "models"))
	}
	for _, dir := range candidates {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return filepath.Clean(dir)
		}
	}
	return filepath.Join(dataDir(), "models")
}

func defaultCache() string {
	if dir := os.Getenv("GENFN_CACHE_DIR"); dir != "" {
		return dir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return temporaryDir()
	}
	return filepath.Join(dir, "genfn")
}

// crashReports are in the cache: they may be removed at any time.
func (s *settings) crashReports() *crashreport.Store {
	return crashreport.NewStore(filepath.Join(s.cache, "crashes"))
}

// dataDir is where what must survive a restart lives by default: $XDG_DATA_HOME/genfn.
func dataDir() string {
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "genfn")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return temporaryDir()
	}
	return filepath.Join(home, ".local", "share", "genfn")
}

// temporaryDir takes the place of the user's folders for a user who has none.
func temporaryDir() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("genfn-%d", os.Getuid()))
}

// checkTemporary makes the temporary folder if a folder of cmd lies in it, and refuses one that another user made
// or can write: native libraries are opened from the cache.
func checkTemporary(cmd *cobra.Command) error {
	dir := temporaryDir()
	for _, name := range []string{"cache-dir", "models", "store-dir"} {
		f := cmd.Flags().Lookup(name)
		if f == nil || !strings.HasPrefix(filepath.Clean(f.Value.String())+"/", dir+"/") {
			continue
		}
		if err := runner.MakePrivate(dir); err != nil {
			return fmt.Errorf("--%s %s cannot be used, choose another folder: %w", name, f.Value, err)
		}
	}
	return nil
}
