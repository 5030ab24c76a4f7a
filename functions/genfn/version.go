package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"genfn/bindings/kernels"
	"genfn/bindings/onnxruntime"
	"genfn/bindings/openvino"
	"genfn/bindings/tensor"
)

// versionInfo is what `genfn version` tells.
type versionInfo struct {
	Genfn    string `json:"genfn"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Kernels  string `json:"kernels"` // "native" or "go"
	ISA      string `json:"kernels_isa,omitempty"`
	Note     string `json:"kernels_note,omitempty"`
	OpenVINO string `json:"openvino,omitempty"`
	ONNX     string `json:"onnxruntime,omitempty"` // not there: no problem, it is optional
	Problem  string `json:"openvino_problem,omitempty"`
}

func newVersion(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Versions of genfn, its kernels and OpenVINO",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			info := s.versions()
			if s.json {
				printJSON(cmd.OutOrStdout(), info)
				return nil
			}
			info.print(cmd)
			return nil
		},
	}
	s.addCache(cmd)
	s.addRuntime(cmd)
	s.addONNXRuntime(cmd)
	return cmd
}

func (s *settings) versions() versionInfo {
	info := versionInfo{Genfn: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	set, err := kernels.Open(s.cache)
	if err != nil {
		info.Note = err.Error()
		set = kernels.Reference()
	}
	info.Kernels, info.ISA = set.Info().Backend, set.Info().ISA
	if onnx, err := onnxruntime.Open(onnxruntime.Options{LibraryDir: s.onnx}); err == nil {
		defer onnx.Close()
		info.ONNX = onnx.Version()
	}
	ov, err := openvino.Open(openvino.Options{LibraryDir: s.openvino, Ledger: tensor.NewLedger()})
	if err != nil {
		info.Problem = err.Error()
		return info
	}
	defer ov.Close()
	info.OpenVINO = ov.Version()
	return info
}

func (v versionInfo) print(cmd *cobra.Command) {
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "genfn    %s (%s, %s)\n", v.Genfn, v.Go, v.Platform)
	fmt.Fprintf(w, "kernels  %s %s\n", v.Kernels, v.ISA)
	if v.Note != "" {
		fmt.Fprintf(w, "         %s\n", v.Note)
	}
	if v.ONNX != "" {
		fmt.Fprintf(w, "onnxruntime %s\n", v.ONNX)
	}
	if v.Problem != "" {
		fmt.Fprintf(w, "openvino not usable: %s\n", v.Problem)
		return
	}
	fmt.Fprintf(w, "openvino %s\n", v.OpenVINO)
}
