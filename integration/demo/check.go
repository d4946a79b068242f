package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/dfws/dfws/integration/harness"
)

// answer is what the handlers send: demo.answer says who, demo.broadcast only what.
type answer struct {
	From string `json:"from"`
	Text string `json:"text"`
}

// step is one thing to do in the first window, and the frames that must come of it.
type step struct {
	what string
	do   func() error
	want []string // "signal from", in the first window; a broadcast also in the second
}

// drive opens two windows through the gateway and plays every direction.
func drive(ctx context.Context, gateway *harness.Gateway) error {
	client := harness.NewClient(gateway.URL)
	first, err := open(ctx, client)
	if err != nil {
		return err
	}
	defer first.Close()
	second, err := open(ctx, harness.NewClient(gateway.URL))
	if err != nil {
		return err
	}
	defer second.Close()
	call := func(name string) func() error {
		return func() error { return first.Call(name, map[string]any{"name": "Zoë"}) }
	}
	steps := []step{
		{"browser → Celery worker → browser", call("demo.python_hello"), []string{"demo.answer python"}},
		{"browser → Go worker → browser", call("demo.go_hello"), []string{"demo.answer go"}},
		{"browser → both → browser", call("demo.both"), []string{"demo.answer go", "demo.answer python"}},
		{"browser → Celery worker → every window", call("demo.python_broadcast"), []string{"demo.broadcast "}},
		{"Django view → Go worker → every window", func() error { return triggerGo(ctx, client) }, []string{"demo.broadcast "}},
	}
	for _, s := range steps {
		if err := s.play(ctx, first, second); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	return callTask(ctx, client)
}

func open(ctx context.Context, client *harness.Client) (*harness.Window, error) {
	resp, err := client.Get(ctx, "/")
	if err == nil && resp.Status != http.StatusOK {
		err = fmt.Errorf("the page answers %d", resp.Status)
	}
	if err != nil {
		return nil, err
	}
	return client.Open(ctx)
}

func (s *step) play(ctx context.Context, first, second *harness.Window) error {
	start := time.Now()
	if err := s.do(); err != nil {
		return err
	}
	missing := map[string]bool{}
	for _, w := range s.want {
		missing[w] = true
	}
	for len(missing) > 0 {
		frame, err := first.Next(ctx)
		if err != nil {
			return fmt.Errorf("waiting for %d frames: %w", len(missing), err)
		}
		a, err := parse(frame)
		if err != nil {
			return err
		}
		delete(missing, frame.Signal+" "+a.From)
		fmt.Printf("%-42s %6.1f ms  %s %q\n", s.what, time.Since(start).Seconds()*1000, frame.Signal, a.Text)
		if frame.Signal != "demo.broadcast" {
			continue
		}
		other, err := second.Next(ctx)
		if err != nil {
			return fmt.Errorf("second window: %w", err)
		}
		if other.Text != frame.Text {
			return fmt.Errorf("the second window got another frame: %s", other.Text)
		}
	}
	return nil
}

func parse(frame harness.Frame) (a answer, err error) {
	if frame.SignalID == "" {
		return a, fmt.Errorf("frame without signal_id: %s", frame.Text)
	}
	return a, json.Unmarshal(frame.Opts, &a)
}

func triggerGo(ctx context.Context, client *harness.Client) error {
	resp, err := client.XHR(ctx, "/trigger-go/?name=Zo%C3%AB")
	if err == nil && resp.Status != http.StatusOK {
		err = fmt.Errorf("the view answers %d", resp.Status)
	}
	return err
}

// callTask lets Django call a plain Celery task that runs in Go, and wait for its result.
func callTask(ctx context.Context, client *harness.Client) error {
	start := time.Now()
	resp, err := client.Get(ctx, "/call-task/?task=demo.add&args=[2,3]&queue=go")
	if err != nil {
		return err
	}
	if resp.Status != http.StatusOK || !strings.Contains(resp.Body, `"5"`) {
		return fmt.Errorf("task of Django in Go: %d %s", resp.Status, resp.Body)
	}
	fmt.Printf("%-42s %6.1f ms  demo.add(2, 3) = 5\n", "Django → Go task → AsyncResult.get()", time.Since(start).Seconds()*1000)
	return nil
}
