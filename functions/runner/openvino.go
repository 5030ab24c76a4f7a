package runner

import (
	"context"
	"errors"
	"log/slog"

	"genfn/functions/runner/protocol"
)

func OpenOpenVINO(ctx context.Context, hello *protocol.Hello, log *slog.Logger) (Engine, error) {
	return nil, errors.New("later")
}
