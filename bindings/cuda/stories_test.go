package cuda_test

// The stories here are told by a fake of CUDA (fake_test.go), by the virtual device (virtual_test.go) and by a real GPU
// (gpu_test.go).

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/cuda"
	"genfn/bindings/tensor"
	"genfn/bindings/tensor/tensortest"
)

// childEnv makes a copy of the test binary kill its own context and tell what it saw; its value are the folder and the
// driver's library of Options, with a colon between.
const childEnv = "GENFN_TEST_CUDA_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(faultyChildEnv) != "" {
		os.Exit(faultyChild(os.Getenv(faultyChildEnv), os.Stdout))
	}
	if os.Getenv(childEnv) != "" {
		dir, driver, _ := strings.Cut(os.Getenv(childEnv), ":")
		os.Exit(stickyChild(cuda.Options{LibraryDir: dir, DriverLibrary: driver}, os.Stdout))
	}
	os.Exit(m.Run())
}

func closing[T io.Closer](t testing.TB, x T) T {
	t.Helper()
	t.Cleanup(func() { assert.NoError(t, x.Close()) })
	return x
}

func openDevice(t testing.TB, o cuda.Options) *cuda.Device {
	t.Helper()
	o.Ledger = tensortest.NewLedger(t)
	r, err := cuda.Open(o)
	require.NoError(t, err)
	d, err := closing(t, r).OpenDevice(0)
	require.NoError(t, err)
	return closing(t, d)
}

func newStream(t testing.TB, d *cuda.Device) *cuda.Stream {
	t.Helper()
	s, err := d.NewStream(t.Name())
	require.NoError(t, err)
	return closing(t, s)
}

func malloc(t testing.TB, d *cuda.Device, bytes int64) *cuda.Buffer {
	t.Helper()
	b, err := d.Malloc(t.Name(), bytes)
	require.NoError(t, err)
	return closing(t, b)
}

// pattern is bytes that repeat with no power of two.
func pattern(n int64) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(i % 251)
	}
	return out
}

func tellIdentity(t *testing.T, o cuda.Options) {
	r, err := cuda.Open(o)
	require.NoError(t, err)
	n, err := r.DeviceCount()
	require.NoError(t, err)
	require.Positive(t, n)
	id, err := r.Identify(0)
	require.NoError(t, err)
	require.NotEmpty(t, id.Name)
	require.Len(t, id.UUID, 32)
	d := openDevice(t, o)
	architecture, err := d.Architecture()
	require.NoError(t, err)
	require.Regexp(t, `^sm_[0-9]{2,3}$`, architecture)
	pci, err := d.PCI()
	require.NoError(t, err)
	require.Regexp(t, `^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.0$`, pci)
	free, total, err := d.Memory()
	require.NoError(t, err)
	require.Greater(t, free, int64(1<<30))
	require.LessOrEqual(t, free, total)
	t.Logf("%d devices; %s, %s, %s, UUID %s; %d MiB free of %d; runtime %s from %s, driver %s for CUDA %s",
		n, id.Name, architecture, pci, id.UUID, free>>20, total>>20, r.Version(), r.Library(), cuda.KernelDriver(), r.DriverVersion())
	_, err = r.Identify(n)
	require.ErrorContains(t, err, "(cudaErrorInvalidDevice, 101)")
	_, err = r.OpenDevice(n)
	require.ErrorContains(t, err, "(cudaErrorInvalidDevice, 101)")
}

func tellCopies(t *testing.T, o cuda.Options) {
	d := openDevice(t, o)
	s := newStream(t, d)
	for _, n := range []int64{1, 3, 4097, 64<<20 + 1} {
		t.Run(strconv.FormatInt(n, 10), func(t *testing.T) {
			a, b := malloc(t, d, n), malloc(t, d, n)
			want, got := pattern(n), make([]byte, n)
			require.NoError(t, s.Write(a.All(), want))
			require.NoError(t, s.Copy(b.All(), a.All()))
			require.NoError(t, s.Read(got, b.All()))
			require.True(t, bytes.Equal(want, got), "through pageable memory")

			h, err := d.MallocHost(t.Name(), n)
			require.NoError(t, err)
			closing(t, h)
			copy(h.Bytes(), want)
			require.NoError(t, s.Fill(a.All(), 0xa5))
			require.NoError(t, s.Copy(b.All(), h.All()))
			require.NoError(t, s.Copy(a.All(), b.All()))
			require.NoError(t, s.Fill(b.All(), 0xa5))
			require.NoError(t, s.Copy(h.All(), a.All()))
			require.NoError(t, s.Synchronize())
			require.True(t, bytes.Equal(want, h.Bytes()), "through pinned memory")
			require.NoError(t, s.Read(got, b.All()))
			require.True(t, bytes.Equal(bytes.Repeat([]byte{0xa5}, int(n)), got), "filled")
		})
	}
}

