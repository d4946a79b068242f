package worker

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/channelslayer"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/dispatch"
	"github.com/dfws/dfws/integration/logbuffer"
	"github.com/dfws/dfws/integration/redistest"
)

// channelsSite is a site whose workers are Channels'.
func channelsSite(t testing.TB, server *redistest.Server, backend string) *compat.Settings {
	t.Helper()
	file, err := json.Marshal(map[string]any{
		"schema": 1, "celery": map[string]any{"broker_url": server.URLFor(0)}, "websocket": map[string]any{"workers": "channels"},
		"channel_layer": map[string]any{"hosts": []any{map[string]any{"url": server.URLFor(2)}}, "backend": backend},
	})
	if err != nil {
		t.Fatal(err)
	}
	settings, err := compat.ParseSettings(file)
	if err != nil {
		t.Fatal(err)
	}
	return settings
}

// texts collects what handlers got.
type texts struct {
	mu  sync.Mutex
	got []string
}

func (x *texts) add(text string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.got = append(x.got, text)
}

func (x *texts) has(text string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Contains(x.got, text)
}

// Signals go over the channel layer to a Go worker, as runworker would receive them, on both layers.
func TestChannelsWorker(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{compat.CoreLayerBackend, compat.PubSubLayerBackend} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			settings := channelsSite(t, redistest.Start(t), backend)
			var got texts
			w := startWorker(t, Config{Settings: settings}, func(w *Worker) {
				type arguments struct {
					Text string `arg:"text"`
					N    int    `arg:"n"`
				}
				HandleSignal(w, Signal[arguments]{Name: "demo.first", Run: func(_ context.Context, call *Call, in arguments) error {
					if key, _ := call.Window.WindowKey(); key != "abc" || in.N != 7 {
						return errors.New("other arguments")
					}
					got.add(in.Text)
					return nil
				}})
			})
			w.awaitReady()
			client := clientFor(t, settings)
			trigger := Trigger{Signal: "demo.first", To: []Target{ToServer}, Opts: map[string]any{"text": "héllo", "n": 7}, Window: mustWindow(t, `{"window_key": "abc"}`)}
			eventually(t, "the call", func() bool { // a pub/sub layer loses what is sent before the worker listens
				if err := client.Trigger(within10s(t), trigger); err != nil {
					t.Fatal(err)
				}
				return got.has("héllo")
			})
			trigger.Countdown = time.Second
			if err := client.Trigger(within10s(t), trigger); !errors.Is(err, dispatch.ErrNeedsCelery) {
				t.Errorf("countdown: %v", err)
			}
		})
	}
}

// A call that this worker has no handler for goes back to its channel, with its hops counted, until one who has takes it; what is no call is
// dropped, and a call that was not begun when the worker stops is there for the next one.
func TestChannelsWorkerSendsBack(t *testing.T) {
	t.Parallel()
	settings := channelsSite(t, redistest.Start(t), compat.CoreLayerBackend)
	layer, err := channelslayer.Open(channelslayer.Config{Hosts: []channelslayer.Host{{URL: settings.ChannelLayer.Hosts[0].URL.Reveal()}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = layer.Close() })
	call := func(signal string) channelslayer.Message {
		return channelslayer.Message{"type": "process.signal", "args": []any{signal, map[string]any{}, map[string]any{}, false, []any{}, true, "go"}}
	}
	var got texts
	release := make(chan struct{})
	handle := func(names ...string) func(*Worker) {
		return func(w *Worker) {
			for _, name := range names {
				HandleSignal(w, Signal[struct{}]{Name: name, Run: func(context.Context, *Call, struct{}) error {
					got.add(name)
					if name == "slow" {
						<-release
					}
					return nil
				}})
			}
		}
	}
	var logs logbuffer.Buffer
	one := startWorker(t, Config{Settings: settings, App: "one", Concurrency: 1, Logger: slog.New(slog.NewTextHandler(&logs, nil))}, handle("here", "slow"))
	one.awaitReady()
	for _, m := range []channelslayer.Message{
		{"type": "other"}, {"type": "process.signal", "args": "x"}, {"type": "process.signal", "dfws_envelope": "junk"}, call("elsewhere"), call("here"),
	} {
		if err := layer.Send(t.Context(), "go", m); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the call that has a handler", func() bool { return got.has("here") })
	eventually(t, "three drops", func() bool { return strings.Count(logs.String(), "call of a signal dropped") == 3 })
	two := startWorker(t, Config{Settings: settings, App: "two"}, handle("elsewhere"))
	two.awaitReady()
	eventually(t, "the call of the other worker", func() bool { return got.has("elsewhere") })
	two.stop()
	<-two.doneC

	for _, name := range []string{"slow", "here"} {
		if err := layer.Send(t.Context(), "go", call(name)); err != nil {
			t.Fatal(err)
		}
		if name == "slow" {
			eventually(t, "the slow call", func() bool { return got.has("slow") })
		}
	}
	one.stop()
	eventually(t, "the stop", func() bool { return one.w.Ready() != nil })
	close(release)
	<-one.doneC
	if one.err != nil {
		t.Errorf("Run: %v", one.err)
	}
	m, err := layer.Receive(within10s(t), "go")
	if err != nil || m["type"] != "process.signal" || !strings.HasPrefix(m["args"].([]any)[0].(string), "here") {
		t.Errorf("given back: %v, %v", m, err)
	}
}
