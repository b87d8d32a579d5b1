// What tests/integration/test_sdk.py asks a worker in Go for: the event's type says what.
package main

import (
	"context"
	"errors"
	"fmt"
	"millrace"
	"os"
	"time"
)

func handle(ctx context.Context, d *millrace.Delivery) (any, error) {
	switch d.Event.Type {
	case "fail":
		if d.Attempt == 1 {
			return nil, errors.New("the first is no good")
		}
	case "panic":
		if d.Attempt == 1 {
			var nothing map[string]int
			nothing["x"] = 1
		}
	case "nojson":
		return make(chan int), nil
	case "emit":
		child := millrace.Event{ID: "child of emit", Source: "/worker", Type: "child",
			Data: []byte(`{"a":1}`)}
		return map[string]int{"emitted": 1}, d.Emit(child)
	case "later":
		if !d.Last && d.Attempt == 1 {
			return nil, fmt.Errorf("wrapped: %w", millrace.Retry("later", 50*time.Millisecond))
		}
	case "bytes":
		return nil, millrace.Dead(fmt.Sprint(len(d.Event.Data), " bytes"))
	case "long":
		for i := 0; i < 60; i++ {
			<-time.After(100 * time.Millisecond)
			if err := d.Heartbeat(map[string]float64{"done": float64(i) / 60}); err != nil {
				return nil, err
			}
		}
	case "stuck":
		<-ctx.Done()
		if err := os.WriteFile("told", []byte("cancelled"), 0o644); err != nil {
			return nil, err
		}
		return nil, millrace.Dead("stuck")
	case "slow":
		if err := os.WriteFile("started", nil, 0o644); err != nil {
			return nil, err
		}
		for _, err := os.Stat("go"); err != nil; _, err = os.Stat("go") {
			<-time.After(10 * time.Millisecond)
		}
	}
	return nil, nil
}

func main() {
	millrace.Run(handle, millrace.Concurrency(16))
	if err := os.WriteFile("ended", nil, 0o644); err != nil {
		panic(err)
	}
}
