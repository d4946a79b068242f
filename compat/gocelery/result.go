package gocelery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/worker"
)

// A result is pushed to those who wait for it, except by gocelery's workers, whose backend stores it and tells nobody
// (redis_backend.go, SetResult). So it is also looked for: at first as often as gocelery does, then each time that a tenth of the
// time waited so far has passed.
const (
	minPoll      = 50 * time.Millisecond
	maxPoll      = time.Second
	pollFraction = 10
)

// ErrNotAvailable is returned by AsyncResult.AsyncGet for a task that is not done. The text is gocelery's.
var ErrNotAvailable = errors.New("result not available")

// AsyncResult is the result of a task that was sent. It is safe for concurrent use. Only a CeleryClient makes one that works.
type AsyncResult struct {
	// TaskID is the ID of the task.
	TaskID string

	results *redisbroker.Results // nil: the site has no results in Redis

	mu    sync.Mutex
	known *celeryproto.ResultMeta // the result, once it was seen
}

// Get waits for the result, for timeout at most, and returns it as encoding/json does: numbers are float64. A task that failed
// is an error at once, a *worker.Exception with the traceback; with gocelery it takes the whole timeout. When the time is over the
// error is a context.DeadlineExceeded with gocelery's text.
func (ar *AsyncResult) Get(timeout time.Duration) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	v, err := ar.Wait(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("%v timeout getting result for %s: %w", timeout, ar.TaskID, err)
	}
	return v, err
}

// Wait is Get until ctx ends.
func (ar *AsyncResult) Wait(ctx context.Context) (any, error) {
	meta, err := ar.await(ctx)
	if err != nil {
		return nil, err
	}
	return valueOf(meta)
}

// AsyncGet returns the result if it is there, as Get does, and otherwise ErrNotAvailable.
func (ar *AsyncResult) AsyncGet() (any, error) {
	meta, err := ar.look(context.Background()) // a reply of Redis takes no longer than its socket timeout
	switch {
	case err != nil:
		return nil, err
	case meta == nil:
		return nil, ErrNotAvailable
	}
	return valueOf(meta)
}

// Ready tells whether the task is done, well or not. The error is one of Redis; gocelery also has one for a result that is not
// there.
func (ar *AsyncResult) Ready() (bool, error) {
	meta, err := ar.look(context.Background())
	return meta != nil, err
}

// seen returns the result that was seen before, nil for none.
func (ar *AsyncResult) seen() *celeryproto.ResultMeta {
	ar.mu.Lock()
	defer ar.mu.Unlock()
	return ar.known
}

// look reads the result: nil when it is not there or not final.
func (ar *AsyncResult) look(ctx context.Context) (*celeryproto.ResultMeta, error) {
	if meta := ar.seen(); meta != nil {
		return meta, nil
	}
	if ar.results == nil {
		return nil, worker.ErrNoResultBackend
	}
	meta, err := ar.results.Get(ctx, ar.TaskID)
	switch {
	case errors.Is(err, celeryproto.ErrNoResult):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("gocelery: %w", err)
	case !celeryproto.IsReady(meta.Status):
		return nil, nil
	}
	ar.keep(meta)
	return meta, nil
}

func (ar *AsyncResult) keep(meta *celeryproto.ResultMeta) {
	ar.mu.Lock()
	defer ar.mu.Unlock()
	ar.known = meta
}

// await waits for the result: for what is pushed, and looking for it beside.
func (ar *AsyncResult) await(ctx context.Context) (*celeryproto.ResultMeta, error) {
	if meta := ar.seen(); meta != nil {
		return meta, nil
	}
	if ar.results == nil {
		return nil, worker.ErrNoResultBackend
	}
	waitCtx, found := context.WithCancel(ctx)
	var pushed *celeryproto.ResultMeta
	var pushErr error
	var push sync.WaitGroup
	pushedC := make(chan struct{})
	push.Go(func() {
		defer close(pushedC)
		pushed, pushErr = ar.results.Wait(waitCtx, ar.TaskID)
	})
	defer push.Wait()
	defer found()
	var trouble error // with looking for it
	for start := time.Now(); ; {
		select {
		case <-pushedC:
			if pushErr != nil {
				return nil, fmt.Errorf("gocelery: %w", errors.Join(pushErr, trouble))
			}
			ar.keep(pushed)
			return pushed, nil
		case <-time.After(pause(time.Since(start))):
		}
		meta, err := ar.look(ctx)
		switch {
		case meta != nil:
			return meta, nil
		case ctx.Err() != nil: // which Wait returns
		case err != nil && !redisbroker.Retryable(err):
			return nil, err
		default:
			trouble = err
		}
	}
}

// pause is the time until the result is looked for again.
func pause(waited time.Duration) time.Duration {
	return min(max(waited/pollFraction, minPoll), maxPoll)
}

// valueOf is what a task that is done returned, or its exception as an error.
func valueOf(meta *celeryproto.ResultMeta) (any, error) {
	if meta.Status == celeryproto.StatusSuccess {
		raw := meta.Result
		if raw == nil {
			return nil, nil
		}
		v, err := decode(raw)
		if err != nil {
			return nil, fmt.Errorf("gocelery: result of %s: %w", meta.TaskID, err)
		}
		return v, nil
	}
	e, err := meta.Exception()
	if err != nil {
		return nil, fmt.Errorf("gocelery: result of a task that ended as %s: %w", meta.Status, err)
	}
	out := &worker.Exception{Type: e.Type, Module: e.Module, Args: make([]any, len(e.Message)), Traceback: meta.Traceback}
	for i, raw := range e.Message {
		if out.Args[i], err = celeryproto.DecodeValue(raw); err != nil {
			out.Args[i] = raw
		}
	}
	return nil, out
}
