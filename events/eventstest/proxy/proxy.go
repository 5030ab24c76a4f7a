// Package proxy plays failures of a network: a proxy between two ends of a TCP connection that can be cut and frozen.
package proxy

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
)

// Proxy forwards TCP connections to a server and can be cut.
type Proxy struct {
	target   string // host:port
	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex
	pairs   map[*pair]struct{}
	refuse  bool          // new connections are closed at once
	release chan struct{} // not nil while bytes are held back; closed to let them go on
	answers bool          // only what the server sends is held back
	trigger []byte        // FreezeAnswers when the client sends this
	closed  bool
}

type pair struct{ client, server net.Conn }

func (p *pair) close() {
	p.client.Close()
	p.server.Close()
}

// Listen starts a proxy on a free port of the loopback interface in front of target, a host and port where nobody need
// listen yet. The caller must Close it.
func Listen(ctx context.Context, target string) (*Proxy, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{target: target, listener: l, pairs: map[*pair]struct{}{}}
	p.wg.Add(1)
	go p.accept()
	return p, nil
}

// Address is the host and port to connect to instead of the target's.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// URL is Address for a client of NATS.
func (p *Proxy) URL() string { return "nats://" + p.Address() }

// Cut breaks every connection and refuses new ones until Heal.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = true
	for c := range p.pairs {
		c.close()
	}
}

// Freeze holds back every byte in both directions without closing anything, as
// a network does that drops packets. Heal lets the bytes go on; after Cut they
// are lost.
func (p *Proxy) Freeze() { p.freeze(false) }

// FreezeAnswers holds back what the server sends, while it still receives.
func (p *Proxy) FreezeAnswers() { p.freeze(true) }

// FreezeAnswersAfter does the same from when a client sends something that
// contains text; the server receives it but its answer is held back.
func (p *Proxy) FreezeAnswersAfter(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trigger = []byte(text)
}

func (p *Proxy) freeze(answers bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.freezeLocked(answers)
}

func (p *Proxy) freezeLocked(answers bool) {
	p.answers = answers
	if p.release == nil {
		p.release = make(chan struct{})
	}
}

// Heal ends Cut, Freeze and FreezeAnswers.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heal()
}

func (p *Proxy) heal() {
	p.refuse = false
	if p.release != nil {
		close(p.release)
		p.release = nil
	}
}

// Close ends the proxy and every connection through it.
func (p *Proxy) Close() {
	p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.heal()
	for c := range p.pairs {
		c.close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	defer p.wg.Done()
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		refuse := p.refuse || p.closed
		p.mu.Unlock()
		if refuse {
			client.Close()
			continue
		}
		upstream, err := new(net.Dialer).DialContext(context.Background(), "tcp", p.target)
		if err != nil {
			client.Close()
			continue
		}
		p.join(&pair{client, upstream})
	}
}

func (p *Proxy) join(c *pair) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse || p.closed {
		c.close()
		return
	}
	p.pairs[c] = struct{}{}
	p.wg.Add(2)
	go p.copy(c, c.client, c.server, true)
	go p.copy(c, c.server, c.client, false)
}

// copy forwards bytes until one side ends, then ends both. answers says that
// they come from the server.
func (p *Proxy) copy(c *pair, dst io.Writer, src io.Reader, answers bool) {
	defer p.wg.Done()
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		p.mu.Lock()
		if !answers && p.trigger != nil && bytes.Contains(buf[:n], p.trigger) {
			p.trigger = nil
			p.freezeLocked(true)
		}
		release := p.release
		if p.answers && !answers {
			release = nil
		}
		p.mu.Unlock()
		if release != nil {
			<-release
		}
		if n > 0 {
			if _, werr := dst.Write(buf[:n]); werr != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	c.close()
	p.mu.Lock()
	delete(p.pairs, c)
	p.mu.Unlock()
}
