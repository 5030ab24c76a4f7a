package report

import (
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// simulation is a report of figures on a machine that others use too.
type simulation struct {
	figures, processes, rounds int
	speed                      float64 // how much a process differs from the next, as a standard deviation of the logarithm
	interrupted                float64 // share of the rounds that take up to three times as long
	following                  float64 // autocorrelation of what moves the ratios of all figures
	drift                      float64 // of the ratios of all figures over the report
}

// Like the calls of the bindings, and like pictures, of which fewer are made.
var (
	calls    = simulation{figures: 12, processes: 16, rounds: 4, speed: 0.04, interrupted: 0.05}
	pictures = simulation{figures: 8, processes: 12, rounds: 3, speed: 0.03, interrupted: 0.05}
)

func (s simulation) with(following, drift float64) simulation {
	s.following, s.drift = following, drift
	return s
}

// report simulates a report, whose first figure is slower by a factor.
func (s simulation) report(random *rand.Rand, factor float64) *Report {
	g := Group{Name: "simulated"}
	machine := make([]float64, s.processes) // what moves all figures, by process
	last := random.NormFloat64()
	for i := range machine {
		last = s.following*last + math.Sqrt(1-s.following*s.following)*random.NormFloat64()
		machine[i] = s.drift * (float64(i)/float64(s.processes-1) - 0.5)
		if s.following > 0 {
			machine[i] += s.speed * last
		}
	}
	noise := func() float64 {
		v := math.Exp(0.02 * random.NormFloat64())
		if random.Float64() < s.interrupted {
			v *= 1 + 2*random.Float64()
		}
		return v
	}
	for i := range s.figures {
		var ours, peer []float64
		for process := range s.processes {
			speed := math.Exp(machine[process] + s.speed*random.NormFloat64())
			for range s.rounds {
				common := math.Exp(0.2 * random.NormFloat64()) // both sides feel it
				ours, peer = append(ours, factor*speed*common*noise()), append(peer, common*noise())
			}
		}
		factor = 1
		g.Rows = append(g.Rows, Against("call "+strconv.Itoa(i), "ns", ours, "peer", peer).FromProcesses(s.processes))
	}
	return &Report{Schema: SchemaVersion, Groups: []Group{g}}
}

// TestTheSameIsToldApartInOneOfTwenty: any figure of a report counts.
func TestTheSameIsToldApartInOneOfTwenty(t *testing.T) {
	for name, s := range map[string]simulation{
		"calls": calls, "pictures": pictures, "calls while the machine changes": calls.with(0.4, 0),
		"pictures while the machine changes": pictures.with(0.4, 0), "drift": calls.with(0, 0.05),
	} {
		t.Run(name, func(t *testing.T) {
			random, wrong := rand.New(rand.NewPCG(1, 2)), 0
			const comparisons = 100
			for range comparisons {
				if c := Compare(s.report(random, 1), s.report(random, 1), DefaultThresholds); len(c.Told()) > 0 {
					wrong++
				}
			}
			assert.LessOrEqual(t, wrong, comparisons/20)
		})
	}
}

// TestAChangeIsFound: one of 10 %, nearly always.
func TestAChangeIsFound(t *testing.T) {
	for name, s := range map[string]simulation{"calls": calls, "pictures": pictures, "drift": calls.with(0, 0.03)} {
		t.Run(name, func(t *testing.T) {
			random, found, comparisons := rand.New(rand.NewPCG(3, 4)), 0, 50
			for i := range comparisons {
				factors, verdict := [2]float64{1, 1.1}, Worsened
				if i%2 == 1 {
					factors, verdict = [2]float64{1.1, 1}, Improved
				}
				if Compare(s.report(random, factors[0]), s.report(random, factors[1]), DefaultThresholds).Figures[0].Verdict == verdict {
					found++
				}
			}
			assert.GreaterOrEqual(t, found, comparisons*9/10)
		})
	}
}

// around returns samples near a value.
func around(v float64) (out []float64) {
	for i := range 20 {
		out = append(out, v*(1+0.001*float64(i%7)))
	}
	return out
}

func TestVerdicts(t *testing.T) {
	before := &Report{Time: time.Unix(0, 0), Machine: Machine{CPU: "a", Cores: 2, Versions: map[string]string{"Go": "1"}}, Groups: []Group{{Name: "g", Rows: []Row{
		Alone("time", "ms", around(1)).FromProcesses(20),
		Alone("speed", "GB/s", around(1)).FromProcesses(20).HigherIsBetter(),
		Alone("size", "px", around(1)).FromProcesses(20).NoneIsBetter(),
		Alone("a little", "px", around(1)).FromProcesses(20),
		Alone("slower machine", "ms", around(1)).FromProcesses(20),
		Alone("one process", "ms", around(1)),
		Against("peer too", "ms", around(1), "peer", around(2)).FromProcesses(20),
		Beside("allocations", "", around(0), "peer", around(0)).FromProcesses(20),
		Alone("few", "ms", []float64{1, 1, 1}).FromProcesses(3),
		Alone("p99", "ms", []float64{1}),
		Alone("memory", "MB", around(1)).InCourse("generation", 1, 20),
		Alone("gone", "ms", []float64{1}),
	}}}}
	after := &Report{Time: time.Unix(60, 0), Machine: Machine{CPU: "b", Cores: 2, Versions: map[string]string{"Go": "1", "genfn": "2"}}, Short: true, Groups: []Group{{Name: "g", Rows: []Row{
		Alone("time", "ms", around(1.5)).FromProcesses(20),
		Alone("speed", "GB/s", around(1.5)).FromProcesses(20).HigherIsBetter(),
		Alone("size", "px", around(1.2)).FromProcesses(20).NoneIsBetter(),
		Alone("a little", "px", around(1.02)).FromProcesses(20),
		Alone("slower machine", "ms", around(1.2)).FromProcesses(20),
		Alone("one process", "ms", around(1.2)),
		Against("peer too", "ms", around(1.5), "peer", around(3)).FromProcesses(20),
		Beside("allocations", "", around(2), "peer", around(0)).FromProcesses(20),
		Alone("few", "ms", []float64{9, 9, 9}).FromProcesses(3),
		Alone("p99", "ms", []float64{9}),
		Alone("memory", "MB", around(9)).InCourse("generation", 1, 20),
		Alone("come", "ms", []float64{1}),
	}}}}
	c := Compare(before, after, DefaultThresholds)
	verdicts := map[string]Verdict{}
	for _, f := range c.Figures {
		verdicts[f.Figure] = f.Verdict
	}
	assert.Equal(t, map[string]Verdict{
		"g: time, ms": Worsened, "g: speed, GB/s": Improved, "g: size, px": Changed, "g: a little, px": Same, "g: slower machine, ms": Same, "g: one process, ms": Same,
		"g: peer too, ms / peer": Same, "g: allocations,  / peer": Worsened, "g: few, ms": TooFew, "g: p99, ms": Single, "g: memory, MB": Single,
	}, verdicts)
	assert.Equal(t, []string{"g: gone, ms"}, c.OnlyOld)
	assert.Equal(t, []string{"g: come, ms"}, c.OnlyNew)
	assert.Equal(t, []string{`CPU: "a", then "b"`, `genfn: "", then "2"`}, c.Differences)

	var md strings.Builder
	c.Markdown(&md)
	for _, expected := range []string{
		`**Different CPU: "a", then "b".**`, "Of a short run", "1 better, 2 worse, 1 changed, no change beyond noise in 4 figures. 1 have too few",
		"| +20 % |", "| worse |", "## Only in the old report\n\n- g: gone, ms",
	} {
		assert.Contains(t, md.String(), expected)
	}
	md.Reset()
	Compare(before, before, DefaultThresholds).Markdown(&md)
	assert.Contains(t, md.String(), "No change beyond noise in 9 figures.", "few samples are enough where all are the same")
	assert.NotContains(t, md.String(), "## Changed")
}
