package process

// Done is closed when the process has ended and is reaped.
func (p *Process) Done() <-chan struct{} { return p.done }
