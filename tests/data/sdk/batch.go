// What tests/integration/test_sdk.py asks a worker of batches in Go for: the event's type says what.
package main

import (
	"context"
	"errors"
	"millrace"
	"os"
	"strings"
	"time"
)

func note(batch []*millrace.Delivery) error {
	file, err := os.OpenFile("batches", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	var ids []string
	for _, d := range batch {
		ids = append(ids, d.Event.ID)
	}
	_, err = file.WriteString(strings.Join(ids, " ") + "\n")
	return err
}

func handle(ctx context.Context, batch []*millrace.Delivery) error {
	if err := note(batch); err != nil {
		return err
	}
	for _, d := range batch {
		switch d.Event.Type {
		case "fail":
			return errors.New("the batch is no good")
		case "panic":
			panic("poison")
		case "hang":
			<-ctx.Done()
			if err := os.WriteFile("told", []byte("cancelled"), 0o644); err != nil {
				return err
			}
			return errors.New("given up")
		case "result":
			var fine *millrace.Verdict // nil, though not as an error
			d.Answer(map[string]int{"n": 1}, fine)
		case "retry":
			d.Answer(nil, millrace.Retry("busy", time.Hour))
		case "dead":
			d.Answer(nil, millrace.Dead("never"))
		case "emit":
			child := millrace.Event{ID: "child of " + d.Event.ID, Source: "/worker", Type: "child"}
			if err := d.Emit(child); err != nil {
				return err
			}
		}
	}
	return nil
}

func main() {
	millrace.RunBatch(handle, millrace.Concurrency(4))
}
