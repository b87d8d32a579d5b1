// The worker that ../conformance.py asks for, with this library.
// Arguments: how many deliveries at once (1), then perhaps `batch`.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"millrace"
)

func handle(ctx context.Context, d *millrace.Delivery) (any, error) {
	switch kind := d.Event.Type; kind[strings.LastIndex(kind, ".")+1:] {
	case "retry":
		return nil, millrace.Retry("busy", 2500*time.Millisecond)
	case "drop":
		return nil, millrace.Drop("not for us")
	case "dead":
		return nil, millrace.Dead("never")
	case "emit":
		child := map[string]any{"id": "child-1", "source": "/worker", "type": "conformance.child"}
		if err := d.Emit(child); err != nil {
			return nil, err
		}
		return nil, d.Emit(millrace.Event{ID: "child-2", Source: "/worker", Type: "conformance.child"})
	case "echo":
		return json.RawMessage(d.Event.Data), nil
	case "size":
		return len(d.Event.Data), nil
	case "heartbeat":
		return nil, d.Heartbeat(map[string]float64{"done": 0.5})
	case "wait":
		<-ctx.Done()
		return nil, fmt.Errorf("cancelled: %w", ctx.Err())
	}
	return nil, nil
}

func handleBatch(_ context.Context, batch []*millrace.Delivery) error {
	for _, d := range batch {
		if d.Event.Type == "conformance.fail" {
			panic("all of it")
		}
		if data, err := handle(d.Context(), d); data != nil || err != nil {
			d.Answer(data, err)
		}
	}
	return nil
}

func main() {
	max := 1
	if len(os.Args) > 1 {
		max, _ = strconv.Atoi(os.Args[1]) // no number: 0, which is taken for 1
	}
	options := []millrace.Option{millrace.Concurrency(max), millrace.Version("1.0")}
	if len(os.Args) > 2 && os.Args[2] == "batch" {
		millrace.RunBatch(handleBatch, options...)
	} else {
		millrace.Run(handle, options...)
	}
}
