package hardware

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/events"
)

// clock is a time that tests set.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func newMonitor() (*Monitor, *clock) {
	c := &clock{time.Unix(1_800_000_000, 0)}
	return NewMonitor("cuda:0", c.now), c
}

func ptr[T any](v T) *T { return &v }

func types(list []events.Condition) (out []string) {
	for _, c := range list {
		out = append(out, c.Type+" "+c.Level)
	}
	return out
}

// TestJudge: what condemns a device, what is a warning, and what is nothing.
func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		h        events.Hardware
		kind     string // "": nothing
		level    string
		evidence string
		code     string // of the driver
	}{
		"well": {h: events.Hardware{Temperature: ptr(60), ECC: &events.ECC{Enabled: true, Corrected: 9}, RemappedRows: &events.RemappedRows{Correctable: 3}}},
		"busy": {h: events.Hardware{Throttling: []string{events.ThrottlePowerCap}}},
		"lost": {events.Hardware{State: events.HardwareLost}, events.ConditionDeviceLost, events.LevelCritical, "NVML_ERROR_GPU_IS_LOST", "NVML_ERROR_GPU_IS_LOST"},
		"needs a reset": {
			events.Hardware{State: events.HardwareResetRequired}, events.ConditionResetRequired, events.LevelCritical, "NVML_ERROR_RESET_REQUIRED", "NVML_ERROR_RESET_REQUIRED",
		},
		"a row has no spare": {
			events.Hardware{RemappedRows: &events.RemappedRows{Uncorrectable: 8, Failed: true}}, events.ConditionRowRemapFailed, events.LevelCritical, "8 rows replaced for uncorrectable errors", "",
		},
		"a row waits": {
			events.Hardware{RemappedRows: &events.RemappedRows{Uncorrectable: 1, Pending: true}}, events.ConditionRowRemapPending, events.LevelWarning, "1 rows replaced", "",
		},
		"pages wait": {
			events.Hardware{RetiredPages: &events.RetiredPages{Corrected: 2, Pending: true}}, events.ConditionPageRetirementPending, events.LevelWarning, "2 for corrected ones", "",
		},
		"errors known": {events.Hardware{ECC: &events.ECC{Uncorrected: 1, UncorrectedOfLife: 4}}, events.ConditionECCUncorrected, events.LevelWarning, "4 in the device's life", ""},
		"new errors":   {events.Hardware{ECC: &events.ECC{Uncorrected: 2}}, events.ConditionECCUncorrected, events.LevelCritical, "2 uncorrected", ""},
		"hot": {
			events.Hardware{Temperature: ptr(95), SlowdownAt: ptr(94), Throttling: []string{events.ThrottleHardwareSlowdown, events.ThrottleHardwareThermal, events.ThrottlePowerCap}},
			events.ConditionThermalThrottling, events.LevelWarning, "hardware_thermal at 95 °C, slowed down from 94 °C on", "",
		},
		"power": {events.Hardware{Throttling: []string{events.ThrottlePowerBrake}}, events.ConditionPowerThrottling, events.LevelWarning, "power_brake", ""},
		"others": {
			events.Hardware{Others: &events.OtherMemory{Bytes: 1 << 30, Processes: 2}}, events.ConditionMemoryOfOthers, events.LevelWarning, "1024 MiB in 2 processes", "",
		},
		"a desktop": {h: events.Hardware{Others: &events.OtherMemory{Bytes: 100 << 20, Processes: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			found := Judge(c.h, 1)
			if c.kind == "" {
				require.Empty(t, found)
				return
			}
			require.Len(t, found, 1)
			f := found[0]
			require.Equal(t, []string{c.kind, c.level}, []string{f.Type, f.Level})
			require.Contains(t, f.Evidence, c.evidence)
			require.NotEmpty(t, f.Message)
			if c.level == events.LevelCritical {
				e := f.Error("cuda:0")
				require.Equal(t, events.CodeDeviceLost, e.Code)
				require.Equal(t, c.code, e.DriverCode)
				require.Equal(t, "cuda:0", e.Device)
				require.NotEmpty(t, e.Message)
				require.NotEmpty(t, e.Advice)
			}
		})
	}
}

// TestXids: which condemn the device, which make it suspect, and which are the application's.
func TestXids(t *testing.T) {
	for _, number := range []int{46, 62, 64, 79, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158} {
		m, _ := newMonitor()
		v := m.Xid(number)
		require.NotNil(t, v.Condemned, "Xid %d", number)
		require.Equal(t, events.CodeDeviceLost, v.Condemned.Code)
		require.True(t, v.Changed)
		c := m.Conditions()
		require.Equal(t, []string{"xid critical"}, types(c), "Xid %d", number)
		require.Contains(t, c[0].Evidence, "Xid ")
		require.Equal(t, number, m.Hardware().LastXid.Number)
	}
	for _, number := range []int{13, 31, 43, 45, 68, 63, 92} {
		m, _ := newMonitor()
		require.Equal(t, Verdict{}, m.Xid(number), "Xid %d", number)
		require.Empty(t, m.Conditions())
		require.Equal(t, number, m.Hardware().LastXid.Number)
	}
	m, _ := newMonitor()
	v := m.Xid(4711)
	require.Nil(t, v.Condemned)
	require.NotNil(t, v.Suspect, "nobody knows it, so the device is to prove itself")
}

// TestMonitor: a critical condition tells once and stays until the device has proved itself, a warning goes by itself
// when it has not been true for a while.
func TestMonitor(t *testing.T) {
	m, _ := newMonitor()
	require.Nil(t, m.Hardware())
	well := events.Hardware{ECC: &events.ECC{Uncorrected: 3}}
	require.Nil(t, m.Observe(well).Condemned, "errors from before this program condemn nothing")
	require.Equal(t, []string{"ecc_uncorrected warning"}, types(m.Conditions()))
	sick := events.Hardware{ECC: &events.ECC{Uncorrected: 4}}
	v := m.Observe(sick)
	require.NotNil(t, v.Condemned)
	require.True(t, v.Changed)
	require.Equal(t, Verdict{}, m.Observe(sick), "once")
	require.Equal(t, []string{"ecc_uncorrected critical"}, types(m.Conditions()))
	m.Proved()
	require.Nil(t, m.Observe(sick).Condemned)
	require.Equal(t, []string{"ecc_uncorrected warning"}, types(m.Conditions()))

	m, clock := newMonitor()
	hot := events.Hardware{Throttling: []string{events.ThrottleSoftwareThermal}}
	require.True(t, m.Observe(hot).Changed)
	since := m.Conditions()[0].Since
	clock.at = clock.at.Add(linger - time.Second)
	require.False(t, m.Observe(events.Hardware{}).Changed, "clocks go up and down")
	require.False(t, m.Observe(hot).Changed)
	clock.at = clock.at.Add(linger - time.Second)
	require.False(t, m.Observe(events.Hardware{}).Changed)
	require.Equal(t, since, m.Conditions()[0].Since)
	clock.at = clock.at.Add(time.Second)
	require.True(t, m.Observe(events.Hardware{}).Changed)
	require.Empty(t, m.Conditions())

	m.Xid(79)
	require.NotNil(t, m.Observe(events.Hardware{State: events.HardwareLost}).Condemned)
	require.Equal(t, []string{"device_lost critical", "xid critical"}, types(m.Conditions()))
	require.True(t, m.Observe(events.Hardware{}).Changed)
	require.Equal(t, []string{"xid critical"}, types(m.Conditions()), "an Xid was, the state is")
	m.Proved()
	require.Empty(t, m.Conditions())
}
