package memory

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestReserve(t *testing.T) {
	const gib = 1 << 30
	for text, want := range map[string]int64{"5%": gib / 20, "0%": 0, "0": 0, "12.5%": gib / 8, "512MiB": gib / 2, "1024": 1024, "2GiB": 2 * gib, "8 KiB": 8 << 10} {
		r, err := ParseReserve(text)
		require.NoError(t, err, text)
		require.Equal(t, want, r.Of(gib), text)
	}
	for _, bad := range []string{"", "%", "100%", "-1%", "NaN%", "5 apples", "-5", "1.5GiB", "9999999999TiB", "MiB"} {
		_, err := ParseReserve(bad)
		require.ErrorContains(t, err, "5%", bad)
	}
	r, err := ParseReserve("5%")
	require.NoError(t, err)
	require.Zero(t, r.Of(Unknown))
	require.EqualValues(t, gib, r.Of(1000*gib), "a share is at most 1 GiB")
}

func TestRoom(t *testing.T) {
	for name, c := range map[string]struct {
		room     Room
		capacity int64
		known    bool
	}{
		"nothing is known":            {Room{Total: Unknown, Free: Unknown, Usable: Unknown, Reserve: 5}, 0, false},
		"no free count":               {Room{Total: 100, Free: Unknown, Usable: Unknown, Held: 30}, 100, true},
		"others hold some":            {Room{Total: 100, Free: 40, Usable: Unknown, Held: 30, Reserve: 5}, 65, true},
		"it refused before":           {Room{Total: 100, Free: 70, Usable: 60, Held: 30, Reserve: 5}, 55, true},
		"the reserve is all there is": {Room{Total: 100, Free: 2, Usable: Unknown, Reserve: 5}, 0, true},
		"more free than there is":     {Room{Total: 100, Free: 500, Usable: Unknown}, 100, true},
	} {
		capacity, known := c.room.Capacity()
		require.Equal(t, c.capacity, capacity, name)
		require.Equal(t, c.known, known, name)
		require.True(t, c.room.Fits(c.capacity) || !known, name)
		require.Equal(t, !known, c.room.Fits(c.capacity+1), name)
	}
	r := Room{Total: 100, Free: 50, Held: 50, Base: 10, Usable: Unknown}
	require.True(t, r.FitsBeside(60, false), "40 of others and 60")
	require.False(t, r.FitsBeside(61, false))
	require.True(t, r.Fits(61), "but in a fresh process")
	require.True(t, r.FitsBeside(100, true))
	require.False(t, r.FitsBeside(101, true))
}

func TestLimit(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	l := NewLimit(func() time.Time { return now })
	require.EqualValues(t, Unknown, l.Usable(1000))
	l.Refused(400, 201)
	require.EqualValues(t, 600, l.Usable(1000), "one byte less than what was refused")
	require.EqualValues(t, Unknown, l.Usable(500), "of a smaller total all is believed usable")
	require.EqualValues(t, Unknown, l.Usable(Unknown))
	now = now.Add(halfLife)
	require.EqualValues(t, 800, l.Usable(1000), "half of it is forgotten")
	now = now.Add(20 * halfLife)
	require.EqualValues(t, 1000, l.Usable(1000))
	l.Refused(300, 0)
	require.EqualValues(t, 300, l.Usable(1000), "where it is not known how much was asked for")
	l.Given(500)
	require.EqualValues(t, 500, l.Usable(1000))
	l.Refused(100, 50)
	require.EqualValues(t, 500, l.Usable(1000), "what was held once can be held again")
	fresh := NewLimit(nil)
	fresh.Refused(0, 0)
	require.EqualValues(t, Unknown, fresh.Usable(1000), "nothing is known of what was held")
}

func TestThresholds(t *testing.T) {
	th := DefaultThresholds()
	require.NoError(t, th.Check())
	level := Normal
	for _, c := range []struct {
		share float64
		want  Level
	}{{0.5, Normal}, {0.84, Normal}, {0.85, Warning}, {0.81, Warning}, {0.94, Warning}, {0.95, Critical}, {0.91, Critical}, {0.89, Warning}, {0.81, Warning}, {0.79, Normal}, {1, Critical}, {0.1, Normal}} {
		level = th.Next(level, c.share)
		require.Equal(t, c.want, level, c.share)
	}
	require.Equal(t, "critical", Critical.String())
	for _, bad := range []Thresholds{{}, {0.9, 0.8, 0}, {0.9, 1.1, 0}, {0.5, 0.6, 0.5}, {math.NaN(), 0.9, 0}} {
		require.Error(t, bad.Check())
	}
}
