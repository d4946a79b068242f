package channelslayer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/dfws/dfws/internal/redisconn"
)

// DefaultServerConcurrency is how many messages a Server handles at a time.
const DefaultServerConcurrency = 16

// Server handles what is sent to general channels, as Channels' runworker does (channels 4.3, worker.py): a core layer gives
// each message to one of the processes that serve its channel, a pub/sub layer to all of them. There is nothing to be acked: a
// message that was taken is lost when the process dies. While Redis is away Run tries again, where runworker ends.
type Server struct {
	// Layer to receive from; required.
	Layer Layer
	// Channels are the names of general channels, such as "thumbnails"; at least one.
	Channels []string
	// Handle is called for each message, up to Concurrency at a time. ctx ends StopTimeout after that of Run.
	Handle func(ctx context.Context, channel string, m Message)
	// Concurrency bounds the calls of Handle at a time; 0 means DefaultServerConcurrency, 1 one after the other.
	Concurrency int
	// StopTimeout is how long the calls that run may go on when Run's context ends; 0 means 5 s.
	StopTimeout time.Duration
	// Logger gets outages, messages without a type and panics of Handle; nil discards.
	Logger *slog.Logger
}

func (s *Server) validate() error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("channelslayer: server: "+format, args...))
	}
	if s.Layer == nil {
		fault("Layer is missing")
	}
	if s.Handle == nil {
		fault("Handle is missing")
	}
	if len(s.Channels) == 0 {
		fault("Channels is empty")
	}
	if s.Concurrency < 0 {
		fault("Concurrency %d is negative", s.Concurrency)
	}
	if s.StopTimeout < 0 {
		fault("StopTimeout %v is negative", s.StopTimeout)
	}
	return errors.Join(faults...)
}

// Run serves until ctx ends, then waits for the calls of Handle. It returns nil, or an error that cannot pass: of the names of
// channels, of Redis' refusals, or ErrClosed when the layer was closed first.
func (s *Server) Run(ctx context.Context) error {
	if err := s.validate(); err != nil {
		return err
	}
	run := serverRun{Server: *s, places: make(chan struct{}, s.Concurrency)}
	if s.Concurrency == 0 {
		run.places = make(chan struct{}, DefaultServerConcurrency)
	}
	if s.Logger == nil {
		run.Logger = slog.New(slog.DiscardHandler)
	}
	if s.StopTimeout == 0 {
		run.StopTimeout = DefaultStopTimeout
	}
	return run.run(ctx)
}

// serverRun is a Server with its defaults, while it runs.
type serverRun struct {
	Server
	places chan struct{} // an element for each message that is handled
	calls  sync.WaitGroup
}

func (s *serverRun) run(ctx context.Context) error {
	receiving, stop := context.WithCancel(ctx)
	defer stop()
	work, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	errs := make([]error, len(s.Channels))
	var receivers sync.WaitGroup
	for i, channel := range s.Channels {
		receivers.Go(func() {
			if errs[i] = s.receive(receiving, work, channel); errs[i] != nil {
				stop()
			}
		})
	}
	<-receiving.Done()
	timer := time.AfterFunc(s.StopTimeout, abandon)
	defer timer.Stop()
	receivers.Wait()
	s.calls.Wait()
	return errors.Join(errs...)
}

// receive hands over what comes on one channel until ctx ends.
func (s *serverRun) receive(ctx, work context.Context, channel string) error {
	var pause redisconn.Backoff
	failing := false
	for {
		m, err := s.Layer.Receive(ctx, channel)
		if err == nil {
			pause.Reset()
			failing = false
			s.places <- struct{}{} // it was taken: it is handled, also when ctx ends meanwhile
			s.calls.Go(func() {
				defer func() { <-s.places }()
				s.handle(work, channel, m)
			})
			continue
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case !Retryable(err):
			return err
		case !failing: // one outage, one line
			failing = true
			s.Logger.WarnContext(ctx, "channel cannot be received from, trying again", slog.String("channel", channel), slog.Any("err", err))
		}
		pause.Wait(ctx)
	}
}

// handle calls Handle. A panic of one message does not end the others.
func (s *serverRun) handle(ctx context.Context, channel string, m Message) {
	if kind, _ := m[typeKeyName].(string); kind == "" {
		s.Logger.WarnContext(ctx, "message without a type", slog.String("channel", channel))
		return
	}
	defer func() {
		if fault := recover(); fault != nil {
			s.Logger.ErrorContext(ctx, "panic while a message was handled", slog.String("channel", channel), slog.Any("panic", fault),
				slog.String("stack", string(debug.Stack())))
		}
	}()
	s.Handle(ctx, channel, m)
}
