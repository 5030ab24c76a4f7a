// Package tensortest makes tests fail when they leave native memory or objects behind.
package tensortest

import (
	"testing"

	"genfn/bindings/tensor"
)

// NewLedger returns a ledger that fails t at its cleanup if anything is outstanding, naming the
// creation site of each. Clean-ups run in reverse: what the test closes in t.Cleanup is closed before.
func NewLedger(t testing.TB) *tensor.Ledger {
	t.Helper()
	ledger := tensor.NewLedger()
	t.Cleanup(func() {
		t.Helper()
		for _, entry := range ledger.Outstanding() {
			t.Errorf("not closed: %s", entry)
		}
		if bytes := ledger.Bytes(); bytes != 0 {
			t.Errorf("%d bytes outstanding", bytes)
		}
	})
	return ledger
}
