package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"genfn/bench/report"
)

// errWorse is what --fail-on-worse fails with.
var errWorse = errors.New("figures got worse")

func newCompare() *cobra.Command {
	var asJSON, failOnWorse bool
	var t report.Thresholds
	cmd := &cobra.Command{
		Use: "compare OLD.json NEW.json", Short: "which figures changed beyond noise from one report.json to another", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkThresholds(t); err != nil {
				return err
			}
			before, err := report.Read(args[0])
			if err != nil {
				return err
			}
			after, err := report.Read(args[1])
			if err != nil {
				return err
			}
			c := report.Compare(before, after, t)
			if err := print(cmd.OutOrStdout(), asJSON, c, c.Markdown); err != nil {
				return err
			}
			if n := c.Count(report.Worsened); failOnWorse && n > 0 {
				return fmt.Errorf("%d %w", n, errWorse)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&failOnWorse, "fail-on-worse", false, "fail if a figure got worse")
	thresholdFlags(cmd, &t)
	return cmd
}

func thresholdFlags(cmd *cobra.Command, t *report.Thresholds) {
	cmd.Flags().Float64Var(&t.Least, "least", report.DefaultThresholds.Least, "the smallest change that counts, relative to the old figure")
	cmd.Flags().Float64Var(&t.LeastOfOne, "least-of-one", report.DefaultThresholds.LeastOfOne, "the same, of figures whose samples all come from one process, and of times without a peer")
}

func checkThresholds(t report.Thresholds) error {
	for flag, share := range map[string]float64{"--least": t.Least, "--least-of-one": t.LeastOfOne} {
		if share < 0 || share >= 1 || math.IsNaN(share) {
			return fmt.Errorf("%s %g: expected a share from 0 to less than 1, such as 0.05", flag, share)
		}
	}
	return nil
}

// print writes v as JSON or in words.
func print(w io.Writer, asJSON bool, v any, words func(io.Writer)) error {
	if !asJSON {
		words(w)
		return nil
	}
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", raw)
	return err
}

func newRender(h *harness) *cobra.Command {
	return &cobra.Command{
		Use: "render REPORT.json", Short: "Markdown and charts again, from a report.json, into the folder --out (default: that of the report)", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := report.Read(args[0])
			if err != nil {
				return err
			}
			dir := h.out
			if dir == "" {
				dir = filepath.Dir(args[0])
			}
			return r.Render(dir)
		},
	}
}

// sameness is what comparing the same thing with itself gave.
type sameness struct {
	Comparisons int             `json:"comparisons"`
	Unchanged   int             `json:"unchanged"` // comparisons without any change
	Figures     int             `json:"figures"`   // tested, in each comparison
	Told        []report.Change `json:"told"`      // what was wrongly found changed
}

// sameParts are what newAA can measure again and again.
var sameParts = []struct {
	name string
	rows func(*harness, context.Context) ([]report.Row, error)
}{{"bindings", (*harness).callsAlone}, {"pipeline", (*harness).picturesAlone}}

// newAA tries the harness on itself.
func newAA(h *harness) *cobra.Command {
	var pairs int
	var asJSON bool
	var t report.Thresholds
	cmd := &cobra.Command{
		Use: "aa [bindings] [pipeline]", Short: "calls into native code (1 minute a pair), or pictures of the demo model (5), measured twice and compared, again and again: how often is a change found where there is none?",
		Args: cobra.OnlyValidArgs, ValidArgs: []string{sameParts[0].name, sameParts[1].name},
		RunE: func(cmd *cobra.Command, args []string) error {
			if pairs < 1 {
				return fmt.Errorf("--pairs %d: expected 1 or more", pairs)
			}
			if err := checkThresholds(t); err != nil {
				return err
			}
			if len(args) == 0 {
				args = []string{"bindings"}
			}
			s, err := h.same(cmd.Context(), cmd.ErrOrStderr(), args, pairs, t)
			if err != nil {
				return err
			}
			return print(cmd.OutOrStdout(), asJSON, s, s.print)
		},
	}
	cmd.Flags().IntVar(&pairs, "pairs", 20, "comparisons, of two runs each")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	thresholdFlags(cmd, &t)
	return cmd
}

// same compares pairs of runs of parts, each run with processes of its own, as two reports are.
func (h *harness) same(ctx context.Context, stderr io.Writer, parts []string, pairs int, t report.Thresholds) (*sameness, error) {
	if err := h.prepare(stderr); err != nil {
		return nil, err
	}
	defer h.clean()
	machine := report.ThisMachine(h.versions(ctx))
	s := &sameness{Comparisons: pairs, Told: []report.Change{}}
	for i := range pairs {
		var runs [2]*report.Report
		for k := range runs {
			runs[k] = &report.Report{Time: time.Now(), Machine: machine}
			for _, part := range sameParts {
				if !slices.Contains(parts, part.name) {
					continue
				}
				rows, err := part.rows(h, ctx)
				if err != nil {
					return nil, err
				}
				runs[k].Groups = append(runs[k].Groups, report.Group{Name: part.name, Rows: rows})
			}
		}
		c := report.Compare(runs[0], runs[1], t)
		s.Figures = len(c.Figures) - c.Count(report.Single)
		told := c.Told()
		if s.Told = append(s.Told, told...); len(told) == 0 {
			s.Unchanged++
		}
		fmt.Fprintf(stderr, "comparison %d of %d: %d of %d figures told apart\n", i+1, pairs, len(told), s.Figures)
	}
	return s, nil
}

// callsAlone are the rows of the calls.
func (h *harness) callsAlone(ctx context.Context) ([]report.Row, error) {
	calls, processes := turns{}, h.rounds(bindingProcesses, 1)
	for range processes {
		if notRun, err := h.bindingsOnce(ctx, calls, nil); err != nil {
			return nil, err
		} else if len(calls) == 0 {
			return nil, errors.New(strings.Join(notRun, "; "))
		}
	}
	return callRows(calls, processes), nil
}

// picturesAlone are the rows of the demo model beside GenAI.
func (h *harness) picturesAlone(ctx context.Context) ([]report.Row, error) {
	models, notRun := h.imageModels()
	if len(models) == 0 || models[0].dir != h.demo {
		return nil, errors.New(strings.Join(notRun, "; "))
	}
	self, err := h.build(ctx, "./bench", false)
	if err != nil {
		return nil, err
	}
	var g report.Group
	_, err = h.fastPictures(ctx, &g, self, models[0], fullPrecision)
	return g.Rows, err
}

func (s *sameness) print(w io.Writer) {
	fmt.Fprintf(w, "No change in %d of %d comparisons of the same thing with itself, %d figures in each.\n", s.Unchanged, s.Comparisons, s.Figures)
	for _, f := range s.Told {
		percent := "from 0"
		if f.Percent != nil {
			percent = fmt.Sprintf("%+.3g %%", *f.Percent)
		}
		fmt.Fprintf(w, "- %s, %s: %s, p = %.2g\n", f.Figure, f.Unit, percent, *f.P)
	}
}
