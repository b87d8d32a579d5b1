// Package millrace is a worker of Millrace in Go: nothing but the standard library, Go 1.19 or
// later.
//
//	package main
//
//	import (
//		"context"
//		"millrace"
//	)
//
//	func handle(ctx context.Context, d *millrace.Delivery) (any, error) {
//		var order struct{ Total float64 }
//		err := d.Decode(&order)
//		return map[string]float64{"taxed": order.Total * 1.2}, err
//	}
//
//	func main() {
//		millrace.Run(handle, millrace.Concurrency(8))
//	}
//
// What the handler returns is the result data of the delivery (anything JSON can say; nil: no
// data). The delivery is retried when the handler returns an error or panics, with that as error;
// Retry, Drop and Dead make errors that say something else, also when wrapped with %w.
//
// With Concurrency(8) eight deliveries are handled at once, each in a goroutine of its own. The
// worker's `concurrency` in Millrace's configuration is the upper bound.
//
// For a subscription with `batch` there is RunBatch, whose handler gets several deliveries at once.
//
// The module is found without any download: put into go.mod
//
//	require millrace v0.0.0
//	replace millrace => /usr/local/share/millrace/sdk/go
//
// The protocol below this is docs/worker-protocol.md.
package millrace

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
)

const readSize = 64 * 1024

// A Handler handles one delivery; its context is done when Millrace gave the delivery up.
type Handler func(ctx context.Context, d *Delivery) (any, error)

// An Event is a CloudEvent; attributes that are absent are "".
type Event struct {
	SpecVersion     string `json:"specversion,omitempty"`
	ID              string `json:"id"`
	Source          string `json:"source"`
	Type            string `json:"type"`
	Subject         string `json:"subject,omitempty"`
	Time            string `json:"time,omitempty"`
	DataSchema      string `json:"dataschema,omitempty"`
	DataContentType string `json:"datacontenttype,omitempty"`
	// JSON text for JSON data, else the bytes; nil: no data.
	Data []byte `json:"-"`
}

// MarshalJSON makes the CloudEvents JSON format of it, for Emit.
func (e Event) MarshalJSON() ([]byte, error) {
	type attributes Event // without this method
	whole := struct {
		attributes
		Data   json.RawMessage `json:"data,omitempty"`
		Base64 []byte          `json:"data_base64,omitempty"`
	}{attributes: attributes(e)}
	if whole.SpecVersion == "" {
		whole.SpecVersion = "1.0"
	}
	if isJSON(e.DataContentType) {
		whole.Data = e.Data
	} else {
		whole.Base64 = e.Data
	}
	return json.Marshal(whole)
}

func isJSON(contentType string) bool {
	name, _, _ := strings.Cut(contentType, ";")
	name = strings.ToLower(strings.TrimSpace(name))
	return name == "" || strings.HasSuffix(name, "/json") || strings.HasSuffix(name, "+json")
}

// A Delivery is what a handler knows about its event and may say while it runs. Its methods may be
// called from any goroutine until the handler returns.
type Delivery struct {
	ID       string // the same for all attempts: use it to be idempotent
	Attempt  int    // from 1
	Last     bool   // a retry now ends it
	Deadline time.Time
	Event    Event

	server  *server
	line    []byte
	batch   *batch
	ctx     context.Context
	cancel  context.CancelFunc
	mu      sync.Mutex // protects what follows
	emitted []json.RawMessage
	said    *answer
}

// Context is done when Millrace gave this delivery up. A Handler gets it as its own.
func (d *Delivery) Context() context.Context { return d.ctx }

// Decode reads the event's JSON data into v. Its error is Dead: data that does not fit now will
// not fit at the next attempt either.
func (d *Delivery) Decode(v any) error {
	if err := json.Unmarshal(d.Event.Data, v); err != nil {
		return Dead("the data does not fit: " + err.Error())
	}
	return nil
}

// Attribute gives any attribute of the event as text, extensions too; "" when it is absent.
func (d *Delivery) Attribute(name string) string {
	var whole struct{ Event map[string]json.RawMessage }
	if json.Unmarshal(d.line, &whole) != nil {
		return ""
	}
	value := whole.Event[name]
	var text string
	if json.Unmarshal(value, &text) != nil {
		return string(value) // a number, true or false
	}
	return text
}

