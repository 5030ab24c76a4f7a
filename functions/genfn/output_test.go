package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/events"
)

// TestLongDetail: a crash's hundreds of lines do not push the advice off the screen.
func TestLongDetail(t *testing.T) {
	e := events.Errorf(events.CodeInternal, "it crashed")
	e.Detail, e.Advice = "SIGSEGV\n"+strings.Repeat("goroutine\n", 20), "look"
	var out bytes.Buffer
	printErrorDetails(&out, e)
	require.Contains(t, out.String(), "  detail:   SIGSEGV\n            goroutine\n")
	require.Contains(t, out.String(), "            ... 13 more lines: --json has them\n  advice:   look\n")
	e.Detail = strings.TrimSuffix(strings.Repeat("line\n", maxDetailLines+1), "\n")
	out.Reset()
	printErrorDetails(&out, e)
	require.NotContains(t, out.String(), "more lines")
}
