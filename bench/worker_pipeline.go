package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"genfn/bench/worker"
	"genfn/bindings/cuda"
	"genfn/bindings/kernels"
	"genfn/bindings/onnxruntime"
	"genfn/bindings/openvino"
	"genfn/events"
	"genfn/functions/cudadevice"
	"genfn/functions/imagefile"
	"genfn/functions/model"
	"genfn/functions/model/session"
	"genfn/functions/pipeline"
)

// pipelineRequest asks a pipeline worker, of either side, for one picture.
type pipelineRequest struct {
	Prompt string `json:"prompt"`
	Seed   uint64 `json:"seed"`
}

// generator is genfn's pipeline without the processes around it.
type generator struct {
	options  session.Options
	dir      string
	library  string
	onnx     string // folder of ONNX Runtime
	cuda     string // folder of CUDA's libraries: the networks' ONNX files then run with everything in a device's memory
	request  pipeline.ImageRequest
	first    *pipeline.Form // what is compiled beside the tokenizer; nil: nothing
	runtime  *openvino.Runtime
	device   *cudadevice.Device
	loader   *session.Loader
	pipeline *pipeline.TextToImage
}

func newPipelineWorker() *cobra.Command {
	g := &generator{}
	cmd := &cobra.Command{Use: "pipeline", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) (err error) {
		defer func() { err = errors.Join(err, g.close()) }()
		runtime.GOMAXPROCS(1) // as a runner
		if err := g.open(); err != nil {
			return err
		}
		return worker.Serve(os.Stdin, os.Stdout, worker.Answer{Texts: map[string]string{
			"openvino": g.runtime.Version(), "cpu_precision": g.defaultPrecision(),
		}}, func(raw json.RawMessage) (map[string]float64, error) {
			var r pipelineRequest
			if err := json.Unmarshal(raw, &r); err != nil {
				return nil, err
			}
			return g.generate(cmd.Context(), r)
		})
	}}
	g.add(cmd)
	return cmd
}

func (g *generator) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&g.dir, "model", "", "model folder")
	f.StringVar(&g.library, "openvino-dir", "", "OpenVINO's libraries")
	f.StringVar(&g.onnx, "onnxruntime-dir", "", "ONNX Runtime's library, for --cuda-dir")
	f.StringVar(&g.cuda, "cuda-dir", "", "libraries of a CUDA device that the picture is made on, with the driver's among them")
	f.StringVar(&g.options.CacheDir, "cache-dir", "", "for the kernels and the compile journal")
	f.IntVar(&g.options.Threads, "threads", 0, "of an inference")
	f.StringVar(&g.options.Precision, "precision", "", "of an inference")
	f.IntVar(&g.request.Width, "width", 0, "pixels")
	f.IntVar(&g.request.Height, "height", 0, "pixels")
	f.IntVar(&g.request.Steps, "steps", 0, "of the denoising")
	f.Float64Var(&g.request.GuidanceScale, "guidance", 1, "scale")
}

// newPictureWorker makes one picture and ends: genfn's start without broker, instance and runner.
func newPictureWorker() *cobra.Command {
	g := &generator{}
	var out string
	cmd := &cobra.Command{Use: "picture", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) (err error) {
		g.options.CacheCompiled = true
		g.first = &pipeline.Form{Width: g.request.Width, Height: g.request.Height, Guided: g.request.GuidanceScale > 1}
		defer func() { err = errors.Join(err, g.close()) }()
		if err := g.open(); err != nil {
			return err
		}
		g.request.Prompt, g.request.Seed = "a red apple", 1
		result, err := g.pipeline.Generate(cmd.Context(), g.request, nil)
		if err != nil {
			return err
		}
		png, err := imagefile.Encode(events.FormatPNG, result.Images[0], nil, imagefile.Options{})
		if err != nil {
			return err
		}
		if err := os.WriteFile(out, png.Data, 0o644); err != nil {
			return err
		}
		fmt.Println(out)
		return g.pipeline.Keep(cmd.Context())
	}}
	g.add(cmd)
	cmd.Flags().StringVar(&out, "out", "", "file of the picture")
	return cmd
}

func (g *generator) open() (err error) {
	set, err := kernels.Open(filepath.Join(g.options.CacheDir, "kernels"))
	if errors.Is(err, kernels.ErrNotBuilt) {
		set, err = kernels.Reference(), nil
	}
	if err != nil {
		return err
	}
	if g.runtime, err = openvino.Open(openvino.Options{LibraryDir: g.library}); err != nil {
		return err
	}
	if g.cuda != "" {
		if err := g.openCUDA(); err != nil {
			return err
		}
	}
	g.loader = session.NewLoader(g.runtime, g.options)
	m, err := model.Open(g.dir)
	if err != nil {
		return err
	}
	g.pipeline, err = pipeline.NewTextToImage(context.Background(), m, g.loader, set, pipeline.Options{First: g.first})
	return err
}

// openCUDA has the first CUDA device run the networks.
func (g *generator) openCUDA() (err error) {
	if g.options.ONNX, err = onnxruntime.Open(onnxruntime.Options{LibraryDir: g.onnx}); err != nil {
		return err
	}
	r, err := cuda.Open(cuda.Options{LibraryDir: g.cuda, DriverLibrary: filepath.Join(g.cuda, "libcuda.so.1")})
	if err != nil {
		return err
	}
	g.device, err = cudadevice.Open(r, 0, cudadevice.Options{LibraryDir: g.cuda, CacheDir: g.options.CacheDir})
	g.options.CUDA = g.device
	return err
}

// defaultPrecision is what the CPU takes when nobody asks for a precision; "" if it does not tell.
func (g *generator) defaultPrecision() string {
	core, err := g.runtime.NewCore()
	if err != nil {
		return ""
	}
	defer core.Close()
	precision, err := core.Property("CPU", "INFERENCE_PRECISION_HINT")
	if err != nil {
		return ""
	}
	return precision
}

// generate makes one picture and returns seconds of wall and CPU time, and milliseconds of the host's work in the
// denoising loop, per step.
func (g *generator) generate(ctx context.Context, r pipelineRequest) (map[string]float64, error) {
	request := g.request
	request.Prompt, request.Seed = r.Prompt, r.Seed
	used, began := cpuSeconds(), time.Now()
	result, err := g.pipeline.Generate(ctx, request, nil)
	if err != nil {
		return nil, err
	}
	wall := time.Since(began).Seconds()
	figures := map[string]float64{
		"wall": wall, "cpu": cpuSeconds() - used,
		"host_per_step": result.TimingsMS["denoise_host"] / float64(result.Steps),
		"dynamic":       float64(len(result.Degradations)),
	}
	for stage, ms := range result.TimingsMS {
		figures["ms_"+stage] = ms
	}
	return figures, nil
}

// cpuSeconds is the user and system time of this process so far.
func cpuSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func (g *generator) close() error {
	var errs []error
	if g.pipeline != nil {
		errs = append(errs, g.pipeline.Close())
	}
	if g.loader != nil {
		errs = append(errs, g.loader.Close())
	}
	errs = append(errs, g.device.Close(), g.options.ONNX.Close())
	if g.runtime != nil {
		errs = append(errs, g.runtime.Close())
	}
	return errors.Join(errs...)
}
