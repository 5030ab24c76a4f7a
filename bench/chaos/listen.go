package chaos

import (
	"crypto/sha256"
	"errors"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"genfn/events"
	"genfn/events/broker"
)

// answer is a terminal event as it was heard.
type answer struct {
	what [sha256.Size]byte // of its bytes, to tell different ones apart
	typ  string
	at   time.Time
}

// ears hear all answers, on each node by a connection of its own, and all live events. Safe for concurrent use.
type ears struct {
	conns []*nats.Conn

	mu      sync.Mutex
	answers map[string][]answer       // different ones, by request
	waiting map[string]func()         // called with the first answer of a request
	stories map[string][]events.Event // live events, by request
	heard   uint64                    // messages
}

func listen(s *system) (*ears, error) {
	e := &ears{answers: map[string][]answer{}, waiting: map[string]func(){}, stories: map[string][]events.Event{}}
	subscribe := func(url, subject string, hear nats.MsgHandler) error {
		nc, err := nats.Connect(url, nats.Name("chaos ears"), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
		if err != nil {
			return err
		}
		e.conns = append(e.conns, nc)
		_, err = nc.Subscribe(subject, hear)
		return errors.Join(err, nc.Flush())
	}
	for _, url := range s.urls {
		if err := subscribe(url, broker.AnswerSubject("*", "*"), e.answer); err != nil {
			e.close()
			return nil, err
		}
	}
	if err := subscribe(s.url(), broker.EventSubject("*", "*", "*"), e.event); err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

func (e *ears) close() {
	for _, nc := range e.conns {
		nc.Close()
	}
}

func (e *ears) answer(m *nats.Msg) {
	id := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
	a := answer{what: fingerprint(m.Header, m.Data), typ: m.Header.Get("ce-type"), at: time.Now()}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard++
	if done := e.waiting[id]; done != nil {
		delete(e.waiting, id)
		done()
	}
	for _, known := range e.answers[id] {
		if known.what == a.what {
			return
		}
	}
	e.answers[id] = append(e.answers[id], a)
}

// fingerprint is of the event and of who wrote it: the headers that a server adds do not count.
func fingerprint(h nats.Header, data []byte) [sha256.Size]byte {
	text := strings.Join([]string{h.Get("ce-id"), h.Get("ce-type"), h.Get("ce-source"), h.Get("ce-time"), h.Get("Genfn-Writer"), string(data)}, "\x00")
	return sha256.Sum256([]byte(text))
}

func (e *ears) event(m *nats.Msg) {
	event, err := events.Decode(m.Header, m.Data)
	if err != nil {
		return // the check finds what matters
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard++
	e.stories[event.Subject()] = append(e.stories[event.Subject()], event)
}

// whenAnswered calls done once, when the first answer to a request is heard. forget ends that.
func (e *ears) whenAnswered(id string, done func()) (forget func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waiting[id] = done
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.waiting, id)
	}
}

// answered returns how many requests have an answer that was heard.
func (e *ears) answered() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.answers)
}

// events returns how many messages were heard.
func (e *ears) events() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard
}

func (e *ears) all() (answers map[string][]answer, stories map[string][]events.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.answers), maps.Clone(e.stories)
}
