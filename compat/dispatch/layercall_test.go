package dispatch

import (
	"context"
	"errors"
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/channelslayer"
	"github.com/dfws/dfws/compat"
)

// sentMessages is a layer that only takes messages.
type sentMessages struct {
	channels []string
	messages []channelslayer.Message
	err      error
}

func (s *sentMessages) Send(_ context.Context, channel string, m channelslayer.Message) error {
	s.channels, s.messages = append(s.channels, channel), append(s.messages, m)
	return s.err
}

// channelsDispatcher is the dispatcher of the tests for a site whose workers are Channels'.
func channelsDispatcher(t *testing.T, layer *sentMessages) *Dispatcher {
	t.Helper()
	settings := mustSettings(t, "redis://127.0.0.1:6379/0")
	settings.WebSocket.Workers = compat.WorkersChannels
	registry := NewRegistry(RegistryConfig{})
	registry.Set(site()...)
	d, err := NewDispatcher(Config{Settings: settings, Registry: registry, Publisher: &LayerPublisher{Layer: layer}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestLayerCalls(t *testing.T) {
	t.Parallel()
	layer := &sentMessages{}
	d := channelsDispatcher(t, layer)
	plan, err := d.Trigger(t.Context(), Trigger{Signal: "both", To: []Target{Server}, Opts: map[string]any{"n": 1, "f": 2.0, "s": "\u00e9"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(layer.channels) != 2 || len(plan.Messages) != 2 {
		t.Fatalf("channels %q", layer.channels)
	}
	for i, m := range layer.messages {
		args := m["args"].([]any)
		want := []any{"both", map[string]any{"n": int64(1), "f": 2.0, "s": "\u00e9"}, false, []any{}, true, layer.channels[i]}
		if diff := cmp.Diff(want, append(args[:1:1], args[2:]...)); diff != "" || m["type"] != "process.signal" {
			t.Errorf("%v: %s", m["type"], diff)
		}
		if _, ok := args[1].(map[string]any); !ok {
			t.Errorf("window info %v", args[1])
		}
	}
	plan, err = d.Plan(Trigger{Signal: "dyn", To: []Target{Server}})
	if err != nil || len(plan.Messages) != 2 || plan.Messages[0].Queue != "fast-0" || plan.Messages[1].Queue != "fast-1" {
		t.Errorf("declared queues: %+v, %v", plan, err)
	}
	layer.err = channelslayer.ErrChannelFull
	if _, err := d.Trigger(t.Context(), Trigger{Signal: "both", To: []Target{Server}}); !errors.Is(err, channelslayer.ErrChannelFull) {
		t.Errorf("full: %v", err)
	}
	for name, trigger := range map[string]Trigger{
		"countdown": {Signal: "both", To: []Target{Server}, Countdown: time.Second}, "eta": {Signal: "both", To: []Target{Server}, ETA: time.Now()},
		"expires": {Signal: "both", To: []Target{Server}, Expires: time.Second}, "dynamic queue": {Signal: "mixed", To: []Target{Server}},
	} {
		if _, err := d.Plan(trigger); !errors.Is(err, ErrNeedsCelery) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLayerValues(t *testing.T) {
	t.Parallel()
	m, err := LayerCall([]byte(`[1, -9223372036854775808, 18446744073709551615, 18446744073709551616, 1.5, 1e400, {"a": [2]}, null, true, "x"]`))
	if err != nil {
		t.Fatal(err)
	}
	huge := new(big.Int).Lsh(big.NewInt(1), 64)
	want := []any{int64(1), int64(math.MinInt64), uint64(math.MaxUint64), huge, 1.5, math.Inf(1), map[string]any{"a": []any{int64(2)}}, nil, true, "x"}
	if diff := cmp.Diff(want, m["args"], cmp.Comparer(func(a, b *big.Int) bool { return a.Cmp(b) == 0 })); diff != "" {
		t.Error(diff)
	}
	for _, args := range []string{"", "{}", "[1"} {
		if _, err := LayerCall([]byte(args)); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
}
