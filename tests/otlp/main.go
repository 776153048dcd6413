// An OTLP receiver for tests: the OpenTelemetry collector's own, by gRPC and by HTTP. Each line that it appends to a file is what it
// received at once, as OTLP has it in JSON, with the headers that it came with under "headers".
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"go.opentelemetry.io/collector/client"
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

// put appends a request in JSON, which is an object, with the headers of the request first in it.
func (l *lines) put(ctx context.Context, request []byte) error {
	metadata := client.FromContext(ctx).Metadata
	headers := map[string][]string{}
	for name := range metadata.Keys() {
		headers[name] = metadata.Get(name)
	}
	line, err := json.Marshal(map[string]any{"headers": headers})
	if err != nil {
		return err
	}
	if len(request) < 2 || request[0] != '{' {
		return errors.New("a request is no object")
	}
	line = line[:len(line)-1]
	if len(request) > 2 {
		line = append(line, ',')
	}
	line = append(append(line, request[1:]...), '\n')
	l.mutex.Lock()
	defer l.mutex.Unlock()
	_, err = l.file.Write(line)
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
		"protocols": map[string]any{
			"grpc": map[string]any{"endpoint": *grpc, "include_metadata": true},
			"http": map[string]any{"endpoint": *http, "include_metadata": true},
		},
	})
	if err := settings.Unmarshal(config); err != nil {
		return err
	}
	with := receiver.Settings{
		ID:                component.NewID(factory.Type()),
		TelemetrySettings: componenttest.NewNopTelemetrySettings(),
		BuildInfo:         component.NewDefaultBuildInfo(),
	}
	traces, err := consumer.NewTraces(func(ctx context.Context, data ptrace.Traces) error {
		text, err := (&ptrace.JSONMarshaler{}).MarshalTraces(data)
		if err != nil {
			return err
		}
		return to.put(ctx, text)
	})
	if err != nil {
		return err
	}
	metrics, err := consumer.NewMetrics(func(ctx context.Context, data pmetric.Metrics) error {
		text, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(data)
		if err != nil {
			return err
		}
		return to.put(ctx, text)
	})
	if err != nil {
		return err
	}
	logs, err := consumer.NewLogs(func(ctx context.Context, data plog.Logs) error {
		text, err := (&plog.JSONMarshaler{}).MarshalLogs(data)
		if err != nil {
			return err
		}
		return to.put(ctx, text)
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
