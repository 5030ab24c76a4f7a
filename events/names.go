package events

import (
	"crypto/rand"
	"fmt"
	"strings"
)

// KindImage is the kind of pools that make pictures.
const KindImage = "image"

// maxName bounds request ids, tenants and model names, in bytes.
const maxName = 64

// ValidID reports whether id can be a request id: 1 to 64 of A-Z a-z 0-9 _ and
// -, because it is one token of NATS subjects.
func ValidID(id string) bool { return validToken(id) }

// ValidTenant reports whether tenant can be a tenant name: the rule of ValidID.
func ValidTenant(tenant string) bool { return validToken(tenant) }

// ValidModel reports whether name can name a model folder: a letter or digit,
// then up to 63 of A-Z a-z 0-9 . _ and -. Path separators and leading dots are
// not in it, so a name never leaves the folder of the models.
func ValidModel(name string) bool {
	if name == "" || len(name) > maxName || !alphanumeric(name[0]) {
		return false
	}
	for i := range len(name) {
		if !tokenByte(name[i]) && name[i] != '.' {
			return false
		}
	}
	return true
}

// NewID returns a new random request id.
func NewID() string { return strings.ToLower(rand.Text()) }

// PoolToken returns the subject token of the pool that serves a model:
// kind, "-", and the model name with every byte outside A-Z a-z 0-9 _ - written
// as "=XX" (upper-case hex).
func PoolToken(kind, model string) string {
	var b strings.Builder
	b.Grow(len(kind) + 1 + len(model))
	b.WriteString(kind)
	b.WriteByte('-')
	for i := range len(model) {
		if c := model[i]; tokenByte(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('=')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
	}
	return b.String()
}

// ParsePoolToken is the inverse of PoolToken; ok is false for tokens that
// PoolToken does not make.
func ParsePoolToken(token string) (kind, model string, ok bool) {
	kind, escaped, found := strings.Cut(token, "-")
	if !found || kind == "" {
		return "", "", false
	}
	var b strings.Builder
	for i := 0; i < len(escaped); i++ {
		if escaped[i] != '=' {
			b.WriteByte(escaped[i])
			continue
		}
		if i+2 >= len(escaped) {
			return "", "", false
		}
		hi, lo := unhex(escaped[i+1]), unhex(escaped[i+2])
		if hi < 0 || lo < 0 {
			return "", "", false
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	model = b.String()
	return kind, model, PoolToken(kind, model) == token
}

// ClassOf returns the class of a device by its name, DeviceCPU or DeviceGPU. What is
// not known to be a GPU counts as a CPU.
func ClassOf(device string) string {
	name := strings.ToLower(device)
	if strings.HasPrefix(name, "gpu") || strings.HasPrefix(name, "cuda") {
		return DeviceGPU
	}
	return DeviceCPU
}

// CheckID returns invalid_request, in words, for what cannot be a request id.
func CheckID(id string) error {
	if ValidID(id) {
		return nil
	}
	e := Errorf(CodeInvalidRequest, "the request id is %s", quoteShort(id))
	e.Field, e.Expected = "id", fmt.Sprintf("1 to %d of the characters A-Z a-z 0-9 _ and -", maxName)
	return e
}

func validToken(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		if !tokenByte(s[i]) {
			return false
		}
	}
	return true
}

func tokenByte(c byte) bool { return alphanumeric(c) || c == '_' || c == '-' }

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

const upperHex = "0123456789ABCDEF"

// unhex returns the value of a hexadecimal digit, or -1.
func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
