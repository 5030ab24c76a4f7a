package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

// screen is where a text is shown that changes: drawn over on a terminal, anew each time elsewhere.
type screen struct {
	w        io.Writer
	terminal *os.File // nil: it is none
	lines    int      // of the text on the terminal
}

func newScreen(w io.Writer) screen {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return screen{w: w, terminal: f}
	}
	return screen{w: w}
}

// size is that of the terminal in characters; 0: not known, or there is none.
func (s *screen) size() (width, height int) {
	if s.terminal == nil {
		return 0, 0
	}
	width, height, err := term.GetSize(int(s.terminal.Fd()))
	if err != nil {
		return 0, 0
	}
	return width, height
}

// draw shows a text in place of the one before, cut at the height of the terminal.
func (s *screen) draw(drawn string) {
	if s.terminal == nil {
		fmt.Fprintln(s.w, drawn)
		return
	}
	lines := strings.Split(drawn, "\n")
	if _, height := s.size(); height > 1 {
		lines = lines[:min(len(lines), height-1)]
	}
	if s.lines > 0 {
		fmt.Fprint(s.w, text.CursorUp.Sprintn(s.lines), "\r")
	}
	for _, line := range lines {
		fmt.Fprint(s.w, line, text.EraseLine.Sprint(), "\n")
	}
	fmt.Fprint(s.w, "\x1b[J") // what is left of a longer text
	s.lines = len(lines)
}