// Emit emits a CloudEvent if the handler succeeds: an Event, or whatever encodes as one (a map with
// at least id, source, type).
func (d *Delivery) Emit(event any) error {
	text, err := json.Marshal(event)
	if err != nil {
		return err
	}
	var version struct {
		SpecVersion *string `json:"specversion"`
	}
	if err = json.Unmarshal(text, &version); err != nil {
		return fmt.Errorf("millrace: an event is an object: %w", err)
	}
	if version.SpecVersion == nil {
		rest := bytes.TrimPrefix(text, []byte("{"))
		comma := ","
		if string(rest) == "}" {
			comma = ""
		}
		text = append([]byte(`{"specversion":"1.0"`+comma), rest...)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.emitted = append(d.emitted, text)
	return nil
}

// Heartbeat says that the handler is alive, which extends its time; progress is anything JSON can
// say, or nil.
func (d *Delivery) Heartbeat(progress any) error {
	text, err := json.Marshal(struct {
		Heartbeat string `json:"heartbeat"`
		Progress  any    `json:"progress,omitempty"`
	}{d.ID, progress})
	if err == nil {
		d.server.send(text)
	}
	return err
}

// A Verdict is an error that says what becomes of the delivery.
type Verdict struct {
	verdict string
	text    string
	after   time.Duration
	data    any
}

func (v *Verdict) Error() string { return v.text }

// WithData adds result data to a verdict.
func (v *Verdict) WithData(data any) *Verdict {
	v.data = data
	return v
}

// Retry means: try again, after the schedule of the subscription, or after so long.
func Retry(text string, after ...time.Duration) *Verdict {
	v := &Verdict{verdict: "retry", text: text, after: -1}
	if len(after) > 0 {
		v.after = after[0]
	}
	return v
}

// Drop means: handled by doing nothing; it ends as dropped, with the reason.
func Drop(text string) *Verdict { return &Verdict{verdict: "drop", text: text, after: -1} }

// Dead means: no attempt will ever help; it goes to the dead letters, with the reason.
func Dead(text string) *Verdict { return &Verdict{verdict: "dead", text: text, after: -1} }

// An Option changes how a worker runs.
type Option func(*server)

// Concurrency sets how many deliveries are handled at once (1).
func Concurrency(n int) Option { return func(s *server) { s.hello.Max = n } }

// Version is shown with each attempt.
func Version(version string) Option { return func(s *server) { s.hello.Version = version } }

// FD sets the descriptor of the socket (3).
func FD(fd int) Option { return func(s *server) { s.fd = fd } }

// Run serves deliveries until Millrace says stop. When it cannot, it says why on standard error and
// ends the process.
func Run(handle Handler, options ...Option) {
	exitWith(Serve(handle, options...))
}

func exitWith(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Serve is Run that returns its error. A Millrace that went away is none.
func Serve(handle Handler, options ...Option) error {
	return serve(func(ctx context.Context, batch []*Delivery) error {
		batch[0].Answer(handle(ctx, batch[0]))
		return nil
	}, options)
}

// serve serves whatever the features it declares, beside the usual ones, ask for.
func serve(handle BatchHandler, options []Option, features ...string) error {
	s := &server{handle: handle, fd: 3, running: map[string]*Delivery{}}
	s.idle.L = &s.mu
	s.hello.Millrace = 1
	// raw: data is not parsed in vain
	s.hello.Features = append([]string{"cancel", "progress", "raw"}, features...)
	for _, option := range options {
		option(s)
	}
	if s.hello.Max < 1 {
		s.hello.Max = 1
	}
	file := os.NewFile(uintptr(s.fd), "millrace")
	conn, err := net.FileConn(file)
	if err != nil {
		return fmt.Errorf("millrace: descriptor %d is no socket; is this started by Millrace?", s.fd)
	}
	file.Close() // conn has a descriptor of its own, which children do not inherit
	s.conn = conn
	defer conn.Close()
	hello, err := json.Marshal(s.hello)
	if err != nil {
		return err
	}
	s.send(hello)
	return s.serve()
}

type server struct {
	handle BatchHandler
	open   *batch // whose deliveries are still coming
	fd     int
	conn   net.Conn
	hello  struct {
		Millrace int      `json:"millrace"`
		Max      int      `json:"max"`
		Features []string `json:"features"`
		Version  string   `json:"version,omitempty"`
	}

	mu       sync.Mutex // protects what follows
	idle     sync.Cond  // nothing runs, nothing is being written
	running  map[string]*Delivery
	stopping bool
	out      []byte // frames not yet written
	spare    []byte // a buffer to swap with out
	writing  bool   // some goroutine writes
}

// frame is any frame from Millrace.
type frame struct {
	Delivery *string `json:"delivery"`
	Attempt  *int    `json:"attempt"`
	Last     bool    `json:"last"`
	Deadline string  `json:"deadline"`
	DataSize *int    `json:"data_size"`
	Event    struct {
		Event
		Data   json.RawMessage `json:"data"`
		Base64 []byte          `json:"data_base64"`
	} `json:"event"`
	Batch  *uint64 `json:"batch"`
	Count  int     `json:"count"`
	Cancel *string `json:"cancel"`
	Stop   bool    `json:"stop"`
}

// answer is about a delivery, or about all of a batch that have none.
type answer struct {
	Delivery string            `json:"delivery,omitempty"`
	Batch    *uint64           `json:"batch,omitempty"`
	Verdict  string            `json:"verdict"`
	Error    string            `json:"error,omitempty"`
	After    *float64          `json:"after,omitempty"`
	Events   []json.RawMessage `json:"events,omitempty"`
	Data     json.RawMessage   `json:"data,omitempty"`
}

// serve reads until the end of input, and returns once nothing runs any more.
func (s *server) serve() error {
	ctx, cancel := context.WithCancel(context.Background())
	reader := bufio.NewReaderSize(s.conn, readSize)
	var failure error
	for failure == nil {
		line, err := reader.ReadBytes('\n')
		if err != nil {
			break // the end, or finish() let go of it
		}
		failure = s.take(ctx, line, reader)
	}
	cancel() // nobody waits for those that still run
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.running) > 0 || s.writing {
		s.idle.Wait()
	}
	return failure
}

// take acts on one frame.
func (s *server) take(ctx context.Context, line []byte, reader io.Reader) error {
	var f frame
	var syntax *json.SyntaxError // members of another type are of the future
	if err := json.Unmarshal(line, &f); errors.As(err, &syntax) {
		return fmt.Errorf("millrace: a frame is no JSON: %w", err)
	}
	switch {
	case f.Delivery != nil:
		d, err := s.delivery(&f, line, reader)
		if err != nil {
			return nil // the end of input, which is found again
		}
		if b := s.gather(d); b != nil {
			s.begin(ctx, b)
		}
	case f.Batch != nil:
		s.open = &batch{number: f.Batch, count: f.Count}
	case f.Cancel != nil:
		s.mu.Lock()
		if d := s.running[*f.Cancel]; d != nil {
			d.batch.giveUp(d)
		}
		s.mu.Unlock()
	case f.Stop:
		s.mu.Lock()
		s.stopping = true
		s.finishIfDone()
		s.mu.Unlock()
	}
	return nil
}

func (s *server) delivery(f *frame, line []byte, reader io.Reader) (*Delivery, error) {
	d := &Delivery{ID: *f.Delivery, Attempt: 1, Last: f.Last, Event: f.Event.Event,
		server: s, line: line}
	if f.Attempt != nil {
		d.Attempt = *f.Attempt
	}
	d.Deadline, _ = time.Parse(time.RFC3339, f.Deadline) // zero if there is none
	var text string
	switch {
	case f.DataSize != nil:
		d.Event.Data = make([]byte, *f.DataSize)
		if _, err := io.ReadFull(reader, d.Event.Data); err != nil {
			return nil, err
		}
	case f.Event.Base64 != nil:
		d.Event.Data = f.Event.Base64
	case !isJSON(d.Event.DataContentType) && json.Unmarshal(f.Event.Data, &text) == nil:
		d.Event.Data = []byte(text)
	default:
		d.Event.Data = f.Event.Data
	}
	return d, nil
}

// answerOf is the answer to what a handler returned.
func answerOf(result any, err error) *answer {
	a := &answer{Verdict: "ok"}
	var verdict *Verdict
	if v, is := err.(*Verdict); is && v == nil {
		err = nil // as its function meant it, which returns *Verdict
	}
	if errors.As(err, &verdict) {
		a.Verdict = verdict.verdict
		a.Error = err.Error()
		result = verdict.data
		if verdict.after >= 0 {
			seconds := verdict.after.Seconds()
			a.After = &seconds
		}
	} else if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return &answer{Verdict: "retry", Error: err.Error()}
	}
	if result != nil {
		if a.Data, err = json.Marshal(result); err != nil {
			return &answer{Verdict: "retry", Error: "the result is no JSON: " + err.Error()}
		}
	}
	return a
}

// send writes frames; done: the deliveries that end with them. Frames of goroutines that are ready
// at the same time go together: the first one writes for all.
func (s *server) send(text []byte, done ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = append(append(s.out, text...), '\n') // of several frames the last one lacks it
	for _, id := range done {
		delete(s.running, id)
	}
	if s.writing {
		return
	}
	s.writing = true
	if len(s.running) > 0 {
		s.mu.Unlock()
		runtime.Gosched() // let others that are ready add theirs
		s.mu.Lock()
	}
	for len(s.out) > 0 {
		data := s.out
		s.out = s.spare[:0]
		s.mu.Unlock()
		_, err := s.conn.Write(data)
		s.mu.Lock()
		s.spare = data
		if err != nil { // Millrace is gone, which the reading side finds too
			s.out = s.out[:0]
		}
	}
	s.writing = false
	s.finishIfDone()
}

// finishIfDone lets go of the reading side when nothing more is to come; mu is held.
func (s *server) finishIfDone() {
	if len(s.running) > 0 || s.writing {
		return
	}
	s.idle.Broadcast()
	if s.stopping {
		_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // a connection that is closed is as good
	}
}