// tellManyGoroutines uses the device from goroutines that no thread belongs to.
func tellManyGoroutines(t *testing.T, o cuda.Options) {
	d := openDevice(t, o)
	var group sync.WaitGroup
	for worker := range 16 {
		group.Go(func() {
			for i := range 50 {
				err := roundTrip(d, int64(worker*1000+i+1))
				if !assert.NoError(t, err) {
					return
				}
			}
		})
	}
	group.Wait()
}

// roundTrip makes everything, uses it and closes it.
func roundTrip(d *cuda.Device, n int64) (err error) {
	s, err := d.NewStream("round trip")
	if err != nil {
		return err
	}
	defer s.Close()
	return roundTripOn(d, s, n)
}

func roundTripOn(d *cuda.Device, s *cuda.Stream, n int64) error {
	b, err := d.Malloc("round trip", n)
	if err != nil {
		return err
	}
	defer b.Close()
	want, got := pattern(n), make([]byte, n)
	if err := errors.Join(s.Write(b.All(), want), s.Read(got, b.All())); err != nil {
		return err
	}
	if !bytes.Equal(want, got) {
		return fmt.Errorf("%d bytes came back changed", n)
	}
	return nil
}

// spinPTX is a kernel that runs for as many nanoseconds as its parameter says, and pokePTX one that writes to the
// address that it says: PTX that every driver since CUDA 11 compiles.
const (
	spinPTX = `.version 7.0
.target sm_70
.address_size 64
.visible .entry spin(.param .u64 ns) {
	.reg .pred %p;
	.reg .u64 %start, %now, %ns;
	ld.param.u64 %ns, [ns];
	mov.u64 %start, %globaltimer;
again:
	mov.u64 %now, %globaltimer;
	sub.u64 %now, %now, %start;
	setp.lt.u64 %p, %now, %ns;
	@%p bra again;
	ret;
}
`
	pokePTX = `.version 7.0
.target sm_70
.address_size 64
.visible .entry poke(.param .u64 address) {
	.reg .u64 %a;
	.reg .u32 %v;
	ld.param.u64 %a, [address];
	mov.u32 %v, 1;
	st.global.u32 [%a], %v;
	ret;
}
`
)

// launcher loads code and returns a function that launches its kernel with one number.
func launcher(d *cuda.Device, code, name string) (launch func(s *cuda.Stream, value uint64) error, library *cuda.Library, err error) {
	if library, err = d.LoadLibrary(name, []byte(code)); err != nil {
		return nil, nil, err
	}
	kernel, err := library.Kernel(name)
	if err != nil {
		return nil, nil, errors.Join(err, library.Close())
	}
	return func(s *cuda.Stream, value uint64) error {
		param := make([]byte, 8)
		for i := range param {
			param[i] = byte(value >> (8 * i))
		}
		return kernel.Launch(s, cuda.Dim3{}, cuda.Dim3{}, param)
	}, library, nil
}

