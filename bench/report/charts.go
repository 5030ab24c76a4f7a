package report

import (
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-analyze/charts/chartdraw"
	"github.com/go-analyze/charts/chartdraw/drawing"
)

// Colours that people with any sight for colours tell apart (Okabe and Ito).
var (
	oursColor  = drawing.ColorFromHex("0072B2")
	goalColor  = drawing.ColorFromHex("D55E00")
	equalColor = drawing.ColorFromHex("999999")
	lineColors = []string{"0072B2", "E69F00", "009E73", "CC79A7", "56B4E9"}
)

// unused is the axis on the right, which the library wants a range of all the same.
var unused = chartdraw.YAxis{Style: chartdraw.Style{Hidden: true}, Range: &chartdraw.ContinuousRange{Max: 1}}

// chart is a picture beside the Markdown, as SVG.
type chart struct {
	file, title string
	draw        func(io.Writer) error
}

// charts are those of the group: of its ratios, and of its rows that are a course.
func (g Group) charts() (out []chart) {
	var ratios, courses []Row
	for _, row := range g.Rows {
		if row.Ratio != nil && row.Ratio.Lo > 0 {
			ratios = append(ratios, row)
		}
		if row.Over != nil && len(row.Ours.Samples) > 1 {
			courses = append(courses, row)
		}
	}
	if len(ratios) > 0 {
		out = append(out, chart{g.Name + "-ratios.svg", "Ratios of " + g.Name, func(w io.Writer) error { return drawRatios(w, ratios) }})
	}
	if len(courses) > 0 {
		out = append(out, chart{g.Name + "-course.svg", g.Name + " over time", func(w io.Writer) error { return drawCourses(w, courses) }})
	}
	return out
}

// drawRatios shows the ratio of each row as its median and interval, with the row's goal, on a logarithmic axis: half
// is as far from 1 as twice.
func drawRatios(w io.Writer, rows []Row) error {
	last := float64(len(rows) - 1)
	intervals := segments{name: inLegend("genfn to peer: median, 95 % interval"), color: oursColor, width: 2}
	goals := segments{name: inLegend("goal"), color: goalColor, width: 2}
	var labels []string
	lo, hi := 1.0, 1.0
	for i, row := range rows {
		y, v := last-float64(i), row.Ratio
		at := math.Log2(v.Median)
		intervals.add(math.Log2(v.Lo), y, math.Log2(v.Hi), y)
		intervals.add(at, y-0.2, at, y+0.2)
		lo, hi = min(lo, v.Lo), max(hi, v.Hi)
		if row.Goal != nil && row.Goal.OfRatio && row.Goal.Bound > 0 {
			at := math.Log2(row.Goal.Bound)
			goals.add(at, y-0.4, at, y+0.4)
			lo, hi = min(lo, row.Goal.Bound), max(hi, row.Goal.Bound)
		}
		labels = append(labels, rowLabel(row))
	}
	equal := segments{name: inLegend("as the peer"), color: equalColor, width: 1}
	equal.add(0, -0.7, 0, last+0.7)
	c := chartdraw.Chart{
		Width: 1200, Height: 110 + 26*len(rows),
		Background: chartdraw.Style{Padding: chartdraw.Box{Top: 40, Left: labelMargin + widthOf(labels), Right: 30, Bottom: 10}},
		XAxis:      chartdraw.XAxis{Name: "ratio, logarithmic", Ticks: ratioTicks(lo, hi)},
		YAxis:      unused, YAxisSecondary: chartdraw.YAxis{Ticks: []chartdraw.Tick{{Value: -0.7}, {Value: last + 0.7}}},
		Series: []chartdraw.Series{equal, intervals},
	}
	if len(goals.lines) > 0 {
		c.Series = append(c.Series, goals)
	}
	c.Elements = []chartdraw.Renderable{chartdraw.LegendThin(&c), beside(labels)}
	return c.Render(chartdraw.SVG, w)
}

// labelMargin is on the left of labels, in pixels.
const labelMargin = 12

// widthOf returns the pixels that labels take in any sans-serif font. The library measures its own, which readers seldom
// have, and would let the labels of an axis grow into the chart.
func widthOf(labels []string) (pixels int) {
	for _, label := range labels {
		pixels = max(pixels, int(7.2*float64(utf8.RuneCountInString(label))))
	}
	return pixels
}

// inLegend returns the name with room for wider fonts than the one that is measured.
func inLegend(name string) string { return name + strings.Repeat(" ", len(name)/2) }

// beside writes one label for each row on the left of the chart, whose rows are at 1 apart, with 0.7 above and below.
func beside(labels []string) chartdraw.Renderable {
	return func(r chartdraw.Renderer, box chartdraw.Box, defaults chartdraw.Style) {
		r.SetFont(defaults.GetFont())
		r.SetFontColor(chartdraw.DefaultTextColor)
		r.SetFontSize(9)
		row := float64(box.Height()) / (float64(len(labels)-1) + 1.4)
		for i, label := range labels {
			r.Text(label, labelMargin, box.Top+int(row*(float64(i)+0.7))+4)
		}
	}
}

