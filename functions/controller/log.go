package controller

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"genfn/events"
)

// Entry is one line of a controller's log: JSON with one of the three. A start is followed by the inputs of that term
// of a leader, and each input by the decisions it led to.
type Entry struct {
	Start    *Start           `json:"start,omitempty"`
	Input    *Input           `json:"input,omitempty"`
	Decision *events.Decision `json:"decision,omitempty"`
}

// Replay reads a controller's log, decides everything again and calls found with every decision. It returns an error
// where a decision in the log is not the one that follows from what is before it. What the end of a controller has cut
// off, at the end of a log or before a start, is left out.
func Replay(r io.Reader, found func(events.Decision)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEntry)
	p := replay{found: found}
	var cut error
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		var e Entry
		err := json.Unmarshal(line, &e)
		switch {
		case err == nil && e.Start == nil && cut != nil:
			return cut
		case err != nil:
			cut = fmt.Errorf("line %d of the log: %w", n, err)
			continue
		}
		cut = nil
		if err := p.take(e); err != nil {
			return fmt.Errorf("line %d of the log: %w", n, err)
		}
	}
	return lines.Err()
}

// maxEntry bounds a line of the log; a start holds the decisions in force on all instances.
const maxEntry = 256 << 20

// replay decides again what a log tells.
type replay struct {
	found func(events.Decision)
	core  *Core
	due   []events.Decision // that the log has not told yet
}

func (p *replay) take(e Entry) error {
	switch {
	case e.Start != nil:
		p.core, p.due = NewCore(*e.Start), nil
	case p.core == nil:
		return errors.New("expected a start")
	case e.Input != nil:
		if len(p.due) > 0 {
			return fmt.Errorf("expected the decision %s", brief(p.due[0]))
		}
		p.due, _ = p.core.Apply(*e.Input) // a command that was refused then is refused now
	case e.Decision != nil:
		if len(p.due) == 0 || !same(p.due[0], *e.Decision) {
			return fmt.Errorf("the decision %s does not follow from what is before it", brief(*e.Decision))
		}
		p.found(p.due[0])
		p.due = p.due[1:]
	}
	return nil
}

func same(a, b events.Decision) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func brief(d events.Decision) string {
	return fmt.Sprintf("%s %d: %s (%s)", d.Instance, d.Number, d.State, d.Reason)
}