func tellPool(t *testing.T, o cuda.Options) {
	d := openDevice(t, o)
	s := newStream(t, d)
	pool, err := d.Pool()
	require.NoError(t, err)
	require.NoError(t, pool.KeepAll())
	b, err := s.MallocAsync(t.Name(), 64<<20)
	require.NoError(t, err)
	require.NoError(t, s.Fill(b.All(), 7))
	reserved, used, err := pool.Memory()
	require.NoError(t, err)
	require.GreaterOrEqual(t, used, int64(64<<20))
	require.GreaterOrEqual(t, reserved, used)
	require.NoError(t, b.Close())
	require.NoError(t, s.Synchronize())
	kept, used, err := pool.Memory()
	require.NoError(t, err)
	require.Zero(t, used)
	require.GreaterOrEqual(t, kept, int64(64<<20), "the pool keeps what was freed")
	require.NoError(t, pool.Trim(0))
	trimmed, _, err := pool.Memory()
	require.NoError(t, err)
	require.Zero(t, trimmed)
	t.Logf("64 MiB: the pool held %d MiB, after the free %d MiB, after the trim %d", reserved>>20, kept>>20, trimmed)
}

func requireCode(t testing.TB, err error, code int) *cuda.Error {
	t.Helper()
	var known *cuda.Error
	require.ErrorAs(t, err, &known)
	require.Equal(t, code, known.Code, known)
	return known
}

// tellOutOfMemory asks for too much at once, then fills the memory up: each time the refusal is named, what there
// was before stays good, and in the end no less is free than before.
func tellOutOfMemory(t *testing.T, o cuda.Options) {
	d := openDevice(t, o)
	s := newStream(t, d)
	keep := malloc(t, d, 1<<20)
	require.NoError(t, s.Write(keep.All(), pattern(1<<20)))
	before, total, err := d.Memory()
	require.NoError(t, err)

	_, err = d.Malloc("too much", 2*total)
	known := requireCode(t, err, 2)
	require.False(t, known.Dead())
	require.ErrorContains(t, err, fmt.Sprintf("allocate %d bytes for too much: out of memory (cudaErrorMemoryAllocation, 2)", 2*total))
	require.NoError(t, d.Dead())

	var all []*cuda.Buffer
	for err = nil; err == nil; {
		var b *cuda.Buffer
		if b, err = d.Malloc("filling", 1<<30); err == nil {
			all = append(all, b)
		}
	}
	requireCode(t, err, 2)
	full, _, err := d.Memory()
	require.NoError(t, err)
	_, err = s.MallocAsync("of a full device", 1<<30)
	requireCode(t, err, 2)
	for _, b := range all {
		require.NoError(t, b.Close())
	}
	pool, err := d.Pool()
	require.NoError(t, err)
	require.NoError(t, pool.Trim(0))
	after, _, err := d.Memory()
	require.NoError(t, err)
	t.Logf("free: %d MiB before, %d MiB with %d buffers of 1 GiB, %d MiB after: %d bytes more than before", before>>20, full>>20, len(all), after>>20, after-before)
	require.Less(t, full, int64(1<<30))
	// The driver may have given up memory of its own meanwhile, so that more is free than before (6 MiB on an H200).
	require.GreaterOrEqual(t, after, before, "the device's memory is back")

	got := make([]byte, 1<<20)
	require.NoError(t, s.Read(got, keep.All()))
	require.True(t, bytes.Equal(pattern(1<<20), got), "what was there is unharmed")
	require.NoError(t, roundTrip(d, 1<<20), "the next call works")
}

// tellStages is how memory runs out in the field: the stages of a model fill it one after the other, one more does not
// fit, all of it is given up, and the next generation, without that stage, works.
func tellStages(t *testing.T, o cuda.Options) {
	d := openDevice(t, o)
	s := newStream(t, d)
	pool, err := d.Pool()
	require.NoError(t, err)
	before, _, err := d.Memory()
	require.NoError(t, err)
	share := before / 8 // of what is free
	generate := func(stages ...int64) (err error) {
		var made []*cuda.Buffer
		defer func() {
			for _, b := range made {
				err = errors.Join(err, b.Close())
			}
			err = errors.Join(err, s.Synchronize(), pool.Trim(0))
		}()
		for i, shares := range stages {
			weights, err := d.Malloc(fmt.Sprintf("weights of stage %d", i), shares*share)
			if err != nil {
				return err
			}
			made = append(made, weights)
			activations, err := s.MallocAsync(fmt.Sprintf("activations of stage %d", i), share/2)
			if err != nil {
				return err
			}
			made = append(made, activations)
			if err := stage(s, weights, activations); err != nil {
				return err
			}
		}
		return nil
	}
	for range 3 {
		known := requireCode(t, generate(1, 3, 1, 3), 2)
		require.Equal(t, fmt.Sprintf("allocate %d bytes for weights of stage 3", 3*share), known.Op)
		require.NoError(t, d.Dead())
		after, _, err := d.Memory()
		require.NoError(t, err)
		require.GreaterOrEqual(t, after, before, "everything is given back")
		require.NoError(t, generate(1, 3, 1), "the next generation works")
	}
}

