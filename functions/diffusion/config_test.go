package diffusion_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/functions/diffusion"
)

// Scheduler files as published models hold them.
var published = map[string]string{
	"stable-diffusion-v1-5": `{"_class_name":"PNDMScheduler","_diffusers_version":"0.6.0","beta_end":0.012,"beta_schedule":"scaled_linear","beta_start":0.00085,"num_train_timesteps":1000,"set_alpha_to_one":false,"skip_prk_steps":true,"steps_offset":1,"trained_betas":null,"clip_sample":false}`,
	"sdxl-base":             `{"_class_name":"EulerDiscreteScheduler","_diffusers_version":"0.19.0.dev0","beta_end":0.012,"beta_schedule":"scaled_linear","beta_start":0.00085,"clip_sample":false,"interpolation_type":"linear","num_train_timesteps":1000,"prediction_type":"epsilon","sample_max_value":1.0,"set_alpha_to_one":false,"skip_prk_steps":true,"steps_offset":1,"timestep_spacing":"leading","trained_betas":null,"use_karras_sigmas":false}`,
	"sd-turbo":              `{"_class_name":"EulerDiscreteScheduler","beta_end":0.012,"beta_schedule":"scaled_linear","beta_start":0.00085,"clip_sample":false,"interpolation_type":"linear","num_train_timesteps":1000,"prediction_type":"epsilon","sample_max_value":1.0,"set_alpha_to_one":false,"sigma_max":null,"sigma_min":null,"skip_prk_steps":true,"steps_offset":1,"timestep_spacing":"trailing","timestep_type":"discrete","trained_betas":null,"use_karras_sigmas":false}`,
	"lcm":                   `{"_class_name":"LCMScheduler","_diffusers_version":"0.22.0.dev0","beta_end":0.012,"beta_schedule":"scaled_linear","beta_start":0.00085,"clip_sample":false,"clip_sample_range":1.0,"dynamic_thresholding_ratio":0.995,"num_train_timesteps":1000,"original_inference_steps":50,"prediction_type":"epsilon","rescale_betas_zero_snr":false,"sample_max_value":1.0,"set_alpha_to_one":true,"steps_offset":0,"thresholding":false,"timestep_scaling":10.0,"timestep_spacing":"leading","trained_betas":null}`,
	"dpm-saved-by-python":   `{"_class_name":"DPMSolverMultistepScheduler","algorithm_type":"dpmsolver++","beta_end":0.012,"beta_schedule":"scaled_linear","beta_start":0.00085,"dynamic_thresholding_ratio":0.995,"euler_at_final":false,"final_sigmas_type":"zero","lambda_min_clipped":-Infinity,"lower_order_final":true,"num_train_timesteps":1000,"prediction_type":"epsilon","sample_max_value":1.0,"solver_order":2,"solver_type":"midpoint","steps_offset":0,"thresholding":false,"timestep_spacing":"linspace","trained_betas":null,"use_karras_sigmas":false,"use_lu_lambdas":false,"variance_type":null}`,
	"sd3":                   `{"_class_name":"FlowMatchEulerDiscreteScheduler","_diffusers_version":"0.29.0.dev0","num_train_timesteps":1000,"shift":3.0}`,
	"flux-dev":              `{"_class_name":"FlowMatchEulerDiscreteScheduler","base_image_seq_len":256,"base_shift":0.5,"max_image_seq_len":4096,"max_shift":1.15,"num_train_timesteps":1000,"shift":3.0,"use_dynamic_shifting":true}`,
}

func parse(t *testing.T, text string) *diffusion.Config {
	t.Helper()
	c, err := diffusion.ParseConfig([]byte(text))
	require.NoError(t, err)
	return c
}

func TestPublishedFiles(t *testing.T) {
	for name, text := range published {
		c := parse(t, text)
		s, err := diffusion.New(c)
		require.NoError(t, err)
		require.Equal(t, c.Class(), s.Class())
		o := diffusion.Options{}
		if c.NeedsMu() {
			mu, err := c.ResolutionShift(1024)
			require.NoError(t, err)
			o.Mu = &mu
		}
		require.NoError(t, s.Begin(20, 1, 4, o), name)
		require.NotEmpty(t, s.Timesteps())
	}
}

