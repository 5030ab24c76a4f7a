package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"genfn/functions/controller"
	"genfn/functions/instance"
)

// metrics are what a process measures; nil: nothing.
type metrics struct {
	instance   *instance.Metrics
	controller *controller.Metrics
}

// roles say what a process is.
type roles struct{ instance, controller bool }

// serveMetrics serves the Prometheus metrics of a process under /metrics on an address until stop is called. With no
// address there are none.
func serveMetrics(ctx context.Context, address string, is roles, log *slog.Logger) (m metrics, stop func(), err error) {
	if address == "" {
		return m, func() {}, nil
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if is.instance {
		if m.instance, err = instance.NewMetrics(registry); err != nil {
			return m, nil, err
		}
	}
	if is.controller {
		if m.controller, err = controller.NewMetrics(registry); err != nil {
			return m, nil, err
		}
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", address)
	if err != nil {
		return m, nil, usageError{fmt.Errorf("--metrics %s: expected a free address such as 127.0.0.1:9464: %w", address, err)}
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are served no more", "error", err)
		}
	}()
	log.Info("metrics", "url", "http://"+listener.Addr().String()+"/metrics")
	return m, func() { server.Close() }, nil
}
