package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"genfn/events"
	"genfn/functions/instance"
	"genfn/functions/model"
	"genfn/functions/pipeline"
)

func newModel(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "model",
		Short: "The models of a folder, checked",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{errors.New("expected list, show or check")}
		},
	}
	list := &cobra.Command{
		Use: "list", Short: "List the models of --models, and what is wrong with the others", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.listModels(cmd) },
	}
	show := &cobra.Command{
		Use: "show NAME", Short: "Everything known of a model of --models", Args: oneArg, ValidArgsFunction: s.completeModel,
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := model.OpenStore(s.models)
			if err != nil {
				return err
			}
			m, err := store.Get(args[0])
			if err != nil {
				return err
			}
			return s.showModel(cmd, m)
		},
	}
	check := &cobra.Command{
		Use: "check DIR", Short: "Read a model folder and say what is wrong with it", Args: oneArg,
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs),
		RunE: func(cmd *cobra.Command, args []string) error {
			if info, err := os.Stat(args[0]); err != nil || !info.IsDir() {
				return usageError{fmt.Errorf("%s: there is no such folder", args[0])}
			}
			m, err := model.Open(args[0])
			if err != nil {
				return err
			}
			return s.showModel(cmd, m)
		},
	}
	s.addModels(list)
	s.addModels(show)
	s.addCache(check)
	cmd.AddCommand(list, show, check)
	return cmd
}

func oneArg(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError{fmt.Errorf("%q takes one argument, %d given", cmd.CommandPath(), len(args))}
	}
	return nil
}

// openModels opens the model store for an instance.
func (s *settings) openModels() (instance.Models, error) {
	store, err := model.OpenStore(s.models)
	if err != nil {
		return nil, err
	}
	return instance.StoreModels(store, s.cache), nil
}

// modelInfo is what the model commands tell of a model.
type modelInfo struct {
	Name      string   `json:"name"`
	Dir       string   `json:"dir"`
	Class     string   `json:"class"`
	SHA256    string   `json:"sha256,omitempty"`
	Width     int      `json:"width"`
	Height    int      `json:"height"`
	SizeStep  int      `json:"size_step"`
	Sizes     []string `json:"sizes,omitempty"` // of an export with fixed shapes
	Steps     int      `json:"steps"`
	Guidance  float64  `json:"guidance_scale"`
	MaxTokens int      `json:"max_tokens"`
	Channels  int      `json:"latent_channels"`
	VAEScale  int      `json:"vae_scale"`
}

func infoOf(m *model.Model) modelInfo {
	info := modelInfo{
		Name: m.Name, Dir: m.Dir, Class: m.Class, SHA256: m.SHA256,
		Width: m.DefaultWidth, Height: m.DefaultHeight, SizeStep: m.SizeStep,
		Steps: m.DefaultSteps, Guidance: m.DefaultGuidance,
		MaxTokens: m.MaxTokens, Channels: m.LatentChannels, VAEScale: m.VAEScale,
	}
	for _, size := range m.FixedSizes {
		info.Sizes = append(info.Sizes, size.String())
	}
	return info
}

func (s *settings) listModels(cmd *cobra.Command) error {
	store, err := model.OpenStore(s.models)
	if err != nil {
		return err
	}
	models, problems := store.List()
	models = slices.DeleteFunc(models, func(m *model.Model) bool {
		_, err := pipeline.SchedulerConfig(m)
		if err != nil {
			problems = append(problems, err)
		}
		return err != nil
	})
	if s.json {
		out := struct {
			Models   []modelInfo     `json:"models"`
			Problems []*events.Error `json:"problems"`
		}{[]modelInfo{}, []*events.Error{}}
		for _, m := range models {
			out.Models = append(out.Models, infoOf(m))
		}
		for _, p := range problems {
			out.Problems = append(out.Problems, events.AsError(p))
		}
		printJSON(cmd.OutOrStdout(), out)
		return nil
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	for _, m := range models {
		fmt.Fprintf(w, "%s\t%s\t%dx%d\t%d steps\n", m.Name, m.Class, m.DefaultWidth, m.DefaultHeight, m.DefaultSteps)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, p := range problems {
		printError(cmd.ErrOrStderr(), p)
	}
	if len(models) == 0 && len(problems) == 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "no models in %s\n", s.models)
	}
	return nil
}

func (s *settings) showModel(cmd *cobra.Command, m *model.Model) error {
	if _, err := pipeline.SchedulerConfig(m); err != nil {
		return err
	}
	if err := m.Hash(cmd.Context(), s.cache, nil); err != nil {
		return err
	}
	info := infoOf(m)
	if s.json {
		printJSON(cmd.OutOrStdout(), info)
		return nil
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "name\t%s\nfolder\t%s\nclass\t%s\nsha256\t%s\n", info.Name, info.Dir, info.Class, info.SHA256)
	fmt.Fprintf(w, "size\t%dx%d, multiples of %d\n", info.Width, info.Height, info.SizeStep)
	if info.Sizes != nil {
		fmt.Fprintf(w, "only sizes\t%s\n", strings.Join(info.Sizes, ", "))
	}
	fmt.Fprintf(w, "steps\t%d\nguidance\t%g\n", info.Steps, info.Guidance)
	fmt.Fprintf(w, "prompt\tat most %d tokens\nlatents\t%d channels, 1/%d of the size\n", info.MaxTokens, info.Channels, info.VAEScale)
	return w.Flush()
}
