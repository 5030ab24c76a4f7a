package diffusion

import (
	"fmt"
	"math"
)

// multistep is what DPM-Solver and UniPC share: sigmas over a training table, and model outputs converted to what the
// solver integrates, the newest of which a run keeps.
type multistep struct {
	*settings
	loop
	conversions []solverConversion
}

// solverConversion is the conversion of one step. Solvers in x0 integrate the denoised sample, the others the noise.
type solverConversion struct {
	conversion
	alpha, sigma float64
}

// point is a noise level: sample = alpha*x0 + sigma*eps, lambda = log(alpha/sigma).
type point struct{ alpha, sigma, lambda float64 }

func (s *settings) pointAt(sigma float64) point {
	alpha := 1 / math.Sqrt(float64(sigma*sigma)+1)
	scaled := sigma * alpha
	if s.flowSigmas {
		alpha, scaled = 1-sigma, sigma
	}
	return point{alpha, scaled, math.Log(alpha) - math.Log(scaled)}
}

func (m *multistep) setConversions(name string, n int) error {
	m.conversions = make([]solverConversion, n)
	for i := range m.conversions {
		p := m.pointAt(m.sigmas[i])
		c := solverConversion{conversionOf(m.predictionType, p.alpha, p.sigma), p.alpha, p.sigma}
		if m.predictionType == predictFlow {
			c.conversion = conversion{x0Sample: 1, x0Output: -m.sigmas[i]}
		}
		if !finite(float32(c.x0Sample), float32(c.x0Output), float32(c.epsSample), float32(c.epsOutput)) {
			return undefinedStep(name, i, n)
		}
		m.conversions[i] = c
	}
	return nil
}

// trainingLambdas are the log signal to noise ratios (half of them) of the training timesteps.
func trainingLambdas(s *settings) []float32 {
	out := alphasCumprod(betaTable(s))
	if s.rescaleZeroSNR {
		out[len(out)-1] = smallestAlpha
	}
	for i, a := range out {
		out[i] = float32(math.Log(math.Sqrt(float64(a)))) - float32(math.Log(math.Sqrt(float64(1-a))))
	}
	return out
}

// checkSolver checks the keys that both solvers read.
func checkSolver(s *settings) *ConfigError {
	if s.solverOrder < 1 || s.solverOrder > 3 {
		return invalid("solver_order", s.solverOrder, "supported: 1, 2, 3")
	}
	if s.flowShift <= 0 {
		return invalid("flow_shift", s.flowShift, "expected more than 0")
	}
	return nil
}

func noSigmas(name string, o Options) error {
	if o.Sigmas != nil {
		return fmt.Errorf("diffusion: %s takes no Sigmas", name)
	}
	return nil
}
