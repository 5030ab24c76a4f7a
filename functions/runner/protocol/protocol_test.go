package protocol_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/events"
	models "genfn/functions/model"
	"genfn/functions/runner/protocol"
)

// buffer is a stream that reads what was written to it.
type buffer struct{ bytes.Buffer }

func (*buffer) Close() error { return nil }

func frame(body string) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// messages is one valid message of every kind.
func messages() []protocol.Message {
	block := protocol.Block{Offset: 4096, Size: 2 * 3 * 3}
	image := protocol.Image{Width: 2, Height: 3, Block: block}
	latents := &protocol.Array{Shape: []int{1, 4, 2, 2}, Block: protocol.Block{Size: 64}}
	memory := protocol.Memory{RSS: 1, PeakRSS: 2, Swap: 3, Ledger: 4, LedgerPeak: 5}
	model := protocol.Model{Name: "tiny", Dir: "/models/tiny"}
	return []protocol.Message{
		&protocol.Hello{Protocol: 1, Device: "CPU", Slot: protocol.AnySlot, RuntimeDir: "/run", MaxModels: 2, ServeNoop: true, CleanupEvery: -1},
		&protocol.Devices{Job: 1},
		&protocol.Load{Job: 2, Model: model},
		&protocol.Generate{Job: 3, Model: model, Latents: latents, Request: protocol.Request{Prompt: "a \u2603", Width: 8, Height: 8, Steps: 2, Count: 1, Seed: events.MaxSeed, GuidanceScale: 7.5,
			Economy: models.Economy{SequentialGuidance: true, TiledVAE: true, OffloadModels: true, TileSize: 256}}},
		&protocol.Cancel{Job: 3},
		&protocol.Unload{Job: 4, Name: "tiny"},
		&protocol.Cleanup{Job: 5},
		&protocol.PreviewRead{Job: 3},
		&protocol.Shutdown{},
		&protocol.Ready{Protocol: 1, PID: 7, Device: "CPU", Versions: map[string]string{"openvino": "1"}, Memory: memory},
		&protocol.DeviceList{Job: 1, Devices: []protocol.Device{{Name: "CPU", FullName: "Some CPU", Properties: map[string]string{"A": "b"}}}},
		&protocol.Loaded{Job: 2, Model: "tiny", ElapsedMS: 5, Memory: memory},
		&protocol.Unloaded{Job: 4, Memory: memory},
		&protocol.Cleaned{Job: 5, Before: memory, After: memory},
		&protocol.Stage{Job: 3, Name: events.StageDenoise},
		&protocol.Step{Job: 3, Step: 1, Steps: 2},
		&protocol.Preview{Job: 3, Index: 0, Image: image},
		&protocol.Usage{Job: 3, Memory: memory},
		&protocol.Result{Job: 3, Images: []protocol.Image{image}, Latents: latents, Precision: "f32", TimingsMS: map[string]float64{"denoise": 1.5}, Before: memory, After: memory},
		&protocol.Failed{Job: 3, Error: events.Errorf(events.CodeHang, "no progress"), Fatal: true},
	}
}

func TestEveryMessageArrives(t *testing.T) {
	a, b := net.Pipe()
	from, to := protocol.NewConn(a), protocol.NewConn(b)
	t.Cleanup(func() { from.Close() })
	t.Cleanup(func() { to.Close() })
	seen := map[protocol.Kind]bool{}
	for _, m := range messages() {
		sent := make(chan error, 1)
		go func() { sent <- from.Send(m) }()
		got, err := to.Receive()
		require.NoError(t, err)
		require.NoError(t, <-sent)
		if f, ok := m.(*protocol.Failed); ok {
			require.Equal(t, f.Error.Error(), got.(*protocol.Failed).Error.Error())
		} else {
			require.Equal(t, m, got)
		}
		seen[protocol.KindOf(m)] = true
	}
	require.Len(t, seen, 20, "messages() must hold every kind")
	require.NoError(t, from.Close())
	_, err := to.Receive()
	require.ErrorIs(t, err, io.EOF)
}

func TestReceiveRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"cut length":      {[]byte{1, 0}, "frame length"},
		"empty frame":     {frame(""), "frame of 0 bytes"},
		"huge frame":      {binary.LittleEndian.AppendUint32(nil, protocol.MaxFrame+1), "expected 1 to 1048576"},
		"cut frame":       {frame(`{"kind":"cancel"}`)[:9], "unexpected EOF"},
		"no JSON":         {frame("hello"), "not a message"},
		"unknown kind":    {frame(`{"kind":"dance","body":{}}`), `unknown message kind "dance"`},
		"no body":         {frame(`{"kind":"cancel"}`), "cancel"},
		"wrong type":      {frame(`{"kind":"cancel","body":{"job":"x"}}`), "cancel"},
		"null body":       {frame(`{"kind":"generate","body":null}`), "model name is empty"},
		"no lock folder":  {frame(`{"kind":"hello","body":{"device":"GPU"}}`), "runtime_dir"},
		"bad slot":        {frame(`{"kind":"hello","body":{"slot":-2}}`), "slot -2"},
		"step past end":   {frame(`{"kind":"step","body":{"job":1,"step":3,"steps":2}}`), "step 3 of 2"},
		"no stage":        {frame(`{"kind":"stage","body":{"job":1}}`), "stage name"},
		"no error":        {frame(`{"kind":"failed","body":{"job":1}}`), "failed without an error"},
		"image size":      {frame(`{"kind":"preview","body":{"image":{"width":2,"height":2,"block":{"size":5}}}}`), "has 5 bytes: expected 12"},
		"preview index":   {frame(`{"kind":"preview","body":{"index":-1}}`), "index -1"},
		"image side":      {frame(`{"kind":"result","body":{"images":[{"width":70000,"height":1}]}}`), "70000x1"},
		"block offset":    {frame(`{"kind":"preview","body":{"image":{"width":1,"height":1,"block":{"offset":-1,"size":3}}}}`), "outside"},
		"block end":       {frame(`{"kind":"preview","body":{"image":{"width":1,"height":1,"block":{"offset":9223372036854775807,"size":3}}}}`), "outside"},
		"array size":      {frame(`{"kind":"result","body":{"latents":{"shape":[2,3],"block":{"size":23}}}}`), "expected 24"},
		"array shape":     {frame(`{"kind":"result","body":{"latents":{"shape":[4294967296,4294967296,4294967296],"block":{"size":0}}}}`), "elements"},
		"request numbers": {frame(`{"kind":"generate","body":{"model":{"name":"m"},"request":{"width":0}}}`), "expected positive numbers"},
		"tile size":       {frame(`{"kind":"generate","body":{"model":{"name":"m"},"request":{"width":8,"height":8,"steps":1,"count":1,"economy":{"tile_size":-8}}}}`), "tile size of -8"},
	} {
		t.Run(name, func(t *testing.T) {
			var b buffer
			b.Write(c.raw)
			_, err := protocol.NewConn(&b).Receive()
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestSendRefuses(t *testing.T) {
	var b buffer
	c := protocol.NewConn(&b)
	require.ErrorContains(t, c.Send(&protocol.Step{Step: 2, Steps: 1}), "step 2 of 1")
	require.ErrorContains(t, c.Send(&protocol.Stage{Name: strings.Repeat("x", protocol.MaxFrame)}), "at most 1048576")
	require.Zero(t, b.Len(), "nothing of a refused message is written")
}

func TestBulk(t *testing.T) {
	b, err := protocol.CreateBulk()
	require.NoError(t, err)
	t.Cleanup(func() { b.Close() })
	values := []float32{0, -1.5, float32(math.Inf(1)), math.MaxFloat32, math.SmallestNonzeroFloat32}
	array, err := b.WriteF32(4096, values)
	require.NoError(t, err)
	require.Equal(t, protocol.Block{Offset: 4096, Size: 20}, array)
	got, err := b.ReadF32(array)
	require.NoError(t, err)
	require.Equal(t, values, got)
	block, err := b.Write(1, []byte("pixels"))
	require.NoError(t, err)
	pixels, err := b.Read(block)
	require.NoError(t, err)
	require.Equal(t, "pixels", string(pixels))

	_, err = b.Read(protocol.Block{Offset: 4096, Size: 21})
	require.ErrorContains(t, err, "outside of the bulk file")
	_, err = b.Read(protocol.Block{Offset: -1, Size: 1})
	require.ErrorContains(t, err, "outside")
	_, err = b.ReadF32(protocol.Block{Size: 3})
	require.ErrorContains(t, err, "whole f32")
	_, err = b.Write(protocol.MaxBulk, []byte{1})
	require.ErrorContains(t, err, "outside")
}

func TestBulkTrim(t *testing.T) {
	b, err := protocol.CreateBulk()
	require.NoError(t, err)
	t.Cleanup(func() { b.Close() })
	size := func() int64 {
		info, err := b.File().Stat()
		require.NoError(t, err)
		return info.Size()
	}
	_, err = b.Write(0, make([]byte, 100))
	require.NoError(t, err)
	require.NoError(t, b.Trim())
	require.EqualValues(t, 100, size(), "a small file stays")
	_, err = b.Write(32<<20, []byte{1})
	require.NoError(t, err)
	require.NoError(t, b.Trim())
	require.Zero(t, size())
}

// FuzzReceive: no bytes make Receive panic, and what it accepts can be sent and received again.
func FuzzReceive(f *testing.F) {
	for _, m := range messages() {
		var b buffer
		require.NoError(f, protocol.NewConn(&b).Send(m))
		f.Add(b.Bytes())
	}
	f.Add(frame(`{"kind":"result","body":{"images":[{"width":1,"height":1,"block":{"size":3}}],"latents":null}}`))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var b buffer
		b.Write(raw)
		c := protocol.NewConn(&b)
		for {
			m, err := c.Receive()
			if err != nil {
				return
			}
			var again buffer
			if err := protocol.NewConn(&again).Send(m); err != nil {
				require.ErrorContains(t, err, "at most", "only growing past the frame size may stop a valid message")
				continue
			}
			back, err := protocol.NewConn(&again).Receive()
			require.NoError(t, err)
			require.Equal(t, protocol.KindOf(m), protocol.KindOf(back))
			require.NoError(t, protocol.NewConn(&again).Send(back))
			require.NotZero(t, again.Len())
		}
	})
}
