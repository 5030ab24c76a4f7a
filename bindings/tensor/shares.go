package tensor

import "sync/atomic"

// Shares count who needs a native object: its one owner, who closes it, and its users, such as calls in progress and
// objects made from it. It is freed when the last share is given up, so that it may be closed at any time and used from
// any goroutine. Safe for concurrent use.
type Shares struct {
	held   atomic.Int64
	closed atomic.Bool
}

// Own makes the object live, with its owner's share.
func (s *Shares) Own() { s.held.Store(1) }

// Add is another user's share, taken by one who has a share.
func (s *Shares) Add() { s.held.Add(1) }

// Use takes a share. It reports false if the object is closed or was never live.
func (s *Shares) Use() bool {
	for {
		n := s.held.Load()
		if n <= 0 || s.closed.Load() {
			return false
		}
		if s.held.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Done gives a share up. It reports true for the last one: the object is to be freed.
func (s *Shares) Done() bool { return s.held.Add(-1) == 0 }

// Close ends further uses. It reports true once, on a live object: the owner's share is to be given up.
func (s *Shares) Close() bool { return s.held.Load() > 0 && s.closed.CompareAndSwap(false, true) }

// Closed reports whether the owner has closed the object.
func (s *Shares) Closed() bool { return s.closed.Load() }
