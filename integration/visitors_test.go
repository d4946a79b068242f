//go:build integration

package integration

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/dfws/dfws/integration/harness"
)

// The object of setup_demo that windows are bound to.
const objectTopic = "object:auth.group:42"

// visitor is somebody with one open window.
type visitor struct {
	*harness.Window
	name   string // of the window
	user   string // "" for anonymous
	topics []string
	client *harness.Client
}

// The visitors of most tests. The topics decide who hears what.
var visitors = []visitor{
	{name: "alice-1", user: "alice", topics: []string{"news", objectTopic}},
	{name: "alice-2", user: "alice"},
	{name: "bob", user: "bob", topics: []string{objectTopic, "class:auth.group"}},
	{name: "staff", user: "staff", topics: []string{"news", "int:7"}},
	{name: "root", user: "root"},
	{name: "nobody", topics: []string{objectTopic}},
}

// hears says whether a window of the visitors hears a topic, named as in project/demo/targets.py, that alice-1 addresses.
func (v visitor) hears(topic string) bool {
	switch topic {
	case "window":
		return v.name == "alice-1"
	case "user":
		return v.user == "alice"
	case "broadcast":
		return true
	default:
		return slices.Contains(v.topics, topic)
	}
}

// openAll logs everybody in and opens the windows, in order.
func openAll(t *testing.T, ctx context.Context, base *url.URL) []visitor {
	t.Helper()
	open := make([]visitor, len(visitors))
	for i, v := range visitors {
		v.client = harness.NewClient(base)
		if v.user != "" {
			must(t, v.client.Login(ctx, v.user))
		}
		must(t, v.client.Page(ctx, v.topics...))
		v.Window = must1(v.client.Open(ctx))(t)
		t.Cleanup(func() { _ = v.Window.Close() }) // the server may have closed it before
		open[i] = v
	}
	return open
}

// fence lets one window make Python tell all windows a mark, and returns what each window got before it. What that window had sent
// before to the same queue has then arrived.
func fence(t *testing.T, ctx context.Context, open []visitor, window int, mark string) [][]harness.Frame {
	t.Helper()
	must(t, open[window].Call("matrix.python", map[string]any{"to": []string{"broadcast"}, "mark": mark}))
	return untilMark(t, ctx, open, mark)
}

// untilMark returns what each window got before a frame with this mark.
func untilMark(t *testing.T, ctx context.Context, open []visitor, mark string) [][]harness.Frame {
	t.Helper()
	got := make([][]harness.Frame, len(open))
	for i, v := range open {
		frames, err := v.Until(soon(t, ctx), func(f harness.Frame) bool { return frameMark(f) == mark })
		if err != nil {
			t.Fatalf("%s: fence %q: %v; got %s", v.name, mark, err, texts(frames))
		}
		got[i] = frames[:len(frames)-1]
	}
	return got
}

func texts(frames []harness.Frame) []string {
	out := make([]string, len(frames))
	for i, f := range frames {
		out[i] = f.Text
	}
	return out
}

func names(open []visitor) []string {
	out := make([]string, len(open))
	for i, v := range open {
		out[i] = v.name
	}
	return out
}

// unquote takes the quotes off a text as Python shows it; Go notes texts without.
func unquote(text string) string { return strings.Trim(text, "'") }
