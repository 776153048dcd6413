// An OTLP receiver for tests: the OpenTelemetry collector's own, by gRPC and by HTTP. Each line that it appends to a file is what it
// received at once, as OTLP has it in JSON.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "otlp-receiver:", err)
		os.Exit(1)
	}
}

// lines appends whole lines, one at a time: what is there when a test looks can be read, but for an unfinished last one.
type lines struct {
	mutex sync.Mutex
	file  *os.File
}

func (l *lines) put(line []byte) error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	_, err := l.file.Write(append(line, '\n'))
	return err
}

func run() error {
	grpc := flag.String("grpc", "127.0.0.1:4317", "where gRPC is taken")
	http := flag.String("http", "127.0.0.1:4318", "where HTTP is taken")
	out := flag.String("out", "/dev/stdout", "where lines are appended")
	flag.Parse()
	file, err := os.OpenFile(*out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	to := &lines{file: file}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	factory := otlpreceiver.NewFactory()
	config := factory.CreateDefaultConfig()
	settings := confmap.NewFromStringMap(map[string]any{
		"protocols": map[string]any{"grpc": map[string]any{"endpoint": *grpc}, "http": map[string]any{"endpoint": *http}},
	})
	if err := settings.Unmarshal(config); err != nil {
		return err
	}
	with := receiver.Settings{
		ID:                component.NewID(factory.Type()),
		TelemetrySettings: componenttest.NewNopTelemetrySettings(),
		BuildInfo:         component.NewDefaultBuildInfo(),
	}
	traces, err := consumer.NewTraces(func(_ context.Context, data ptrace.Traces) error {
		text, err := (&ptrace.JSONMarshaler{}).MarshalTraces(data)
		if err != nil {
			return err
		}
		return to.put(text)
	})
	if err != nil {
		return err
	}
	metrics, err := consumer.NewMetrics(func(_ context.Context, data pmetric.Metrics) error {
		text, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(data)
		if err != nil {
			return err
		}
		return to.put(text)
	})
	if err != nil {
		return err
	}
	logs, err := consumer.NewLogs(func(_ context.Context, data plog.Logs) error {
		text, err := (&plog.JSONMarshaler{}).MarshalLogs(data)
		if err != nil {
			return err
		}
		return to.put(text)
	})
	if err != nil {
		return err
	}
	// The three share their listeners, as the factory knows them by their configuration.
	var parts []component.Component
	ofTraces, err := factory.CreateTraces(ctx, with, config, traces)
	if err != nil {
		return err
	}
	ofMetrics, err := factory.CreateMetrics(ctx, with, config, metrics)
	if err != nil {
		return err
	}
	ofLogs, err := factory.CreateLogs(ctx, with, config, logs)
	if err != nil {
		return err
	}
	parts = append(parts, ofTraces, ofMetrics, ofLogs)
	for _, part := range parts {
		if err := part.Start(ctx, componenttest.NewNopHost()); err != nil {
			return err
		}
	}
	<-ctx.Done()
	for _, part := range parts {
		if err := part.Shutdown(context.Background()); err != nil {
			return err
		}
	}
	return nil
}
