package diffusion

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// settings are the values of all keys that some supported class reads; a class fills the ones it reads.
type settings struct {
	numTrain        int
	betaStart       float64
	betaEnd         float64
	betaSchedule    string
	trainedBetas    []float64
	rescaleZeroSNR  bool
	predictionType  string
	timestepSpacing string
	stepsOffset     int

	clipSample      bool
	clipSampleRange float64
	thresholding    bool
	thresholdRatio  float64
	sampleMax       float64
	setAlphaToOne   bool
	skipPRKSteps    bool

	originalSteps   int
	timestepScaling float64

	interpolation     string
	timestepType      string
	finalSigmasType   string
	karrasSigmas      bool
	exponentialSigmas bool
	betaSigmas        bool
	luLambdas         bool
	sigmaMin          *float64
	sigmaMax          *float64

	solverOrder      int
	algorithm        string
	solverType       string
	lowerOrderFinal  bool
	eulerAtFinal     bool
	lambdaMinClipped float64
	varianceType     *string
	predictX0        bool
	disableCorrector []int
	solverP          json.RawMessage

	flowSigmas      bool
	flowShift       float64
	dynamicShifting bool
	timeShiftType   string
	shiftTerminal   *float64
	shift           float64
	baseShift       *float64
	maxShift        *float64
	baseImageSeqLen int
	maxImageSeqLen  int
	invertSigmas    bool
	stochastic      bool
}

// fields gives the place of each key.
var fields = map[string]func(*settings) any{
	"num_train_timesteps":        func(s *settings) any { return &s.numTrain },
	"beta_start":                 func(s *settings) any { return &s.betaStart },
	"beta_end":                   func(s *settings) any { return &s.betaEnd },
	"beta_schedule":              func(s *settings) any { return &s.betaSchedule },
	"trained_betas":              func(s *settings) any { return &s.trainedBetas },
	"rescale_betas_zero_snr":     func(s *settings) any { return &s.rescaleZeroSNR },
	"prediction_type":            func(s *settings) any { return &s.predictionType },
	"timestep_spacing":           func(s *settings) any { return &s.timestepSpacing },
	"steps_offset":               func(s *settings) any { return &s.stepsOffset },
	"clip_sample":                func(s *settings) any { return &s.clipSample },
	"clip_sample_range":          func(s *settings) any { return &s.clipSampleRange },
	"thresholding":               func(s *settings) any { return &s.thresholding },
	"dynamic_thresholding_ratio": func(s *settings) any { return &s.thresholdRatio },
	"sample_max_value":           func(s *settings) any { return &s.sampleMax },
	"set_alpha_to_one":           func(s *settings) any { return &s.setAlphaToOne },
	"skip_prk_steps":             func(s *settings) any { return &s.skipPRKSteps },
	"original_inference_steps":   func(s *settings) any { return &s.originalSteps },
	"timestep_scaling":           func(s *settings) any { return &s.timestepScaling },
	"interpolation_type":         func(s *settings) any { return &s.interpolation },
	"timestep_type":              func(s *settings) any { return &s.timestepType },
	"final_sigmas_type":          func(s *settings) any { return &s.finalSigmasType },
	"use_karras_sigmas":          func(s *settings) any { return &s.karrasSigmas },
	"use_exponential_sigmas":     func(s *settings) any { return &s.exponentialSigmas },
	"use_beta_sigmas":            func(s *settings) any { return &s.betaSigmas },
	"use_lu_lambdas":             func(s *settings) any { return &s.luLambdas },
	"sigma_min":                  func(s *settings) any { return &s.sigmaMin },
	"sigma_max":                  func(s *settings) any { return &s.sigmaMax },
	"solver_order":               func(s *settings) any { return &s.solverOrder },
	"algorithm_type":             func(s *settings) any { return &s.algorithm },
	"solver_type":                func(s *settings) any { return &s.solverType },
	"lower_order_final":          func(s *settings) any { return &s.lowerOrderFinal },
	"euler_at_final":             func(s *settings) any { return &s.eulerAtFinal },
	"lambda_min_clipped":         func(s *settings) any { return &s.lambdaMinClipped },
	"variance_type":              func(s *settings) any { return &s.varianceType },
	"predict_x0":                 func(s *settings) any { return &s.predictX0 },
	"disable_corrector":          func(s *settings) any { return &s.disableCorrector },
	"solver_p":                   func(s *settings) any { return &s.solverP },
	"use_flow_sigmas":            func(s *settings) any { return &s.flowSigmas },
	"flow_shift":                 func(s *settings) any { return &s.flowShift },
	"use_dynamic_shifting":       func(s *settings) any { return &s.dynamicShifting },
	"time_shift_type":            func(s *settings) any { return &s.timeShiftType },
	"shift_terminal":             func(s *settings) any { return &s.shiftTerminal },
	"shift":                      func(s *settings) any { return &s.shift },
	"base_shift":                 func(s *settings) any { return &s.baseShift },
	"max_shift":                  func(s *settings) any { return &s.maxShift },
	"base_image_seq_len":         func(s *settings) any { return &s.baseImageSeqLen },
	"max_image_seq_len":          func(s *settings) any { return &s.maxImageSeqLen },
	"invert_sigmas":              func(s *settings) any { return &s.invertSigmas },
	"stochastic_sampling":        func(s *settings) any { return &s.stochastic },
}