// rowLabel names a row of ratios, with the direction where it is not that less is better.
func rowLabel(r Row) string {
	label := r.Name + " / " + r.Of
	if r.Better == Higher {
		label += " (more is better)"
	}
	return label
}

// ratioTicks are marks of the logarithmic axis from at most lo to at least hi: tenths where these are near each other,
// else powers of two.
func ratioTicks(lo, hi float64) (ticks []chartdraw.Tick) {
	mark := func(v float64) {
		ticks = append(ticks, chartdraw.Tick{Value: math.Log2(v), Label: strconv.FormatFloat(v, 'g', 2, 64)})
	}
	if first := math.Floor(10 * lo); hi/lo <= 2.5 && first > 0 {
		for i := first; i <= max(math.Ceil(10*hi), first+1); i++ {
			mark(i / 10)
		}
		return ticks
	}
	step := math.Ceil(math.Log2(hi/lo) / 8)
	for e := step * math.Floor(math.Log2(lo)/step); e < math.Log2(hi)+step; e += step {
		mark(math.Exp2(e))
	}
	return ticks
}

// drawCourses shows the samples of the rows, which have the same unit and are over the same, as lines.
func drawCourses(w io.Writer, rows []Row) error {
	over := *rows[0].Over
	high := 0.0
	c := chartdraw.Chart{
		Width: 1000, Height: 420,
		Background: chartdraw.Style{Padding: chartdraw.Box{Top: 40, Left: 20, Right: 30, Bottom: 10}},
		XAxis:      chartdraw.XAxis{Name: rows[0].Unit + " by " + over.What, Ticks: roundTicks(float64(over.From), float64(over.To))},
		YAxis:      unused,
	}
	for i, row := range rows {
		s := chartdraw.ContinuousSeries{
			Name: inLegend(row.Name), YAxis: chartdraw.YAxisSecondary, YValues: row.Ours.Samples,
			Style: chartdraw.Style{StrokeColor: drawing.ColorFromHex(lineColors[i%len(lineColors)]), StrokeWidth: 1.5},
		}
		for k, v := range row.Ours.Samples {
			share := float64(k) / float64(len(row.Ours.Samples)-1)
			s.XValues = append(s.XValues, float64(over.From)+share*float64(over.To-over.From))
			high = max(high, v)
		}
		c.Series = append(c.Series, s)
	}
	c.YAxisSecondary = chartdraw.YAxis{Ticks: roundTicks(0, max(1.1*high, 1))}
	c.Elements = []chartdraw.Renderable{chartdraw.LegendThin(&c)}
	return c.Render(chartdraw.SVG, w)
}

// roundTicks are about ten marks at round numbers, from at most lo to at least hi, which is more.
func roundTicks(lo, hi float64) (ticks []chartdraw.Tick) {
	step := math.Pow(10, math.Floor(math.Log10((hi-lo)/5)))
	for _, factor := range []float64{5, 2} {
		if (hi-lo)/(factor*step) >= 5 {
			step *= factor
			break
		}
	}
	for i := math.Floor(lo / step); i <= math.Ceil(hi/step); i++ {
		ticks = append(ticks, chartdraw.Tick{Value: i * step, Label: strconv.FormatFloat(i*step, 'g', 6, 64)})
	}
	return ticks
}

// segments are straight lines on the left axis, with one entry in the legend.
type segments struct {
	name  string
	color drawing.Color
	width float64
	lines [][4]float64 // x, y of one end and of the other
}

var _ chartdraw.Series = segments{}

func (s *segments) add(x1, y1, x2, y2 float64) { s.lines = append(s.lines, [4]float64{x1, y1, x2, y2}) }

func (s segments) GetName() string               { return s.name }
func (s segments) GetYAxis() chartdraw.YAxisType { return chartdraw.YAxisSecondary }
func (s segments) Validate() error               { return nil }
func (s segments) GetStyle() chartdraw.Style {
	return chartdraw.Style{StrokeColor: s.color, StrokeWidth: s.width}
}

func (s segments) Render(r chartdraw.Renderer, box chartdraw.Box, x, y chartdraw.Range, _ chartdraw.Style) {
	r.SetStrokeColor(s.color)
	r.SetStrokeWidth(s.width)
	for _, l := range s.lines {
		r.MoveTo(box.Left+x.Translate(l[0]), box.Bottom-y.Translate(l[1]))
		r.LineTo(box.Left+x.Translate(l[2]), box.Bottom-y.Translate(l[3]))
		r.Stroke()
	}
}
