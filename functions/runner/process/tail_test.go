package process

import (
	"bytes"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTailKeepsTheEnd(t *testing.T) {
	for _, chunk := range []int{1, 7, 4096, 1 << 20} {
		var text strings.Builder
		for i := range 5000 {
			fmt.Fprintf(&text, "line %d\n", i)
		}
		var tl tail
		for rest := text.String(); len(rest) > 0; {
			n := min(chunk, len(rest))
			_, err := tl.Write([]byte(rest[:n]))
			require.NoError(t, err)
			rest = rest[n:]
		}
		require.Equal(t, text.String()[text.Len()-stderrTail:], tl.String())
		require.Zero(t, tl.Signal())
	}
}

func TestTailKeepsTheWordsBeforeACrashReport(t *testing.T) {
	before := strings.Repeat("noise\n", 10_000) + "terminate called after throwing\n"
	report := "SIGABRT: abort\n" + strings.Repeat("goroutine stack\n", 10_000)
	var tl tail
	for _, b := range []byte(before + report) {
		_, err := tl.Write([]byte{b})
		require.NoError(t, err)
	}
	require.Equal(t, syscall.SIGABRT, tl.Signal())
	require.Contains(t, tl.String(), "terminate called after throwing\nSIGABRT: abort\ngoroutine")
	require.LessOrEqual(t, len(tl.String()), stderrTail)
	require.GreaterOrEqual(t, len(tl.String()), stderrTail-len("goroutine stack\n"))
}

func TestTailOfOneEndlessLine(t *testing.T) {
	var tl tail
	for range 100 {
		_, err := tl.Write(bytes.Repeat([]byte{0xff}, 1000))
		require.NoError(t, err)
	}
	require.LessOrEqual(t, len(tl.buf), 2*stderrTail)
	require.NotContains(t, tl.String(), "\xff", "only valid UTF-8 goes into events")
}

func TestTailOfAnEarlyPanic(t *testing.T) {
	var tl tail
	_, err := tl.Write([]byte("panic: oh\n\ngoroutine 1\n"))
	require.NoError(t, err)
	require.Equal(t, "panic: oh\n\ngoroutine 1\n", tl.String())
	require.Zero(t, tl.Signal())
}