// stage moves something through the memory of a stage, as far as its first MiB.
func stage(s *cuda.Stream, weights, activations *cuda.Buffer) error {
	from, err := weights.All().Slice(0, 1<<20)
	if err != nil {
		return err
	}
	to, err := activations.All().Slice(0, 1<<20)
	if err != nil {
		return err
	}
	want, got := pattern(1<<20), make([]byte, 1<<20)
	if err := errors.Join(s.Write(from, want), s.Copy(to, from), s.Read(got, to)); err != nil {
		return err
	}
	if !bytes.Equal(want, got) {
		return errors.New("the memory of a stage has changed")
	}
	return nil
}

func tellRefusals(t *testing.T, o cuda.Options) {
	d := openDevice(t, o)
	s := newStream(t, d)
	refused := func(code string) error {
		_, library, err := launcher(d, code, "spin")
		if err == nil {
			assert.NoError(t, library.Close())
		}
		return err
	}
	for name, err := range map[string]error{
		"no code":          refused("this is no code"),
		"unknown target":   refused(strings.ReplaceAll(spinPTX, "sm_70", "sm_999")),
		"broken PTX":       refused(strings.ReplaceAll(spinPTX, "ret;", "return;")),
		"another kernel":   refused(pokePTX),
		"too many threads": tooManyThreads(d, s),
	} {
		var known *cuda.Error
		require.ErrorAs(t, err, &known, name)
		t.Logf("%s: %v", name, err)
		require.False(t, known.Dead(), name)
		require.NoError(t, d.Dead(), name)
	}
	require.NoError(t, roundTrip(d, 1000))
}

func tooManyThreads(d *cuda.Device, s *cuda.Stream) error {
	library, err := d.LoadLibrary("spin", []byte(spinPTX))
	if err != nil {
		return err
	}
	defer library.Close()
	kernel, err := library.Kernel("spin")
	if err != nil {
		return err
	}
	return kernel.Launch(s, cuda.Dim3{}, cuda.Dim3{X: 4096}, make([]byte, 8))
}

// stickyChild kills its context with an illegal address and tells what follows.
func stickyChild(o cuda.Options, out io.Writer) int {
	ledger := tensor.NewLedger()
	o.Ledger = ledger
	r, err := cuda.Open(o)
	if err != nil {
		fmt.Fprintln(out, "open:", err)
		return 1
	}
	d, err := r.OpenDevice(0)
	if err != nil {
		fmt.Fprintln(out, "open device:", err)
		return 1
	}
	s, err := d.NewStream("child")
	poke, library, loadErr := launcher(d, pokePTX, "poke")
	b, mallocErr := d.Malloc("child", 1<<20)
	if err := errors.Join(err, loadErr, mallocErr); err != nil {
		fmt.Fprintln(out, "prepare:", err)
		return 1
	}
	say := func(what string, err error) {
		var known *cuda.Error
		code := 0
		if errors.As(err, &known) {
			code = known.Code
		}
		fmt.Fprintf(out, "%s: code %d, dead %t: %v\n", what, code, errors.Is(err, cuda.ErrDead), err)
	}
	say("launch", poke(s, 16))
	say("synchronize", s.Synchronize())
	_, err = d.Malloc("after", 1)
	say("malloc", err)
	_, _, err = d.Memory()
	say("memory", err)
	say("write", s.Write(b.All(), make([]byte, 1<<20)))
	second, err := r.OpenDevice(0)
	say("second device", err)
	if err == nil {
		second.Close()
	}
	say("close", errors.Join(b.Close(), library.Close(), s.Close(), d.Close()))
	fmt.Fprintf(out, "ledger: %d bytes, %d objects\n", ledger.Bytes(), len(ledger.Outstanding()))
	return 0
}

