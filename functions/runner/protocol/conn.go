package protocol

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// MaxFrame is the largest frame in bytes, without its length.
const MaxFrame = 1 << 20

// Conn sends and receives messages over a stream. Send is safe for concurrent use, Receive is for one
// goroutine at a time.
type Conn struct {
	stream io.ReadWriteCloser
	in     *bufio.Reader
	frame  []byte // of Receive

	mu      sync.Mutex
	out     []byte        // of Send
	timeout time.Duration // of Send; 0: none
}

// deadliner is a stream whose writes can be bounded.
type deadliner interface{ SetWriteDeadline(t time.Time) error }

// NewConn returns a connection that owns stream.
func NewConn(stream io.ReadWriteCloser) *Conn {
	return &Conn{stream: stream, in: bufio.NewReader(stream)}
}

// SetSendTimeout bounds each Send from now on, if the stream has write deadlines; 0 is no bound. A Send that took
// too long fails with os.ErrDeadlineExceeded; it may have sent half a frame, so the connection must be closed.
func (c *Conn) SetSendTimeout(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timeout = d
}

// Close closes the stream; a Receive that waits then fails.
func (c *Conn) Close() error { return c.stream.Close() }

// envelope is a message on the wire.
type envelope struct {
	Kind Kind            `json:"kind"`
	Body json.RawMessage `json:"body"`
}

// Send writes m as one frame: 4 bytes length, little-endian, and JSON. A message that is wrong or too large
// is an error and nothing of it is written.
func (c *Conn) Send(m Message) error {
	if err := m.validate(); err != nil {
		return fmt.Errorf("runner protocol: send %s: %w", m.kind(), err)
	}
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("runner protocol: send %s: %w", m.kind(), err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = append(c.out[:0], 0, 0, 0, 0)
	c.out = fmt.Appendf(c.out, `{"kind":%q,"body":%s}`, m.kind(), body) // an envelope
	size := len(c.out) - 4
	if size > MaxFrame {
		return fmt.Errorf("runner protocol: send %s: frame of %d bytes, at most %d are allowed", m.kind(), size, MaxFrame)
	}
	binary.LittleEndian.PutUint32(c.out, uint32(size))
	if stream, ok := c.stream.(deadliner); ok && c.timeout > 0 {
		if err := stream.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
			return fmt.Errorf("runner protocol: send %s: %w", m.kind(), err)
		}
	}
	if _, err := c.stream.Write(c.out); err != nil {
		return fmt.Errorf("runner protocol: send %s: %w", m.kind(), err)
	}
	return nil
}

// Receive waits for the next message. It returns io.EOF when the other side has ended between two frames;
// after any error the connection is of no more use.
func (c *Conn) Receive() (Message, error) {
	var length [4]byte
	if _, err := io.ReadFull(c.in, length[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("runner protocol: frame length: %w", err)
	}
	n := binary.LittleEndian.Uint32(length[:])
	if n == 0 || n > MaxFrame {
		return nil, fmt.Errorf("runner protocol: frame of %d bytes: expected 1 to %d", n, MaxFrame)
	}
	if cap(c.frame) < int(n) {
		c.frame = make([]byte, n)
	}
	frame := c.frame[:n]
	if _, err := io.ReadFull(c.in, frame); err != nil {
		return nil, fmt.Errorf("runner protocol: frame of %d bytes: %w", n, err)
	}
	return decode(frame)
}

func decode(frame []byte) (Message, error) {
	var e envelope
	if err := json.Unmarshal(frame, &e); err != nil {
		return nil, fmt.Errorf("runner protocol: frame is not a message: %w", err)
	}
	m := newMessage(e.Kind)
	if m == nil {
		return nil, fmt.Errorf("runner protocol: unknown message kind %q", e.Kind)
	}
	if err := json.Unmarshal(e.Body, m); err != nil {
		return nil, fmt.Errorf("runner protocol: %s: %w", e.Kind, err)
	}
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("runner protocol: %s: %w", e.Kind, err)
	}
	return m, nil
}
