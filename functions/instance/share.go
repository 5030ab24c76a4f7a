package instance

import (
	"context"
	"time"
)

const (
	shareInterval = time.Second      // between two times that figures are stored
	sharePause    = 30 * time.Second // after the broker did not take or tell them
)

// readFigures watches what other instances have learned, and has read what is stored when it returns. Without the
// broker's answer the instance goes on with what it knows: share tries again.
func (i *Instance) readFigures(ctx context.Context) (stop func(), ok bool) {
	stop, err := i.config.Broker.WatchLearned(ctx, i.config.Figures.heard)
	if err != nil {
		if ctx.Err() == nil {
			i.log.Warn("what other instances have learned is not known", "error", err)
		}
		return func() {}, false
	}
	return stop, true
}

// share stores what this process learns, and hears of what others do, until ctx ends. read says whether readFigures
// watches already.
func (i *Instance) share(ctx context.Context, read bool) {
	for ctx.Err() == nil {
		pause := shareInterval
		if !read {
			var stop func()
			if stop, read = i.readFigures(ctx); read {
				defer stop()
			} else {
				pause = sharePause
			}
		}
		select {
		case <-i.config.Figures.changed:
			if err := i.config.Figures.store(ctx, i.config.Broker.UpdateLearned); err != nil && ctx.Err() == nil {
				i.log.Warn("what was learned is not stored yet", "error", err)
				i.config.Figures.signal()
				pause = sharePause
			}
		case <-ctx.Done():
		}
		sleep(ctx, pause)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := i.config.Figures.store(last, i.config.Broker.UpdateLearned); err != nil {
		i.log.Warn("what was learned last is not stored", "error", err)
	}
}
