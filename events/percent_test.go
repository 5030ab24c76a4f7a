package events

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEscapeHeader(t *testing.T) {
	for _, v := range []struct{ plain, escaped string }{
		{"Euro \u20ac \U0001F600", "Euro%20%E2%82%AC%20%F0%9F%98%80"}, // the example of the specification
		{"", ""},
		{" ", "%20"},
		{`"`, "%22"},
		{"%", "%25"},
		{"%20", "%2520"},
		{"!#$&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~", "!#$&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~"}, // U+0021 to U+007E
		{"\x7f", "%7F"},
		{"\u00a0", "%C2%A0"},
		{"\t", "%09"},
	} {
		require.Equal(t, v.escaped, escapeHeader(v.plain))
		back, err := unescapeHeader(v.escaped)
		require.NoError(t, err)
		require.Equal(t, v.plain, back)
	}
}

func TestUnescapeHeaderIsTolerant(t *testing.T) {
	for escaped, plain := range map[string]string{
		"%e2%82%ac":             "€",      // lower-case digits
		"%41%62c":               "Abc",    // encoded without need
		"a b":                   "a b",    // an older sender's space
		`a"b`:                   `a"b`,    // and quote
		"€":                     "€",      // and UTF-8
		"  padded\t":            "padded", // optional whitespace around the value
		`"quoted text"`:         "quoted text",
		`"say \"hi\" \\ twice"`: `say "hi" \ twice`,
		`"%20"`:                 " ", // unquoted first, then decoded
		`""`:                    "",
		"%2520":                 "%20", // one round only
	} {
		got, err := unescapeHeader(escaped)
		require.NoError(t, err, escaped)
		require.Equal(t, plain, got, escaped)
	}
}

func TestUnescapeHeaderRefuses(t *testing.T) {
	for escaped, says := range map[string]string{
		"%C0%A0":    "not valid UTF-8", // the specification's overlong space
		"%ED%A0%80": "not valid UTF-8", // a surrogate
		"%FF":       "not valid UTF-8",
		"\xff":      "not valid UTF-8",
		"100%":      "byte 3",
		"%4":        "byte 0",
		"a%zzb":     "byte 1",
		`"open`:     "no closing double quote",
		`"a" b`:     "ends at byte 2",
		`"a\"`:      "no closing double quote",
		`"`:         "no closing double quote",
	} {
		_, err := unescapeHeader(escaped)
		require.ErrorContains(t, err, says, escaped)
	}
}

func FuzzPercent(f *testing.F) {
	f.Add("Euro \u20ac \U0001F600")
	f.Add(`"%`)
	f.Fuzz(func(t *testing.T, s string) {
		escaped := escapeHeader(s)
		for i := range len(escaped) {
			require.True(t, escaped[i] > ' ' && escaped[i] < 0x7f && escaped[i] != '"')
		}
		back, err := unescapeHeader(escaped)
		if strings.ToValidUTF8(s, "") == s {
			require.NoError(t, err)
			require.Equal(t, s, back)
		} else {
			require.Error(t, err)
		}
	})
}
