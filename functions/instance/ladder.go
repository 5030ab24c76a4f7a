package instance

// rungs are the ways to make the request's picture with less memory, each cheaper than the one before.
func (a *attempt) rungs() []string { return nil }
