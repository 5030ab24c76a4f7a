package diffusion

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// The diffusers classes.
const (
	classDDIM           = "DDIMScheduler"
	classPNDM           = "PNDMScheduler"
	classEuler          = "EulerDiscreteScheduler"
	classEulerAncestral = "EulerAncestralDiscreteScheduler"
	classLCM            = "LCMScheduler"
	classDPM            = "DPMSolverMultistepScheduler"
	classUniPC          = "UniPCMultistepScheduler"
	classFlowMatch      = "FlowMatchEulerDiscreteScheduler"
)

// Prediction types: what the model's output means.
const (
	predictEpsilon = "epsilon"
	predictSample  = "sample"
	predictV       = "v_prediction"
	predictFlow    = "flow_prediction"
)

// class is one diffusers scheduler class: the keys it reads with their defaults, and what it supports of them.
type class struct {
	name     string
	defaults map[string]any
	// choices are the supported values of string keys. Keys that are absent here are checked in check.
	choices map[string][]string
	check   func(*settings) *ConfigError
	make    func(*settings) Scheduler
}

var (
	spacings   = []string{"leading", "trailing", "linspace"}
	schedules  = []string{"linear", "scaled_linear", "squaredcos_cap_v2"}
	threeKinds = []string{predictEpsilon, predictSample, predictV}
	fourKinds  = []string{predictEpsilon, predictSample, predictV, predictFlow}
)

// tableDefaults are the keys of all classes with a table of betas.
func tableDefaults(extra map[string]any) map[string]any {
	out := map[string]any{
		"num_train_timesteps": 1000,
		"beta_start":          0.0001,
		"beta_end":            0.02,
		"beta_schedule":       "linear",
		"trained_betas":       nil,
		"prediction_type":     predictEpsilon,
		"steps_offset":        0,
	}
	maps.Copy(out, extra)
	return out
}

// classes lists what is supported. The defaults are those of the constructors in diffusers 0.42.1.
func classes() []*class {
	return []*class{
		ddimClass(),
		pndmClass(),
		eulerClass(),
		eulerAncestralClass(),
		lcmClass(),
		dpmClass(),
		unipcClass(),
		flowMatchClass(),
	}
}

// unreadKeys are keys of diffusers schedulers that are not supported as classes. Files keep them when the class was
// changed with from_config; no supported class reads them.
var unreadKeys = []string{
	"clip_denoised", "corrector_order", "noise_sampler_seed", "predictor_order", "rho", "s_churn", "s_noise",
	"sigma_data", "sigma_schedule", "snr_shift_scale", "tau_func",
}

// knownKey says whether a key may stand in a file: some supported class reads it, or it changes no numbers.
// Keys with an underscore in front are diffusers' own bookkeeping (_class_name, _diffusers_version, ...).
func knownKey(key string) bool {
	_, read := fields[key]
	return read || strings.HasPrefix(key, "_") || slices.Contains(unreadKeys, key)
}

// shortNames are the scheduler names in common use, see presets.
var shortNames = []string{
	"ddim", "pndm", "euler", "euler_ancestral", "lcm", "dpmpp_2m", "dpmpp_2m_karras", "dpmpp_2m_sde",
	"dpmpp_2m_sde_karras", "unipc", "flow_match_euler",
}

// preset is a class with the values that a short name implies.
type preset struct {
	class    string
	override map[string]json.RawMessage
}

var presets = map[string]preset{
	"ddim":                {class: classDDIM},
	"pndm":                {class: classPNDM},
	"euler":               {class: classEuler},
	"euler_ancestral":     {class: classEulerAncestral},
	"lcm":                 {class: classLCM},
	"dpmpp_2m":            dpmPreset("dpmsolver++", false),
	"dpmpp_2m_karras":     dpmPreset("dpmsolver++", true),
	"dpmpp_2m_sde":        dpmPreset("sde-dpmsolver++", false),
	"dpmpp_2m_sde_karras": dpmPreset("sde-dpmsolver++", true),
	"unipc":               {class: classUniPC},
	"flow_match_euler":    {class: classFlowMatch},
}

func dpmPreset(algorithm string, karras bool) preset {
	return preset{class: classDPM, override: map[string]json.RawMessage{
		"algorithm_type":         json.RawMessage(quoted(algorithm)),
		"solver_order":           json.RawMessage("2"),
		"use_karras_sigmas":      json.RawMessage(quoted(karras)),
		"use_exponential_sigmas": json.RawMessage("false"),
		"use_beta_sigmas":        json.RawMessage("false"),
		"use_lu_lambdas":         json.RawMessage("false"),
	}}
}