// Every published model can be run with every scheduler.
func TestEveryNameOnPublishedFiles(t *testing.T) {
	for model, text := range published {
		for _, name := range diffusion.Names() {
			c, err := parse(t, text).WithClass(name)
			require.NoError(t, err, "%s on %s", name, model)
			s, err := diffusion.New(c)
			require.NoError(t, err)
			mu, fewest := 0.5, 1
			if c.Class() == "PNDMScheduler" {
				fewest = 4 // the Runge-Kutta steps of files without skip_prk_steps
			}
			for steps := fewest; steps <= 50; steps++ {
				o := diffusion.Options{}
				if c.NeedsMu() {
					o.Mu = &mu
				}
				require.NoError(t, s.Begin(steps, 1, 1, o), "%s on %s, %d steps", name, model, steps)
				requireDescending(t, s.Timesteps())
			}
		}
	}
}

func requireDescending(t *testing.T, timesteps []float64) {
	t.Helper()
	require.NotEmpty(t, timesteps)
	for i := 1; i < len(timesteps); i++ {
		require.LessOrEqual(t, timesteps[i], timesteps[i-1])
	}
	require.GreaterOrEqual(t, timesteps[len(timesteps)-1], 0.0)
}

func TestConfigErrors(t *testing.T) {
	for _, c := range []struct{ keys, key, expected string }{
		{`"_class_name":"HeunDiscreteScheduler"`, "_class_name", "DDIMScheduler, PNDMScheduler"},
		{`"_class_name":["a","b"]`, "_class_name", "name of a class"},
		{`"beta_start":0.1`, "_class_name", `key "_class_name" is missing; supported: `},
		{`"_class_name":"DDIMScheduler","beta_first":0.1`, "beta_first", `key "beta_first" is unknown; known keys: beta_end, `},
		{`"_class_name":"DDIMScheduler","beta_schedule":"sigmoid"`, "beta_schedule", "linear, scaled_linear, squaredcos_cap_v2"},
		{`"_class_name":"DDIMScheduler","beta_schedule":null`, "beta_schedule", "string"},
		{`"_class_name":"DDIMScheduler","prediction_type":"flow_prediction"`, "prediction_type", "epsilon, sample, v_prediction"},
		{`"_class_name":"PNDMScheduler","prediction_type":"sample"`, "prediction_type", "epsilon, v_prediction"},
		{`"_class_name":"DDIMScheduler","timestep_spacing":"even"`, "timestep_spacing", "leading, trailing, linspace"},
		{`"_class_name":"DDIMScheduler","beta_start":NaN`, "beta_start", "finite number"},
		{`"_class_name":"DDIMScheduler","beta_start":-Infinity`, "beta_start", "finite number"},
		{`"_class_name":"DDIMScheduler","beta_end":Infinity`, "beta_end", "finite number"},
		{`"_class_name":"DDIMScheduler","beta_end":"0.1"`, "beta_end", "finite number"},
		{`"_class_name":"DDIMScheduler","beta_end":null`, "beta_end", "finite number"},
		{`"_class_name":"DDIMScheduler","beta_start":-0.1`, "beta_start", "at least 0"},
		{`"_class_name":"DDIMScheduler","beta_end":1`, "beta_end", "less than 1"},
		{`"_class_name":"DDIMScheduler","num_train_timesteps":1000.0`, "num_train_timesteps", "integer"},
		{`"_class_name":"DDIMScheduler","num_train_timesteps":1`, "num_train_timesteps", "2 to"},
		{`"_class_name":"DDIMScheduler","num_train_timesteps":1000000`, "num_train_timesteps", "2 to"},
		{`"_class_name":"DDIMScheduler","clip_sample":1`, "clip_sample", "true or false"},
		{`"_class_name":"DDIMScheduler","clip_sample_range":0`, "clip_sample_range", "more than 0"},
		{`"_class_name":"DDIMScheduler","thresholding":true,"dynamic_thresholding_ratio":1.5`, "dynamic_thresholding_ratio", "0 to 1"},
		{`"_class_name":"DDIMScheduler","thresholding":true,"sample_max_value":0`, "sample_max_value", "more than 0"},
		{`"_class_name":"DDIMScheduler","trained_betas":[0.1,0.2]`, "trained_betas", "num_train_timesteps = 1000"},
		{`"_class_name":"DDIMScheduler","num_train_timesteps":2,"trained_betas":[0.1,2]`, "trained_betas", "0 to 1"},
		{`"_class_name":"DDIMScheduler","trained_betas":"x"`, "trained_betas", "list"},
		{`"_class_name":"DDIMScheduler","_use_default_values":1`, "_use_default_values", "list"},
		{`"_class_name":"EulerDiscreteScheduler","use_beta_sigmas":true`, "use_beta_sigmas", "false"},
		{`"_class_name":"EulerDiscreteScheduler","use_karras_sigmas":true,"use_exponential_sigmas":true`, "use_exponential_sigmas", "only one"},
		{`"_class_name":"EulerDiscreteScheduler","use_karras_sigmas":true,"sigma_min":0`, "sigma_min", "more than 0"},
		{`"_class_name":"EulerDiscreteScheduler","sigma_max":true`, "sigma_max", "number"},
		{`"_class_name":"EulerDiscreteScheduler","interpolation_type":"cubic"`, "interpolation_type", "log_linear"},
		{`"_class_name":"EulerDiscreteScheduler","final_sigmas_type":"one"`, "final_sigmas_type", "sigma_min"},
		{`"_class_name":"EulerAncestralDiscreteScheduler","prediction_type":"sample"`, "prediction_type", "epsilon, v_prediction"},
		{`"_class_name":"LCMScheduler","original_inference_steps":0`, "original_inference_steps", "1 to"},
		{`"_class_name":"DPMSolverMultistepScheduler","solver_order":4`, "solver_order", "1, 2, 3"},
		{`"_class_name":"DPMSolverMultistepScheduler","algorithm_type":"dpmsolver"`, "final_sigmas_type", "sigma_min"},
		{`"_class_name":"DPMSolverMultistepScheduler","algorithm_type":"sde-dpmsolver","final_sigmas_type":"sigma_min","solver_order":3`, "solver_order", "1, 2"},
		{`"_class_name":"DPMSolverMultistepScheduler","algorithm_type":"dpmsolver","final_sigmas_type":"sigma_min","prediction_type":"flow_prediction"`, "prediction_type", "v_prediction"},
		{`"_class_name":"DPMSolverMultistepScheduler","variance_type":"learned_range"`, "variance_type", "not supported"},
		{`"_class_name":"DPMSolverMultistepScheduler","variance_type":1`, "variance_type", "string or null"},
		{`"_class_name":"DPMSolverMultistepScheduler","flow_shift":0`, "flow_shift", "more than 0"},
		{`"_class_name":"DPMSolverMultistepScheduler","time_shift_type":"linear"`, "time_shift_type", "exponential"},
		{`"_class_name":"UniPCMultistepScheduler","solver_p":{}`, "solver_p", "null"},
		{`"_class_name":"UniPCMultistepScheduler","solver_type":"bh1"`, "solver_type", "bh2"},
		{`"_class_name":"UniPCMultistepScheduler","solver_order":0`, "solver_order", "1, 2, 3"},
		{`"_class_name":"UniPCMultistepScheduler","predict_x0":false,"prediction_type":"flow_prediction"`, "prediction_type", "v_prediction"},
		{`"_class_name":"UniPCMultistepScheduler","shift_terminal":0.1`, "shift_terminal", "use_flow_sigmas"},
		{`"_class_name":"UniPCMultistepScheduler","use_flow_sigmas":true,"shift_terminal":1`, "shift_terminal", "less than 1"},
		{`"_class_name":"UniPCMultistepScheduler","disable_corrector":[0.5]`, "disable_corrector", "integers"},
		{`"_class_name":"FlowMatchEulerDiscreteScheduler","shift":0`, "shift", "more than 0"},
		{`"_class_name":"FlowMatchEulerDiscreteScheduler","time_shift_type":"x"`, "time_shift_type", "linear"},
		{`"_class_name":"FlowMatchEulerDiscreteScheduler","max_image_seq_len":256`, "max_image_seq_len", "base_image_seq_len"},
	} {
		_, err := diffusion.ParseConfig([]byte("{" + c.keys + "}"))
		var config *diffusion.ConfigError
		require.ErrorAs(t, err, &config, c.keys)
		require.Equal(t, c.key, config.Key, c.keys)
		require.Contains(t, err.Error(), c.expected, c.keys)
		require.Contains(t, err.Error(), fmt.Sprintf("%q", c.key))
	}
}

