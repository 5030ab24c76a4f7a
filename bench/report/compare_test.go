package report

import (
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// simulated is a report of figures that vary from process to process and, less, within each; the first is slower by a
// factor.
func simulated(random *rand.Rand, figures int, factor float64) *Report {
	const processes, rounds = 8, 5
	noise := func(by float64) float64 { return math.Exp(by * random.NormFloat64()) }
	g := Group{Name: "bindings"}
	for i := range figures {
		var ours, peer []float64
		for range processes {
			speed := noise(0.08) // of the process, for as long as it lives
			for range rounds {
				drift := noise(0.1) // of the machine, which both sides feel
				ours, peer = append(ours, factor*speed*drift*noise(0.02)), append(peer, drift*noise(0.02))
			}
		}
		factor = 1
		g.Rows = append(g.Rows, Against("call "+strconv.Itoa(i), "ns", ours, "cgo", peer).FromProcesses(processes))
	}
	return &Report{Schema: SchemaVersion, Groups: []Group{g}}
}

// TestTheSameIsToldApartInOneOfTwenty: any figure of a report counts, without the threshold, which would only hide more.
func TestTheSameIsToldApartInOneOfTwenty(t *testing.T) {
	random, wrong := rand.New(rand.NewPCG(1, 2)), 0
	const comparisons = 200
	for range comparisons {
		if c := Compare(simulated(random, 12, 1), simulated(random, 12, 1), Thresholds{}); len(c.Told()) > 0 {
			wrong++
		}
	}
	assert.LessOrEqual(t, wrong, comparisons/20)
}

func TestAChangeIsFound(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		c := Compare(simulated(random, 12, 1), simulated(random, 12, 1.5), DefaultThresholds)
		require.Equal(t, Worsened, c.Figures[0].Verdict)
		c = Compare(simulated(random, 12, 1.5), simulated(random, 12, 1), DefaultThresholds)
		require.Equal(t, Improved, c.Figures[0].Verdict)
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
		Alone("a little", "ms", around(1)).FromProcesses(20),
		Alone("one process", "ms", around(1)),
		Against("peer too", "ms", around(1), "peer", around(2)).FromProcesses(20),
		Beside("allocations", "", around(0), "peer", around(0)).FromProcesses(20),
		Alone("few", "ms", []float64{1, 1, 1}).FromProcesses(3),
		Alone("p99", "ms", []float64{1}),
		Alone("memory", "MB", around(1)).InCourse("generation", 1, 20),
		Alone("gone", "ms", []float64{1}),
	}}}}
	after := &Report{Time: time.Unix(60, 0), Machine: Machine{CPU: "b", Cores: 2, Versions: map[string]string{"Go": "1", "genfn": "2"}}, Short: true, Groups: []Group{{Name: "g", Rows: []Row{
		Alone("time", "ms", around(1.2)).FromProcesses(20),
		Alone("speed", "GB/s", around(1.2)).FromProcesses(20).HigherIsBetter(),
		Alone("size", "px", around(1.2)).FromProcesses(20).NoneIsBetter(),
		Alone("a little", "ms", around(1.02)).FromProcesses(20),
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
		"g: time, ms": Worsened, "g: speed, GB/s": Improved, "g: size, px": Changed, "g: a little, ms": Same, "g: one process, ms": Same,
		"g: peer too, ms / peer": Same, "g: allocations,  / peer": Worsened, "g: few, ms": TooFew, "g: p99, ms": Single, "g: memory, MB": Single,
	}, verdicts)
	assert.Equal(t, []string{"g: gone, ms"}, c.OnlyOld)
	assert.Equal(t, []string{"g: come, ms"}, c.OnlyNew)
	assert.Equal(t, []string{`CPU: "a", then "b"`, `genfn: "", then "2"`}, c.Differences)

	var md strings.Builder
	c.Markdown(&md)
	for _, expected := range []string{
		`**Different CPU: "a", then "b".**`, "Of a short run", "1 better, 2 worse, 1 changed, no change beyond noise in 3 figures. 1 have too few",
		"| +20 % |", "| worse |", "## Only in the old report\n\n- g: gone, ms",
	} {
		assert.Contains(t, md.String(), expected)
	}
	md.Reset()
	Compare(before, before, DefaultThresholds).Markdown(&md)
	assert.Contains(t, md.String(), "No change beyond noise in 7 figures.")
	assert.NotContains(t, md.String(), "## Changed")
}