func findClass(name string) *class {
	all := classes()
	if i := slices.IndexFunc(all, func(c *class) bool { return c.name == name }); i >= 0 {
		return all[i]
	}
	return nil
}

func classNames() []string {
	var out []string
	for _, c := range classes() {
		out = append(out, c.name)
	}
	return out
}

// readKeys are the keys the class reads, sorted.
func readKeys(c *class) []string { return slices.Sorted(maps.Keys(c.defaults)) }

// checkSettings checks what the class reads; the error carries no class name yet.
func (c *class) checkSettings(s *settings) *ConfigError {
	for _, key := range slices.Sorted(maps.Keys(c.choices)) {
		if got := *fields[key](s).(*string); !slices.Contains(c.choices[key], got) {
			return invalid(key, got, "supported: "+strings.Join(c.choices[key], ", "))
		}
	}
	if s.numTrain < 2 || s.numTrain > maxTrainTimesteps {
		return invalid("num_train_timesteps", s.numTrain, fmt.Sprintf("expected 2 to %d", maxTrainTimesteps))
	}
	if err := checkFinite(c, s); err != nil {
		return err
	}
	if _, ok := c.defaults["beta_start"]; ok {
		if err := checkBetas(s); err != nil {
			return err
		}
	}
	if err := checkSigmaSpacing(s); err != nil {
		return err
	}
	if s.thresholding && (s.thresholdRatio < 0 || s.thresholdRatio > 1) {
		return invalid("dynamic_thresholding_ratio", s.thresholdRatio, "expected 0 to 1")
	}
	if s.thresholding && s.sampleMax <= 0 {
		return invalid("sample_max_value", s.sampleMax, "expected more than 0")
	}
	if s.clipSample && s.clipSampleRange <= 0 {
		return invalid("clip_sample_range", s.clipSampleRange, "expected more than 0 with clip_sample")
	}
	if c.check != nil {
		return c.check(s)
	}
	return nil
}

// checkFinite rejects -Infinity, which decode lets pass for lambda_min_clipped.
func checkFinite(c *class, s *settings) *ConfigError {
	for _, key := range readKeys(c) {
		if f, ok := fields[key](s).(*float64); ok && math.IsInf(*f, 0) && key != "lambda_min_clipped" {
			return invalid(key, *f, "expected a finite number")
		}
	}
	return nil
}

func checkBetas(s *settings) *ConfigError {
	if s.trainedBetas == nil {
		if s.betaStart < 0 || s.betaStart >= 1 {
			return invalid("beta_start", s.betaStart, "expected at least 0 and less than 1")
		}
		if s.betaEnd <= 0 || s.betaEnd >= 1 {
			return invalid("beta_end", s.betaEnd, "expected more than 0 and less than 1")
		}
		return nil
	}
	if len(s.trainedBetas) != s.numTrain {
		return invalid("trained_betas", s.trainedBetas, fmt.Sprintf("has %d numbers, expected num_train_timesteps = %d", len(s.trainedBetas), s.numTrain))
	}
	for _, b := range s.trainedBetas {
		if !(b >= 0 && b <= 1) {
			return invalid("trained_betas", s.trainedBetas, fmt.Sprintf("holds %v, expected numbers from 0 to 1", b))
		}
	}
	return nil
}

// checkSigmaSpacing checks the keys that respace sigmas.
func checkSigmaSpacing(s *settings) *ConfigError {
	if s.betaSigmas {
		return invalid("use_beta_sigmas", true, "supported: false")
	}
	if s.karrasSigmas && s.exponentialSigmas {
		return invalid("use_exponential_sigmas", true, "only one of use_karras_sigmas and use_exponential_sigmas may be true")
	}
	for key, v := range map[string]*float64{"sigma_min": s.sigmaMin, "sigma_max": s.sigmaMax} {
		if v != nil && *v <= 0 && (s.karrasSigmas || s.exponentialSigmas) {
			return invalid(key, *v, "expected more than 0 with Karras or exponential sigmas")
		}
	}
	return nil
}

func invalid(key string, value any, expected string) *ConfigError {
	return &ConfigError{Key: key, Value: quoted(value), Expected: expected}
}
