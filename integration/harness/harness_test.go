//go:build integration

package harness_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dfws/dfws/integration/harness"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newLab(t *testing.T) *harness.Lab {
	t.Helper()
	l, err := harness.New(harness.Config{})
	harness.Require(t, "python", err)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	l.DumpOnFailure(t)
	return l
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// TestTodaysStack runs the demo page as it is without this project: daphne, Celery and Chromium.
func TestTodaysStack(t *testing.T) {
	t.Parallel()
	ctx := within(t, 2*time.Minute)
	l := newLab(t)
	site, err := l.NewSite(ctx, harness.SiteOptions{WithoutShim: true})
	if err != nil {
		t.Fatal(err)
	}
	daphne, err := site.Daphne(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := site.Celery(ctx, harness.CeleryOptions{}); err != nil {
		t.Fatal(err)
	}
	browser, err := l.Browser(ctx)
	harness.Require(t, "chromium", err)
	tab, err := browser.Tab(daphne.URL.String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	if err := tab.Wait(ctx, `document.querySelector("#status").classList.contains("connected")`); err != nil {
		t.Fatal(err)
	}
	if err := tab.Click("#python-hello"); err != nil {
		t.Fatal(err)
	}
	if err := tab.Wait(ctx, `document.querySelector("#log li").textContent.includes("Hello Ada")`); err != nil {
		t.Fatal(err)
	}
	if image, err := tab.Screenshot(); err != nil || len(image) < 10_000 {
		t.Errorf("screenshot of %d bytes, error %v", len(image), err)
	}
	if err := tab.Close(); err != nil {
		t.Error(err)
	}
	call, err := site.WaitCall(ctx, "the call", func(c harness.Call) bool { return c.Handler == "demo.python_hello" })
	if err != nil || call.Arguments["name"] != "'Ada'" {
		t.Errorf("call %+v, error %v", call, err)
	}
}

// TestStop: a process that ignores SIGTERM is killed, and reported.
func TestStop(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	p, err := l.Start(within(t, 20*time.Second), harness.Command{
		Name: "stubborn", Path: "/bin/sh", Args: []string{"-c", `trap "" TERM; echo on; while :; do sleep 1; done`}, StopTimeout: 100 * time.Millisecond,
		Ready: logs("on"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err == nil || !strings.Contains(err.Error(), "stubborn did not stop") {
		t.Errorf("stop: %v", err)
	}
	select {
	case <-p.Done():
	default:
		t.Error("still runs")
	}
	p.Kill() // again, without effect
}

// TestStartFails: a program that ends before it is ready fails at once, with the end of its log.
func TestStartFails(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	_, err := l.Start(within(t, 20*time.Second), harness.Command{
		Name: "broken", Path: "/bin/sh", Args: []string{"-c", "echo no configuration; exit 3"},
		Ready: func(context.Context, *harness.Process) error { return errors.New("never") },
	})
	if !errors.Is(err, harness.ErrExited) || !strings.Contains(err.Error(), "no configuration") {
		t.Errorf("start: %v", err)
	}
}

// TestClose: nothing outlives the lab, children included, and its folder is gone.
func TestClose(t *testing.T) {
	t.Parallel()
	l, err := harness.New(harness.Config{})
	harness.Require(t, "python", err)
	p, err := l.Start(within(t, 20*time.Second), harness.Command{
		Name: "parent", Path: "/bin/sh", Args: []string{"-c", "sleep 600 & echo child $!; wait"}, Ready: logs("child"),
	})
	if err != nil {
		t.Fatal(err)
	}
	var child int
	if _, err := fmt.Sscanf(p.Tail(2), "child %d", &child); err != nil {
		t.Fatalf("%v in %q", err, p.Tail(2))
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	err = harness.WaitFor(within(t, 5*time.Second), "end of the child", func(context.Context) error {
		if err := syscall.Kill(child, 0); err == nil {
			return fmt.Errorf("process %d is alive", child)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(l.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
}

func logs(text string) func(context.Context, *harness.Process) error {
	return func(_ context.Context, p *harness.Process) error {
		if !strings.Contains(p.Tail(10), text) {
			return errors.New("not yet")
		}
		return nil
	}
}
