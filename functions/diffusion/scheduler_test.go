package diffusion_test

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/bindings/kernels"
	"genfn/functions/diffusion"
)

const sd15 = "stable-diffusion-v1-5"

func scheduler(t *testing.T, model, name string) diffusion.Scheduler {
	t.Helper()
	c, err := parse(t, published[model]).WithClass(name)
	require.NoError(t, err)
	s, err := diffusion.New(c)
	require.NoError(t, err)
	return s
}

type (
	hostRun   = diffusion.Run[[]float32]
	hostInput = diffusion.StepInput[[]float32]
)

// start is a run of what s has planned, with the kernels in Go.
func start(t *testing.T, s diffusion.Scheduler) *hostRun {
	t.Helper()
	r, err := diffusion.Start(s, diffusion.Host(kernels.Reference()))
	require.NoError(t, err)
	return r
}

// denoise denoises a fixed sample and returns what it ends at.
func denoise(t *testing.T, s diffusion.Scheduler, steps int) ([]float32, *hostRun) {
	t.Helper()
	require.NoError(t, s.Begin(steps, batch, elements, diffusion.Options{}))
	sample, r := gaussian(streamSample, 0), start(t, s)
	for i := range s.Timesteps() {
		step(t, s, r, i, sample)
	}
	return sample, r
}

func step(t *testing.T, s diffusion.Scheduler, r *hostRun, i int, sample []float32) {
	t.Helper()
	in := hostInput{Sample: sample, Cond: gaussian(streamCond, uint64(i))}
	if s.NeedsNoise(i) {
		in.Noise = gaussian(streamNoise, uint64(i))
	}
	require.NoError(t, r.Step(i, in))
}

func TestBeginForgetsTheRunBefore(t *testing.T) {
	for _, name := range diffusion.Names() {
		want, _ := denoise(t, scheduler(t, sd15, name), 6)

		s := scheduler(t, sd15, name)
		require.NoError(t, s.Begin(9, 1, 7, diffusion.Options{})) // another size, stopped in the middle
		r := start(t, s)
		in := hostInput{Sample: make([]float32, 7), Cond: []float32{1, 2, 3, 4, 5, 6, 7}, Noise: make([]float32, 7)}
		for i := range 4 {
			require.NoError(t, r.Step(i, in))
		}
		require.Len(t, r.Denoised(), 7)
		require.Error(t, s.Begin(0, 1, 7, diffusion.Options{}))
		require.Nil(t, s.Timesteps(), "a failed Begin leaves no plan")
		require.ErrorContains(t, r.Step(4, in), "begun anew")
		_, err := diffusion.Start(s, diffusion.Host(kernels.Reference()))
		require.ErrorContains(t, err, "before Begin")

		for range 2 {
			got, _ := denoise(t, s, 6)
			require.Equal(t, want, got, name)
		}
	}
}

func TestStepChecksItsArguments(t *testing.T) {
	noise := gaussian(streamNoise, 0)
	for _, name := range diffusion.Names() {
		s := scheduler(t, sd15, name)
		good := hostInput{Sample: gaussian(streamSample, 0), Cond: gaussian(streamCond, 0), Noise: noise}
		require.NoError(t, s.Begin(4, batch, elements, diffusion.Options{}))
		_, err := diffusion.Start[[]float32](s, nil)
		require.ErrorContains(t, err, "without arrays")
		r := start(t, s)
		for _, c := range []struct {
			part   string
			change func(*hostInput)
		}{
			{"Sample has 0", func(in *hostInput) { in.Sample = nil }},
			{"Sample has 1", func(in *hostInput) { in.Sample = make([]float32, 1) }},
			{"Cond has 0", func(in *hostInput) { in.Cond = nil }},
			{"Cond has 91", func(in *hostInput) { in.Cond = make([]float32, 91) }},
			{"Uncond has 2", func(in *hostInput) { in.Uncond = make([]float32, 2) }},
			{"guidance scale is NaN", func(in *hostInput) {
				in.Uncond, in.Guidance = in.Cond, float32(math.NaN())
			}},
		} {
			in := good
			c.change(&in)
			require.ErrorContains(t, r.Step(0, in), c.part, name)
		}
		if s.NeedsNoise(0) {
			in := good
			in.Noise = nil
			require.ErrorContains(t, r.Step(0, in), "Noise has 0", name)
		}
		require.ErrorContains(t, r.Step(1, good), "expected 0")
		require.ErrorContains(t, r.Step(-1, good), "expected 0")
		require.Equal(t, gaussian(streamSample, 0), good.Sample, "refused steps change nothing")
		require.Nil(t, r.Denoised())

		last := len(s.Timesteps())
		for i := range last {
			step(t, s, r, i, good.Sample)
		}
		require.Error(t, r.Step(last, good), name)
		require.False(t, s.NeedsNoise(last))
		require.False(t, math.IsNaN(s.InputScale(last+5)+s.InputScale(-1)+s.InitNoiseSigma()))
	}
}

