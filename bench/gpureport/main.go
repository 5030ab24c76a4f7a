// Command gpureport tries genfn's CUDA parts on a machine that has an NVIDIA GPU, and leaves a report. `make gpu-report`
// puts it into a folder with the tests that it runs, CUDA's runtime library and the kernels' code, so that the machine
// needs nothing but its driver and glibc:
//
//	bin/gpu-report/bin/gpureport run --out FOLDER
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"genfn/bindings/cuda"
	"genfn/bindings/cuda/nvrtc"
	"genfn/bindings/kernels"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newRoot().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "gpureport:", err)
		os.Exit(1)
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{Use: "gpureport", Short: "Tries genfn's CUDA parts on this machine's NVIDIA GPU", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(newRun(), newCompile(), newProbe())
	return root
}

// errFailed says that the report tells of failures.
var errFailed = errors.New("not everything passed: see the report")

func newRun() *cobra.Command {
	var out, folder string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "run", Short: "Run the tests and fault stories and write report.md and report.json", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if folder == "" {
				exe, err := os.Executable()
				if err != nil {
					return err
				}
				folder = filepath.Dir(exe)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			r, err := collect(ctx, folder)
			if err != nil {
				return err
			}
			if err := r.write(out); err != nil {
				return err
			}
			r.markdown(cmd.OutOrStdout())
			if !r.OK() {
				return errFailed
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "folder for report.md, report.json and the tests' whole output")
	cmd.Flags().StringVar(&folder, "tests", "", "folder of the *.test programs (default: that of this program)")
	cmd.Flags().DurationVar(&timeout, "timeout", 4*time.Minute, "for all of it; what has not run by then is said so")
	_ = cmd.MarkFlagRequired("out") // the flag exists
	return cmd
}

// architectures are those that code is compiled for beforehand: data-centre and consumer GPUs since 2020.
var architectures = []string{"sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"}

// newCompile compiles the kernels where NVRTC is, for machines where it is not.
func newCompile() *cobra.Command {
	return &cobra.Command{
		Use: "compile LINE CUDA FOLDER", Short: "Compile the kernels with the NVRTC of a CUDA installation to FOLDER/LINE", Args: cobra.ExactArgs(3),
		RunE: func(_ *cobra.Command, args []string) error {
			line, err := strconv.Atoi(args[0])
			if err != nil {
				return fmt.Errorf("LINE %q: expected 12 or 13", args[0])
			}
			compiler, err := nvrtc.Open(nvrtc.Options{LibraryDir: args[1], Newest: line})
			if err != nil {
				return err
			}
			folder := filepath.Join(args[2], args[0])
			if err := os.MkdirAll(folder, 0o755); err != nil {
				return err
			}
			for _, architecture := range append([]string{"compute_80"}, architectures...) {
				code, err := kernels.Compile(compiler, architecture)
				if err != nil {
					return err
				}
				name, content := architecture+".cubin", code.Cubin
				if len(content) == 0 {
					name, content = architecture+".ptx", code.PTX
				}
				if err := os.WriteFile(filepath.Join(folder, name), content, 0o644); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// facts are what is known of a machine's CUDA.
type facts struct {
	Error         string   `json:"error,omitempty"` // why there is no device to test
	KernelDriver  string   `json:"kernel_driver,omitempty"`
	DriverCUDA    string   `json:"driver_cuda,omitempty"`
	Runtime       string   `json:"runtime,omitempty"`
	RuntimePath   string   `json:"runtime_path,omitempty"`
	NVRTC         string   `json:"nvrtc,omitempty"` // version and path, or why there is none
	Installations []string `json:"installations,omitempty"`
	Devices       []gpu    `json:"devices,omitempty"`
}

type gpu struct {
	Name            string `json:"name"`
	Architecture    string `json:"architecture"`
	PCI             string `json:"pci"`
	Multiprocessors int    `json:"multiprocessors"`
	FreeMemory      int64  `json:"free_memory"`
	TotalMemory     int64  `json:"total_memory"`
	L2Cache         int    `json:"l2_cache"`
	ECC             bool   `json:"ecc"`
}

// newProbe prints the facts. It is a process of its own, because a driver may crash.
func newProbe() *cobra.Command {
	return &cobra.Command{
		Use: "probe", Short: "Print what is known of this machine's CUDA as JSON", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return probe(cmd.OutOrStdout()) },
	}
}

func probe(out io.Writer) error {
	f := facts{KernelDriver: cuda.KernelDriver()}
	f.Installations, _ = filepath.Glob("/usr/local/cuda*") // the pattern is a good one
	if err := f.look(); err != nil {
		f.Error = err.Error()
	}
	return json.NewEncoder(out).Encode(f)
}

func (f *facts) look() error {
	r, err := cuda.Open(cuda.Options{})
	if err != nil {
		return err
	}
	f.DriverCUDA, f.Runtime, f.RuntimePath = r.DriverVersion().String(), r.Version().String(), r.Library()
	if compiler, err := nvrtc.Open(nvrtc.Options{Newest: r.DriverVersion().Major()}); err != nil {
		f.NVRTC = "none: the kernels' code was compiled beforehand"
	} else {
		f.NVRTC = compiler.Version() + " " + compiler.Library()
	}
	n, err := r.DeviceCount()
	if err != nil {
		return err
	}
	if n == 0 {
		return errors.New("CUDA sees no device")
	}
	for i := range n {
		g, err := describe(r, i)
		if err != nil {
			return err
		}
		f.Devices = append(f.Devices, g)
	}
	return nil
}

func describe(r *cuda.Runtime, ordinal int) (g gpu, err error) {
	id, err := r.Identify(ordinal)
	if err != nil {
		return g, err
	}
	d, err := r.OpenDevice(ordinal)
	if err != nil {
		return g, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	g.Name = id.Name
	var errs [7]error
	g.Architecture, errs[0] = d.Architecture()
	g.PCI, errs[1] = d.PCI()
	g.FreeMemory, g.TotalMemory, errs[2] = d.Memory()
	g.Multiprocessors, errs[3] = d.Attribute(cuda.MultiProcessorCount)
	g.L2Cache, errs[4] = d.Attribute(cuda.L2CacheSize)
	ecc, err := d.Attribute(cuda.ECCEnabled)
	g.ECC, errs[5] = ecc == 1, err
	return g, errors.Join(errs[:]...)
}
