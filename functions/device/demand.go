package device

import "genfn/events"

// ReasonDemanded is the reason of a proof that somebody else asks for.
const ReasonDemanded = "demanded"

// Demand has the device prove itself before it takes another request, whatever its state and its pause.
func (h *Health) Demand(message string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.enter(events.StateProbation, ReasonDemanded, message, 0)
}