// Step writes to the sample only, and the other inputs may be one slice.
func TestStepKeepsItsInputs(t *testing.T) {
	for _, name := range diffusion.Names() {
		s := scheduler(t, sd15, name)
		require.NoError(t, s.Begin(5, batch, elements, diffusion.Options{}))
		cond, uncond, noise := gaussian(streamCond, 0), gaussian(streamUncond, 0), gaussian(streamNoise, 0)
		sample, r := gaussian(streamSample, 0), start(t, s)
		for i := range s.Timesteps() {
			require.NoError(t, r.Step(i, hostInput{Sample: sample, Cond: cond, Uncond: uncond, Noise: noise, Guidance: 7.5}))
		}
		require.Equal(t, gaussian(streamCond, 0), cond)
		require.Equal(t, gaussian(streamUncond, 0), uncond)
		require.Equal(t, gaussian(streamNoise, 0), noise)
	}
}

// At the last step of a schedule that ends without noise, the sample is the denoised estimate.
func TestDenoisedIsWhereTheScheduleEnds(t *testing.T) {
	for _, name := range []string{"euler", "euler_ancestral", "dpmpp_2m", "dpmpp_2m_karras", "dpmpp_2m_sde", "unipc", "flow_match_euler"} {
		s := scheduler(t, sd15, name)
		sample, r := denoise(t, s, 8)
		requireClose(t, sample, r.Denoised(), 1e-6, "%s", name)
	}
}

// Solvers of the noise estimate the same denoised sample as those of the sample, from the same first input.
func TestDenoisedOfNoiseSolvers(t *testing.T) {
	first := func(config string) []float32 {
		s, err := diffusion.New(parse(t, config))
		require.NoError(t, err)
		require.NoError(t, s.Begin(10, batch, elements, diffusion.Options{}))
		r := start(t, s)
		step(t, s, r, 0, gaussian(streamSample, 0))
		return slices.Clone(r.Denoised())
	}
	for _, rest := range []string{`"prediction_type":"epsilon"`, `"prediction_type":"v_prediction"`, `"prediction_type":"sample"`} {
		const sigmaMin = `"final_sigmas_type":"sigma_min",`
		want := first(`{"_class_name":"DPMSolverMultistepScheduler",` + sigmaMin + rest + `}`)
		requireClose(t, want, first(`{"_class_name":"DPMSolverMultistepScheduler","algorithm_type":"dpmsolver",`+sigmaMin+rest+`}`), 1e-6, "%s", rest)
		requireClose(t, want, first(`{"_class_name":"UniPCMultistepScheduler","predict_x0":false,`+sigmaMin+rest+`}`), 1e-6, "%s", rest)
	}
}

func TestStepsAllocateNothing(t *testing.T) {
	for _, name := range diffusion.Names() {
		s := scheduler(t, sd15, name)
		require.NoError(t, s.Begin(40, batch, elements, diffusion.Options{}))
		r, i := start(t, s), 0
		in := hostInput{Sample: gaussian(streamSample, 0), Cond: gaussian(streamCond, 0), Uncond: gaussian(streamUncond, 0), Noise: gaussian(streamNoise, 0), Guidance: 2}
		require.Zero(t, testing.AllocsPerRun(30, func() {
			if r.Step(i, in) != nil {
				panic("a step failed")
			}
			i++
		}), name)
	}
}

