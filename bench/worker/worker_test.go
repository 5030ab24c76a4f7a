package worker

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMain makes the test binary a worker that doubles numbers.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "double" {
		err := Serve(os.Stdin, os.Stdout, Answer{Texts: map[string]string{"name": "double"}}, double)
		if err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func double(request json.RawMessage) (map[string]float64, error) {
	var v float64
	if err := json.Unmarshal(request, &v); err != nil {
		return nil, errors.New("want a number")
	}
	return map[string]float64{"value": 2 * v}, nil
}

func TestAsk(t *testing.T) {
	p, err := Start(t.Context(), "doubler", os.Args[0], "double")
	require.NoError(t, err)
	require.Equal(t, "double", p.Ready().Texts["name"])
	got, err := p.Ask(21)
	require.NoError(t, err)
	require.Equal(t, map[string]float64{"value": 42}, got)
	_, err = p.Ask("x")
	require.EqualError(t, err, "doubler: want a number")
	got, err = p.Ask(1)
	require.NoError(t, err, "an error does not end the worker")
	require.Equal(t, map[string]float64{"value": 2}, got)
	require.NoError(t, p.Close())
}

func TestLastWords(t *testing.T) {
	_, err := Start(t.Context(), "shell", "sh", "-c", "echo the disk is full >&2; exit 3")
	require.ErrorContains(t, err, "shell ended early")
	require.ErrorContains(t, err, "the disk is full")
	require.ErrorContains(t, err, "exit status 3")
	_, err = Start(t.Context(), "shell", "sh", "-c", "echo hello")
	require.ErrorContains(t, err, `answered "hello\n"`)
	_, err = Start(t.Context(), "missing", "/does/not/exist")
	require.ErrorContains(t, err, "missing: ")
}

func TestTailIsBounded(t *testing.T) {
	var out tail
	for range 100 {
		_, err := out.Write([]byte(strings.Repeat("x", 100)))
		require.NoError(t, err)
	}
	_, err := out.Write([]byte("end\n"))
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(out.String(), "xend"))
	require.LessOrEqual(t, len(out.String()), tailBytes)
}
