package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// What cannot be written as JSON as it was given is refused before any server is asked.
func TestTextThatIsNotUTF8(t *testing.T) {
	for _, c := range []struct{ field, flag string }{{"/prompt", "--prompt=a\xff"}, {"/negative_prompt", "--negative-prompt=\xfe"}} {
		var out, words bytes.Buffer
		require.Equal(t, exitFailed, run([]string{"generate", "--prompt=x", c.flag, "--nats", "nats://127.0.0.1:1"}, &out, &words))
		require.Contains(t, words.String(), c.field+"\n")
		require.Contains(t, words.String(), "text in UTF-8")
	}
}
