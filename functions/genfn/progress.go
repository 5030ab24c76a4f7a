package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"genfn/events"
)

// progress shows a request's progress: a bar on a terminal, a line for each stage elsewhere.
type progress struct {
	w     io.Writer
	bar   *progressbar.ProgressBar // nil: no terminal
	stage string
}

// newProgress returns nil, which shows nothing, if quiet.
func newProgress(w io.Writer, quiet bool) *progress {
	if quiet {
		return nil
	}
	p := &progress{w: w}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.bar = progressbar.NewOptions(-1,
			progressbar.OptionSetWriter(w), progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false), progressbar.OptionShowCount())
	}
	return p
}

func (p *progress) show(e events.Progress) {
	switch {
	case p == nil:
	case e.Notice != nil:
		p.notice(e)
	case p.bar != nil:
		p.showBar(e)
	case e.Stage != p.stage:
		p.stage = e.Stage
		fmt.Fprintf(p.w, "%6.1f s  %s\n", float64(e.ElapsedMS)/1000, e.Stage)
	}
}

// notice prints what is done about trouble, in a line of its own.
func (p *progress) notice(e events.Progress) {
	n := e.Notice
	words := oneLine(n.Message)
	if n.Error != nil && n.Error.DriverText != "" && n.Code == events.NoticeFault {
		words += " (" + oneLine(n.Error.DriverText) + ")"
	}
	if n.PredictedMS > 0 {
		words += fmt.Sprintf(", expected to take %s", (time.Duration(n.PredictedMS) * time.Millisecond).Round(100*time.Millisecond))
	}
	p.say("%6.1f s  %s: %s", float64(e.ElapsedMS)/1000, n.Code, words)
}

func (p *progress) showBar(e events.Progress) {
	words := e.Stage
	if e.EtaMS > 0 {
		words += fmt.Sprintf(", %s left", (time.Duration(e.EtaMS) * time.Millisecond).Round(100*time.Millisecond))
	}
	p.bar.Describe(words)
	if e.Steps > 0 {
		p.bar.ChangeMax(e.Steps)
	}
	// An error here is one of the terminal, which the user sees.
	_ = p.bar.Set(e.Step)
}

// say prints a line without breaking the bar.
func (p *progress) say(format string, args ...any) {
	if p == nil {
		return
	}
	p.done()
	fmt.Fprintf(p.w, format+"\n", args...)
}

func (p *progress) done() {
	if p != nil && p.bar != nil {
		_ = p.bar.Clear()
	}
}