func TestBeginErrors(t *testing.T) {
	nan, one := math.NaN(), 1.0
	zeroSNR := `"beta_schedule":"scaled_linear","rescale_betas_zero_snr":true,"timestep_spacing":"trailing"`
	for _, c := range []struct {
		config                 string
		steps, batch, elements int
		options                diffusion.Options
		part                   string
	}{
		{`"_class_name":"DDIMScheduler"`, 0, 1, 1, diffusion.Options{}, "0 steps, expected 1 to"},
		{`"_class_name":"DDIMScheduler"`, -3, 1, 1, diffusion.Options{}, "-3 steps"},
		{`"_class_name":"DDIMScheduler"`, 1001, 1, 1, diffusion.Options{}, "num_train_timesteps = 1000"},
		{`"_class_name":"EulerDiscreteScheduler"`, 1001, 1, 1, diffusion.Options{}, "num_train_timesteps = 1000"},
		{`"_class_name":"UniPCMultistepScheduler"`, 1001, 1, 1, diffusion.Options{}, "num_train_timesteps = 1000"},
		{`"_class_name":"FlowMatchEulerDiscreteScheduler"`, 0, 1, 1, diffusion.Options{}, "0 steps"},
		{`"_class_name":"FlowMatchEulerDiscreteScheduler"`, 1 << 40, 1, 1, diffusion.Options{}, "steps, expected"},
		{`"_class_name":"LCMScheduler"`, 51, 1, 1, diffusion.Options{}, "original_inference_steps = 50"},
		{`"_class_name":"PNDMScheduler"`, 3, 1, 1, diffusion.Options{}, "at least 4"},
		{`"_class_name":"DDIMScheduler"`, 10, 0, 1, diffusion.Options{}, "0 samples"},
		{`"_class_name":"DDIMScheduler"`, 10, 1, -1, diffusion.Options{}, "of -1 values"},
		{`"_class_name":"DDIMScheduler"`, 10, 1 << 40, 1 << 40, diffusion.Options{}, "at most"},
		{`"_class_name":"DDIMScheduler","timestep_spacing":"trailing"`, 61, 1, 1, diffusion.Options{}, "timestep -1"},
		{`"_class_name":"PNDMScheduler","timestep_spacing":"trailing"`, 61, 1, 1, diffusion.Options{}, "timestep -1"},
		{`"_class_name":"DDIMScheduler","steps_offset":1`, 1000, 1, 1, diffusion.Options{}, "timestep 1000"},
		{`"_class_name":"DDIMScheduler","prediction_type":"epsilon",` + zeroSNR, 10, 1, 1, diffusion.Options{}, "step 0 of 10 is not defined"},
		{`"_class_name":"UniPCMultistepScheduler","lower_order_final":false`, 10, 1, 1, diffusion.Options{}, "step 9 of 10 is not defined"},
		{`"_class_name":"DPMSolverMultistepScheduler","lambda_min_clipped":1000`, 10, 1, 1, diffusion.Options{}, "lambda_min_clipped"},
		{`"_class_name":"DDIMScheduler"`, 10, 1, 1, diffusion.Options{Mu: &one}, "neither Mu nor Sigmas"},
		{`"_class_name":"LCMScheduler"`, 10, 1, 1, diffusion.Options{Sigmas: []float64{1}}, "neither Mu nor Sigmas"},
		{`"_class_name":"DPMSolverMultistepScheduler"`, 10, 1, 1, diffusion.Options{Mu: &one}, "only with use_dynamic_shifting"},
		{`"_class_name":"DPMSolverMultistepScheduler"`, 1, 1, 1, diffusion.Options{Sigmas: []float64{1}}, "takes no Sigmas"},
		{`"_class_name":"UniPCMultistepScheduler"`, 1, 1, 1, diffusion.Options{Sigmas: []float64{1}}, "only with use_flow_sigmas"},
		{`"_class_name":"UniPCMultistepScheduler","use_flow_sigmas":true,"use_dynamic_shifting":true`, 10, 1, 1, diffusion.Options{}, "needs Options.Mu"},
		{`"_class_name":"FlowMatchEulerDiscreteScheduler","use_dynamic_shifting":true`, 10, 1, 1, diffusion.Options{}, "needs Options.Mu"},
		{`"_class_name":"FlowMatchEulerDiscreteScheduler","use_dynamic_shifting":true`, 10, 1, 1, diffusion.Options{Mu: &nan}, "Mu is NaN"},
		{`"_class_name":"FlowMatchEulerDiscreteScheduler"`, 2, 1, 1, diffusion.Options{Sigmas: []float64{1}}, "1 sigmas for 2 steps"},
		{`"_class_name":"FlowMatchEulerDiscreteScheduler"`, 2, 1, 1, diffusion.Options{Sigmas: []float64{0.5, 0.6}}, "descending"},
		{`"_class_name":"FlowMatchEulerDiscreteScheduler"`, 2, 1, 1, diffusion.Options{Sigmas: []float64{nan, 0.6}}, "sigma 0 is NaN"},
		{`"_class_name":"FlowMatchEulerDiscreteScheduler","shift_terminal":0.1`, 1, 1, 1, diffusion.Options{Sigmas: []float64{1}}, "not defined"},
	} {
		s, err := diffusion.New(parse(t, "{"+c.config+"}"))
		require.NoError(t, err)
		require.ErrorContains(t, s.Begin(c.steps, c.batch, c.elements, c.options), c.part, c.config)
		require.Nil(t, s.Timesteps(), c.config)
	}
}

func TestPNDMCallsOnceMore(t *testing.T) {
	s := scheduler(t, sd15, "pndm")
	require.NoError(t, s.Begin(20, 1, 1, diffusion.Options{}))
	require.Len(t, s.Timesteps(), 21)
	require.InDelta(t, s.Timesteps()[1], s.Timesteps()[2], 0)
}

// A NaN in the model's output reaches the sample, where the caller finds it; thresholding must not hide it.
func TestNaNIsNotHidden(t *testing.T) {
	for _, config := range []string{
		`{"_class_name":"DDIMScheduler","thresholding":true}`,
		`{"_class_name":"DDIMScheduler","clip_sample":true}`,
		`{"_class_name":"EulerDiscreteScheduler"}`,
		`{"_class_name":"DPMSolverMultistepScheduler","thresholding":true}`,
	} {
		s, err := diffusion.New(parse(t, config))
		require.NoError(t, err)
		require.NoError(t, s.Begin(10, 1, 3, diffusion.Options{}))
		sample := []float32{1, 2, 3}
		require.NoError(t, start(t, s).Step(0, hostInput{Sample: sample, Cond: []float32{0, float32(math.NaN()), 0}}))
		require.Positive(t, kernels.Reference().CountNonFinite(sample), config)
	}
}
