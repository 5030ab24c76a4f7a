package main

import (
	"cmp"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/device/tuning"
	"genfn/functions/diffusion"
	"genfn/functions/model"
	"genfn/functions/runner/protocol"
)

// flagValues are the values that shells offer for a flag, by its name.
var flagValues = map[string][]string{
	"scheduler": diffusion.Names(),
	"format":    {"png", "jpeg", "webp"},
	"priority":  priorities,
	"fallback":  {events.FallbackAllowed, events.FallbackNever, events.FallbackDeadline},
	"degrade":   {events.DegradeAllowed, events.DegradeNever},
	"precision": tuning.Precisions,
	"runtime":   {openvinoRuntime, protocol.RuntimeONNXRuntime},
	"log-level": {"debug", "info", "warn", "error"},
}

var priorities = []string{string(broker.Interactive), string(broker.Batch)}

// addCompletion tells shells what the flags of cmd and of its sub-commands take.
func (s *settings) addCompletion(cmd *cobra.Command) {
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		complete := cobra.FixedCompletions(flagValues[f.Name], cobra.ShellCompDirectiveNoFileComp)
		switch f.Name {
		case "model", "preload":
			complete = s.completeModel
		case "models", "store-dir", "cache-dir", "openvino-dir", "onnxruntime-dir", "cuda-dir":
			complete = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
		case "out", "latents", "output-latents", "creds", "virtual-gpu-faults", "virtual-cuda-faults":
			return // files
		}
		if err := cmd.RegisterFlagCompletionFunc(f.Name, complete); err != nil {
			panic(err) // the flag is the command's own
		}
	})
	for _, sub := range cmd.Commands() {
		s.addCompletion(sub)
	}
}

// completeModel offers the models of --models, or of its default for a command without that flag.
func (s *settings) completeModel(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	store, err := model.OpenStore(cmp.Or(s.models, defaultModels()))
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names, err := store.Names()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
