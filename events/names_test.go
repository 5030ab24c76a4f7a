package events

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestValidNames(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, s := range []string{"a", "A9_-", "-", long} {
		require.True(t, ValidID(s), s)
		require.True(t, ValidTenant(s), s)
	}
	for _, s := range []string{"", long + "a", "a.b", "a b", "a*", ">", "a/b", "é", "a\x00", "a\n"} {
		require.False(t, ValidID(s), s)
		require.False(t, ValidTenant(s), s)
	}
	for _, s := range []string{"m", "sd-1.5", "0_x", long} {
		require.True(t, ValidModel(s), s)
	}
	for _, s := range []string{"", ".", "..", ".hidden", "-a", "a/b", `a\b`, "../m", "a b", "a\x00", "ü", long + "a"} {
		require.False(t, ValidModel(s), s)
	}
}

func TestNewIDIsValidAndNew(t *testing.T) {
	a, b := NewID(), NewID()
	require.True(t, ValidID(a))
	require.NotEqual(t, a, b)
}

func TestPoolToken(t *testing.T) {
	for _, v := range []struct{ model, token string }{
		{"emoji-64", "image-emoji-64"},
		{"sd_1.5", "image-sd_1=2E5"},
		{"a=b", "image-a=3Db"},
		{"*>\x00é", "image-=2A=3E=00=C3=A9"},
		{"", "image-"},
	} {
		require.Equal(t, v.token, PoolToken(KindImage, v.model))
		kind, model, ok := ParsePoolToken(v.token)
		require.True(t, ok)
		require.Equal(t, KindImage, kind)
		require.Equal(t, v.model, model)
	}
	for _, token := range []string{"", "image", "-m", "image-=2", "image-=zz", "image-=2e", "image-=41", "image-a.b", "image-a*"} {
		_, _, ok := ParsePoolToken(token)
		require.False(t, ok, token)
	}
}
