package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// pollInterval is how often a condition is looked at.
const pollInterval = 20 * time.Millisecond

// WaitFor polls condition until it returns nil or an error that is [ErrExited] or [ErrClosed], which no waiting mends. When ctx
// ends first, the error carries the condition's last one.
func WaitFor(ctx context.Context, what string, condition func(context.Context) error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var last error
	for {
		err := condition(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil && last != nil { // the condition was cut off: what it said before tells more
			err = last
		}
		last = err
		if errors.Is(err, ErrExited) || errors.Is(err, ErrClosed) {
			return fmt.Errorf("harness: %s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("harness: %s: %w (last: %w)", what, context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}

// FreePort returns a loopback port that nobody listens on and that the lab did not return before.
func (l *Lab) FreePort() (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, fmt.Errorf("harness: free port: %w", err)
		}
		port := listener.Addr().(*net.TCPAddr).Port
		if err := listener.Close(); err != nil {
			return 0, fmt.Errorf("harness: free port: %w", err)
		}
		if !l.ports[port] {
			l.ports[port] = true
			return port, nil
		}
	}
}

func (l *Lab) freeURL() (*url.URL, error) {
	port, err := l.FreePort()
	if err != nil {
		return nil, err
	}
	return &url.URL{Scheme: "http", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}, nil
}

// answers is a condition: the page answers with a status below 500.
func answers(page string) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
		if err != nil {
			return err
		}
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		if err := resp.Body.Close(); err != nil {
			return err
		}
		if resp.StatusCode >= http.StatusInternalServerError {
			return fmt.Errorf("%s answers %s", page, resp.Status)
		}
		return nil
	}
}
