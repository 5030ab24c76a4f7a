package stress

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-analyze/charts/chartdraw"
	"github.com/go-analyze/charts/chartdraw/drawing"
)

// Colours of the picture that people with any sight for colours tell apart (Okabe and Ito).
var lineColors = []string{"0072B2", "E69F00", "009E73", "CC79A7", "56B4E9", "D55E00", "000000"}

const mib = 1 << 20

// curve is one line of the picture, in MiB over seconds.
type curve struct {
	x, y  []float64
	small bool // on the axis to the right
}

func (c *curve) add(x float64, bytes int64) {
	c.x, c.y = append(c.x, x), append(c.y, float64(bytes)/mib)
}

// curves are the memory over time, by name.
func (s *Summary) curves() map[string]*curve {
	out := map[string]*curve{}
	line := func(name string, small bool) *curve {
		if out[name] == nil {
			out[name] = &curve{small: small}
		}
		return out[name]
	}
	for _, x := range s.samples {
		at := x.at.Sub(s.began).Seconds()
		if at < 0 || x.status.MemoryInfo == nil {
			continue
		}
		m := memoryOf(x.status)
		line(m.Device+" rss", false).add(at, m.RSS)
		line(m.Device+" ledger (right)", true).add(at, m.Ledger)
		if m.DeviceUsed != nil {
			line(m.Device+" memory (right)", true).add(at, *m.DeviceUsed)
		}
		if i := x.status.MemoryInfo.Instance; i != nil {
			line(fmt.Sprintf("instance %d rss", i.PID), false).add(at, i.RSS)
		}
	}
	return out
}

// Draw writes the memory over time, with a mark for each fault and each cancel, as SVG or PNG by the ending of name.
func (s *Summary) Draw(w io.Writer, name string) error {
	chart := chartdraw.Chart{
		Width: 1000, Height: 480,
		Background: chartdraw.Style{Padding: chartdraw.Box{Top: 30, Left: 20, Right: 20, Bottom: 10}},
		XAxis:      chartdraw.XAxis{Name: "seconds", ValueFormatter: whole},
		// The library draws its first axis on the right.
		YAxis: chartdraw.YAxis{Name: "MiB (right)"}, YAxisSecondary: chartdraw.YAxis{Name: "MiB", ValueFormatter: whole},
	}
	curves := s.curves()
	if len(curves) == 0 {
		return errors.New("there is nothing to draw: no instance told of its memory")
	}
	var high, small, wide float64
	for i, name := range slices.Sorted(maps.Keys(curves)) {
		c := curves[name]
		color := drawing.ColorFromHex(lineColors[i%len(lineColors)])
		series := chartdraw.ContinuousSeries{Name: name, XValues: c.x, YValues: c.y, Style: chartdraw.Style{StrokeColor: color, StrokeWidth: 1.5}}
		if c.small {
			small = max(small, slices.Max(c.y))
		} else {
			series.YAxis = chartdraw.YAxisSecondary
			high = max(high, slices.Max(c.y))
		}
		wide = max(wide, slices.Max(c.x))
		chart.Series = append(chart.Series, series)
	}
	high *= 1.15
	chart.YAxis.Range = &chartdraw.ContinuousRange{Min: 0, Max: max(1.15*small, 0.01)}
	chart.YAxisSecondary.Range = &chartdraw.ContinuousRange{Min: 0, Max: high}
	chart.XAxis.Range = &chartdraw.ContinuousRange{Min: 0, Max: wide}
	for _, dots := range []chartdraw.ContinuousSeries{s.marksAt("faults (red)", false, high*0.03, "CC0000"), s.marksAt("cancels (grey)", true, high*0.06, "888888")} {
		if len(dots.XValues) > 0 {
			chart.Series = append(chart.Series, dots)
		}
	}
	chart.Elements = []chartdraw.Renderable{chartdraw.LegendThin(&chart)}
	format := chartdraw.SVG
	if strings.EqualFold(filepath.Ext(name), ".png") {
		format = chartdraw.PNG
	}
	return chart.Render(format, w)
}

func whole(v any) string { return chartdraw.FloatValueFormatterWithFormat(v, "%.0f") }

// marksAt are dots at one height.
func (s *Summary) marksAt(what string, cancels bool, y float64, hex string) chartdraw.ContinuousSeries {
	color := drawing.ColorFromHex(hex)
	dots := chartdraw.ContinuousSeries{Name: what, YAxis: chartdraw.YAxisSecondary, Style: chartdraw.Style{StrokeWidth: chartdraw.Disabled, DotWidth: 2, DotColor: color, StrokeColor: color}}
	for _, m := range s.marks {
		if (m.Kind == Cancel) == cancels {
			dots.XValues, dots.YValues = append(dots.XValues, m.At.Sub(s.began).Seconds()), append(dots.YValues, y)
		}
	}
	return dots
}
