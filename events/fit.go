package events

import (
	"encoding/json"
	"slices"
)

// Texts of an answer that is too large for its event are cut to mostText bytes
// each, then to half of it and so on, down to leastText.
const (
	mostText  = 8 << 10
	leastText = 16
)

// Fit returns f with its texts cut as far as they must be for the event to stay
// within MaxEventBytes: an answer that cannot be written would be no answer.
func (f Failed) Fit() Failed {
	for n := mostText; n >= leastText && !fits(f); n /= 2 {
		f.Error, f.Attempts = f.Error.Shortened(n), shortened(f.Attempts, n)
	}
	return f
}

// Fit returns c with its texts cut as far as they must be for the event to stay
// within MaxEventBytes.
func (c Cancelled) Fit() Cancelled {
	for n := mostText; n >= leastText && !fits(c); n /= 2 {
		c.Reason, c.Attempts = cut(c.Reason, n), shortened(c.Attempts, n)
	}
	return c
}

// Fits reports whether s can be the data of an event as it is.
func (s Succeeded) Fits() bool { return fits(s) }

// Fit returns s with the prompts and the errors of its attempts cut as far as
// they must be for the event to stay within MaxEventBytes, and a warning that says
// so. The artefact metadata.json then has them whole.
func (s Succeeded) Fit() Succeeded {
	if fits(s) {
		return s
	}
	s.Warnings = append(slices.Clip(s.Warnings), Warning{Code: WarningShortened, Message: "The prompts or the errors of earlier attempts do not fit into this event; metadata.json has them whole."})
	for n := mostText; n >= leastText && !fits(s); n /= 2 {
		s.Attempts = shortened(s.Attempts, n)
		s.Request.Prompt, s.Request.NegativePrompt = cut(s.Request.Prompt, n), cut(s.Request.NegativePrompt, n)
	}
	return s
}

// Fit returns s with the texts of its faults cut as far as they must be for the
// event to stay within MaxEventBytes: an instance that is not heard of counts as gone.
func (s DeviceStatus) Fit() DeviceStatus {
	for n := mostText; n >= leastText && !fits(s); n /= 2 {
		s.Message, s.LastFaults = cut(s.Message, n), slices.Clone(s.LastFaults)
		for i := range s.LastFaults {
			s.LastFaults[i].Error = s.LastFaults[i].Error.Shortened(n)
		}
	}
	return s
}

// fits reports whether data can be that of an event. What cannot be written is for
// the caller to find.
func fits(data any) bool {
	body, err := json.Marshal(data)
	return err != nil || len(body) <= MaxEventBytes
}

func shortened(attempts []Attempt, n int) []Attempt {
	attempts = slices.Clone(attempts)
	for i := range attempts {
		attempts[i].Error = attempts[i].Error.Shortened(n)
	}
	return attempts
}

// Shortened returns a copy of e, which may be nil, with no text of more than about
// n bytes.
func (e *Error) Shortened(n int) *Error {
	if e == nil {
		return nil
	}
	s := *e
	for _, text := range []*string{&s.Title, &s.Message, &s.Advice, &s.Field, &s.Expected, &s.Stage, &s.Device, &s.DriverCode, &s.DriverText, &s.Detail} {
		*text = cut(*text, n)
	}
	return &s
}