// decode reads a JSON value into the place of a key; the error says what was expected. Only the pointer kinds and
// lists may be null. Types are as strict as Python's: 1000.0 is no integer and 1 no boolean.
func decode(raw json.RawMessage, target any) error {
	null := string(raw) == "null"
	switch t := target.(type) {
	case *int:
		return decodeInt(raw, t)
	case *float64:
		return decodeFloat(raw, t, t)
	case **float64:
		if null {
			return nil
		}
		*t = new(float64)
		return decodeFloat(raw, *t, nil)
	case *bool:
		if null || json.Unmarshal(raw, t) != nil {
			return errors.New("expected true or false")
		}
	case *string:
		if null || json.Unmarshal(raw, t) != nil {
			return errors.New("expected a string")
		}
	case **string:
		if json.Unmarshal(raw, t) != nil {
			return errors.New("expected a string or null")
		}
	case *[]float64:
		if json.Unmarshal(raw, t) != nil {
			return errors.New("expected a list of numbers or null")
		}
	case *[]int:
		if json.Unmarshal(raw, t) != nil {
			return errors.New("expected a list of integers")
		}
	case *json.RawMessage:
		*t = raw
	}
	return nil
}

func decodeInt(raw json.RawMessage, t *int) error {
	n, err := strconv.ParseInt(string(raw), 10, 32)
	if err != nil {
		return errors.New("expected an integer")
	}
	*t = int(n)
	return nil
}

// decodeFloat reads a finite number. infinite, if not nil, may also hold -Infinity: its check rejects it elsewhere.
func decodeFloat(raw json.RawMessage, t, infinite *float64) error {
	if infinite != nil && string(raw) == `"-Infinity"` {
		*t = math.Inf(-1)
		return nil
	}
	if string(raw) == "null" || json.Unmarshal(raw, t) != nil {
		return errors.New("expected a finite number")
	}
	return nil
}

// assign sets a default; the pointer kinds and lists default to nil.
func assign(target, value any) {
	switch t := target.(type) {
	case *int:
		*t = value.(int)
	case *float64:
		*t = value.(float64)
	case *bool:
		*t = value.(bool)
	case *string:
		*t = value.(string)
	case **float64:
		if v, ok := value.(float64); ok {
			*t = &v
		}
	}
}

// quoted formats a value for an error as it would stand in the file.
func quoted(v any) string {
	if f, ok := v.(float64); ok && math.IsInf(f, -1) {
		return "-Infinity"
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}
