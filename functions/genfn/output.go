package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"genfn/events"
)

func wantsJSON(cmd *cobra.Command) bool {
	flag := cmd.Flags().Lookup("json")
	return flag != nil && flag.Value.String() == "true"
}

// printJSON writes v as one indented JSON document.
func printJSON(w io.Writer, v any) {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		fmt.Fprintf(w, "{\"error\":%q}\n", err)
	}
}

// printError says what happened, where, and what to do.
func printError(w io.Writer, err error) {
	var e *events.Error
	if !errors.As(err, &e) { // of this machine or its set-up, in words of its own
		fmt.Fprintf(w, "genfn: %v\n", err)
		return
	}
	what := e.Message
	if title := titleOf(e); title != events.CodeInternal.Title() {
		what = title + ": " + what
	}
	fmt.Fprintf(w, "genfn: %s\n", what)
	printErrorDetails(w, e)
}

// printErrorDetails prints what is known of an error beside its message, a line each.
func printErrorDetails(w io.Writer, e *events.Error) {
	if e.Field != "" {
		fmt.Fprintf(w, "  field:    %s\n", e.Field)
	}
	if e.Expected != "" {
		fmt.Fprintf(w, "  expected: %s\n", e.Expected)
	}
	if e.Stage != "" {
		fmt.Fprintf(w, "  stage:    %s\n", e.Stage)
	}
	if e.Device != "" {
		fmt.Fprintf(w, "  device:   %s\n", e.Device)
	}
	if e.DriverText != "" {
		fmt.Fprintf(w, "  driver:   %s %s\n", e.DriverCode, e.DriverText)
	}
	if e.Detail != "" {
		fmt.Fprintf(w, "  detail:   %s\n", beginning(e.Detail))
	}
	if e.Advice != "" {
		fmt.Fprintf(w, "  advice:   %s\n", e.Advice)
	}
}

// maxDetailLines is how much of a detail people are shown: a crash of Go's runtime has hundreds of lines.
const maxDetailLines = 8

// beginning is the first lines of a text, and how many there are more.
func beginning(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if more := len(lines) - maxDetailLines; more > 1 {
		lines = append(lines[:maxDetailLines:maxDetailLines], fmt.Sprintf("... %d more lines: --json has them", more))
	}
	return strings.Join(lines, "\n            ")
}