func TestNotAConfig(t *testing.T) {
	for _, text := range []string{"", "null", "[]", "1", "{", `{"a":1} x`, `{"_class_name":"DDIMScheduler"}{}`, "NaN", `{"a":"`, `{"a":"\`, "{\"_class_name\":\"DDIMScheduler\"," + strings.Repeat(" ", 1<<20) + "}"} {
		_, err := diffusion.ParseConfig([]byte(text))
		require.Error(t, err, text)
	}
}

func TestWordsOfPythonInsideStrings(t *testing.T) {
	_, err := diffusion.ParseConfig([]byte(`{"_class_name":"DDIMScheduler","_note":"\"NaN and -Infinity\\","lambda_min_clipped":-Infinity}`))
	require.NoError(t, err)
}

// A key marked as defaulted counts as absent when the class changes (extract_init_dict of diffusers).
func TestDefaultedKeysDoNotCarryOver(t *testing.T) {
	c := parse(t, `{"_class_name":"DDIMScheduler","timestep_spacing":"leading","_use_default_values":["timestep_spacing"]}`)
	stated := parse(t, `{"_class_name":"DDIMScheduler","timestep_spacing":"leading"}`)
	first := func(c *diffusion.Config) float64 {
		e, err := c.WithClass("euler")
		require.NoError(t, err)
		s, err := diffusion.New(e)
		require.NoError(t, err)
		require.NoError(t, s.Begin(10, 1, 1, diffusion.Options{}))
		return s.Timesteps()[0]
	}
	require.InDelta(t, 999, first(c), 0)
	require.InDelta(t, 900, first(stated), 0)
}

func TestWithClassErrors(t *testing.T) {
	c := parse(t, published["sd3"])
	_, err := c.WithClass("heun")
	require.ErrorIs(t, err, diffusion.ErrUnknownName)
	require.Contains(t, err.Error(), "dpmpp_2m_karras")

	sample := parse(t, `{"_class_name":"DDIMScheduler","prediction_type":"sample"}`)
	_, err = sample.WithClass("pndm")
	var config *diffusion.ConfigError
	require.ErrorAs(t, err, &config)
	require.Equal(t, "PNDMScheduler", config.Class)
	require.Equal(t, `"sample"`, config.Value)
}

func TestPredictionType(t *testing.T) {
	require.Equal(t, "flow_prediction", parse(t, published["sd3"]).PredictionType())
	require.Equal(t, "epsilon", parse(t, published["sdxl-base"]).PredictionType())
	require.Equal(t, "v_prediction", parse(t, `{"_class_name":"LCMScheduler","prediction_type":"v_prediction"}`).PredictionType())
}

// The values are those of calculate_shift in the Flux pipeline of diffusers.
func TestResolutionShift(t *testing.T) {
	c := parse(t, published["flux-dev"])
	require.True(t, c.NeedsMu())
	for seqLen, want := range map[int]float64{256: 0.5, 1024: 0.63, 4096: 1.15} {
		mu, err := c.ResolutionShift(seqLen)
		require.NoError(t, err)
		require.InDelta(t, want, mu, 1e-12)
	}
	_, err := parse(t, published["sdxl-base"]).ResolutionShift(256)
	require.Error(t, err)
	_, err = parse(t, `{"_class_name":"FlowMatchEulerDiscreteScheduler","base_shift":null}`).ResolutionShift(256)
	require.ErrorContains(t, err, "base_shift")
}

func TestNewWithoutConfig(t *testing.T) {
	_, err := diffusion.New(nil)
	require.Error(t, err)
	_, err = diffusion.New(&diffusion.Config{})
	require.Error(t, err)
}

// Whatever a file holds, reading it and running what it describes never panics, and a sample stays finite or Begin
// says why it cannot.
func FuzzParseConfig(f *testing.F) {
	for _, text := range published {
		f.Add([]byte(text), uint8(7))
	}
	f.Add([]byte(`{"_class_name":"UniPCMultistepScheduler","use_flow_sigmas":true,"solver_order":3,"disable_corrector":[1]}`), uint8(20))
	f.Add([]byte(`{"_class_name":"DPMSolverMultistepScheduler","lambda_min_clipped":-Infinity,"use_lu_lambdas":true,"thresholding":true}`), uint8(3))
	f.Add([]byte(`{"_class_name":"EulerDiscreteScheduler","trained_betas":[0,1],"num_train_timesteps":2,"rescale_betas_zero_snr":true}`), uint8(1))
	f.Fuzz(func(t *testing.T, text []byte, steps uint8) {
		c, err := diffusion.ParseConfig(text)
		if err != nil {
			require.Nil(t, c)
			return
		}
		for _, name := range append([]string{c.Class()}, diffusion.Names()...) {
			if other, err := c.WithClass(name); err == nil {
				runOnce(t, other, int(steps))
			}
		}
	})
}

func runOnce(t *testing.T, c *diffusion.Config, steps int) {
	s, err := diffusion.New(c)
	require.NoError(t, err)
	mu := 0.5
	o := diffusion.Options{}
	if c.NeedsMu() {
		o.Mu = &mu
	}
	if s.Begin(steps, 2, 3, o) != nil {
		return
	}
	sample := []float32{0.1, -0.2, 0.3, -0.4, 0.5, -0.6}
	r := start(t, s)
	for i := range s.Timesteps() {
		require.False(t, math.IsNaN(s.InputScale(i)))
		noise := []float32{1, -1, 1, -1, 1, -1}
		require.NoError(t, r.Step(i, hostInput{Sample: sample, Cond: []float32{1, 0, -1, 0, 1, 0}, Noise: noise}))
	}
}
