package millrace

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
)

// A BatchHandler handles several deliveries at once, those of a subscription with `batch`:
//
//	func handle(ctx context.Context, batch []*millrace.Delivery) error {
//		for _, d := range batch {
//			d.Answer(nil, store(d.Event)) // nil, an error, or Retry("busy", 5*time.Second)
//		}
//		return nil // those it said nothing of are done
//	}
//
// When it returns an error or panics, the batch failed as a whole, but for what it said with Answer
// before: Millrace takes that back and tries it again in halves, at no cost, until one is alone.
// Drop and Dead end all it said nothing of.
//
// Its context is done when Millrace gave up all of the batch; each delivery has a Context of its
// own.
type BatchHandler func(ctx context.Context, batch []*Delivery) error

// RunBatch is Run for batches, whose number at once Concurrency sets. A delivery that comes by
// itself is a batch of one.
func RunBatch(handle BatchHandler, options ...Option) {
	exitWith(ServeBatch(handle, options...))
}

// ServeBatch is RunBatch that returns its error.
func ServeBatch(handle BatchHandler, options ...Option) error {
	return serve(handle, options, "batch")
}

// Answer says what becomes of one delivery of a batch, as a Handler does with what it returns:
// d.Answer(handleOne(ctx, d)). It costs the others nothing; said twice, the last one counts, and
// once the handler has returned it is too late.
func (d *Delivery) Answer(data any, err error) {
	said := answerOf(data, err)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.said = said
}

// batch is what one call of the handler is about: deliveries that came together, or one by itself.
type batch struct {
	number     *uint64 // nil: one by itself
	count      int     // to come
	deliveries []*Delivery
	ctx        context.Context
	cancel     context.CancelFunc
	givenUp    int // of them; protected by the server's mu
}

// gather gives what can be handled now that this delivery came, or nil.
func (s *server) gather(d *Delivery) *batch {
	b := s.open
	if b == nil {
		b = &batch{count: 1}
	}
	b.deliveries = append(b.deliveries, d)
	if len(b.deliveries) < b.count {
		return nil
	}
	s.open = nil
	return b
}

func (s *server) begin(ctx context.Context, b *batch) {
	b.ctx, b.cancel = context.WithCancel(ctx)
	s.mu.Lock()
	for _, d := range b.deliveries {
		d.batch = b
		d.ctx, d.cancel = b.ctx, b.cancel
		if len(b.deliveries) > 1 {
			d.ctx, d.cancel = context.WithCancel(b.ctx)
		}
		s.running[d.ID] = d
	}
	s.mu.Unlock()
	go s.work(b)
}

// giveUp tells the handler that Millrace gave up d, one of b; the server's mu is held.
func (b *batch) giveUp(d *Delivery) {
	if d.ctx.Err() != nil {
		return // it knows
	}
	d.cancel()
	if b.givenUp++; b.givenUp == len(b.deliveries) {
		b.cancel()
	}
}

// work runs the handler and sends its answers.
func (s *server) work(b *batch) {
	whole := answerOf(nil, s.call(b))
	b.cancel()
	var frames [][]byte
	done := make([]string, len(b.deliveries))
	left := false
	for i, d := range b.deliveries {
		done[i] = d.ID
		if a := d.answer(whole); a != nil {
			frames = append(frames, a.encode())
		} else {
			left = true
		}
	}
	if left {
		whole.Batch = b.number
		whole.Data = nil // belongs to the answer of one
		frames = append(frames, whole.encode())
	}
	s.send(bytes.Join(frames, []byte("\n")), done...)
}

func (s *server) call(b *batch) (whole error) {
	defer func() {
		if reason := recover(); reason != nil {
			fmt.Fprintf(os.Stderr, "panic: %v\n%s", reason, debug.Stack())
			whole = Retry(fmt.Sprintf("panic: %v", reason))
		}
	}()
	return s.handle(b.ctx, b.deliveries)
}

// answer gives its own one; nil: that of the whole batch says it too.
func (d *Delivery) answer(whole *answer) *answer {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.said
	if a == nil {
		together := whole.Verdict == "retry" || (whole.Verdict == "ok" && d.emitted == nil)
		if d.batch.number != nil && together {
			return nil
		}
		copied := *whole
		a = &copied
	}
	a.Delivery = d.ID
	if a.Verdict != "retry" {
		a.Events = d.emitted
	}
	return a
}

func (a *answer) encode() []byte {
	text, err := json.Marshal(a)
	if err != nil {
		text, _ = json.Marshal(answer{Delivery: a.Delivery, Batch: a.Batch, Verdict: "retry",
			Error: err.Error()})
	}
	return text
}
