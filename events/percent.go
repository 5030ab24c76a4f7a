package events

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// escapeHeader percent-encodes an attribute value for a NATS header
// (CloudEvents NATS binding 1.0, section 3.1.3.2): space, double quote, percent
// and everything outside U+0021 to U+007E, byte by byte in UTF-8, upper-case.
// A value that needs no encoding is returned as it is.
func escapeHeader(s string) string {
	n := 0
	for i := range len(s) {
		if mustEscape(s[i]) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	b := make([]byte, 0, len(s)+2*n)
	for i := range len(s) {
		if c := s[i]; mustEscape(c) {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}

func mustEscape(c byte) bool {
	return c <= ' ' || c >= 0x7f || c == '"' || c == '%'
}

// unescapeHeader is the receiving side: a double-quoted value is unquoted first
// (RFC 7230, section 3.2.6), then percent-decoded once. Characters that did not
// need encoding and lower-case digits are accepted, as are unencoded ones; the
// result must be UTF-8.
func unescapeHeader(s string) (string, error) {
	s = strings.Trim(s, " \t")
	var err error
	if strings.HasPrefix(s, `"`) {
		if s, err = unquoteHeader(s); err != nil {
			return "", err
		}
	}
	if strings.IndexByte(s, '%') >= 0 {
		if s, err = unescapePercent(s); err != nil {
			return "", err
		}
	}
	if !utf8.ValidString(s) {
		return "", errors.New("the value is not valid UTF-8")
	}
	return s, nil
}

func unescapePercent(s string) (string, error) {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) || unhex(s[i+1]) < 0 || unhex(s[i+2]) < 0 {
			return "", fmt.Errorf("the %% at byte %d is not followed by two hexadecimal digits", i)
		}
		b = append(b, byte(unhex(s[i+1])<<4|unhex(s[i+2])))
		i += 2
	}
	return string(b), nil
}

func unquoteHeader(s string) (string, error) {
	b := make([]byte, 0, len(s))
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' && i == len(s)-1:
			return string(b), nil
		case c == '"':
			return "", fmt.Errorf("the quoted value ends at byte %d but more follows", i)
		case c == '\\' && i+1 < len(s):
			i++
			b = append(b, s[i])
		default:
			b = append(b, c)
		}
	}
	return "", errors.New("the quoted value has no closing double quote")
}