// tellStickyError kills the context of a child process: the device closes itself and stays closed, the process ends
// by itself, the context of this process and those of fresh ones are well.
func tellStickyError(t *testing.T, o cuda.Options) {
	d := openDevice(t, o)
	before, _, err := d.Memory()
	require.NoError(t, err)
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+o.LibraryDir+":"+o.DriverLibrary)
		said, err := cmd.CombinedOutput()
		t.Logf("%s", said)
		require.NoError(t, err)
		for _, line := range []string{
			"launch: code 0, dead false", "synchronize: code 700, dead true", "malloc: code 700, dead true", "memory: code 700, dead true",
			"write: code 700, dead true", "second device: code 700", "close: code 0", "ledger: 0 bytes, 0 objects",
		} {
			require.Contains(t, string(said), line)
		}
		require.NoError(t, roundTrip(d, 4097), "this process is well")
	}
	after, _, err := d.Memory()
	require.NoError(t, err)
	require.GreaterOrEqual(t, after, before, "the driver has freed the memory of the processes that died")
}

// tellSignals makes sure that the driver has not taken Go's handlers.
func tellSignals(t *testing.T, o cuda.Options) {
	openDevice(t, o)
	func() {
		defer func() { assert.NotNil(t, recover(), "a nil dereference is a panic") }()
		var nothing *struct{ x int }
		nothing.x++ //nolint:staticcheck // on purpose
	}()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	defer signal.Stop(signals)
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGUSR1))
	select {
	case <-signals:
	case <-t.Context().Done():
		t.Fatal("no signal")
	}
}

func tellClosedObjects(t *testing.T, o cuda.Options) {
	d := openDevice(t, o)
	s := newStream(t, d)
	b, err := d.Malloc(t.Name(), 64)
	require.NoError(t, err)
	view := b.All()
	require.NoError(t, b.Close())
	require.NoError(t, b.Close())
	require.ErrorIs(t, s.Fill(view, 1), cuda.ErrClosed)
	library, err := d.LoadLibrary("spin", []byte(spinPTX))
	require.NoError(t, err)
	kernel, err := library.Kernel("spin")
	require.NoError(t, err)
	require.NoError(t, library.Close())
	require.ErrorIs(t, kernel.Launch(s, cuda.Dim3{}, cuda.Dim3{}, make([]byte, 8)), cuda.ErrClosed)
}

// tellStreams: work goes on while the host does, and streams wait for what they are told to.
func tellStreams(t *testing.T, o cuda.Options) {
	d := openDevice(t, o)
	first, second := newStream(t, d), newStream(t, d)
	spin, library, err := launcher(d, spinPTX, "spin")
	require.NoError(t, err)
	closing(t, library)
	event := func() *cuda.Event {
		e, err := d.NewEvent(t.Name(), true)
		require.NoError(t, err)
		return closing(t, e)
	}
	begin, middle, end := event(), event(), event()
	const span = time.Second           // longer than a busy host is away
	require.NoError(t, spin(first, 1)) // code is loaded at the first launch
	require.NoError(t, first.Synchronize())

	require.NoError(t, first.Record(begin))
	require.NoError(t, spin(first, uint64(span)))
	require.NoError(t, first.Record(middle))
	idle, err := first.Idle()
	require.NoError(t, err)
	require.False(t, idle, "the kernel runs while the host goes on")
	reached, err := middle.Reached()
	require.NoError(t, err)
	require.False(t, reached)
	idle, err = second.Idle()
	require.NoError(t, err)
	require.True(t, idle, "the other stream does not wait")
	require.NoError(t, second.Wait(middle))
	require.NoError(t, second.Record(end))
	require.NoError(t, end.Synchronize())
	reached, err = middle.Reached()
	require.NoError(t, err)
	require.True(t, reached, "the second stream waited for the first's event")
	elapsed, err := begin.Elapsed(middle)
	require.NoError(t, err)
	require.GreaterOrEqual(t, elapsed, span-time.Millisecond)
	t.Logf("a kernel of %s took %s by events", span, elapsed)
}
