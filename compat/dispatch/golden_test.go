package dispatch

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
)

// goldenMessages is what daphne and df_websockets put into the queues for one frame of a browser.
type goldenMessages struct {
	Input struct {
		Frame string `json:"frame_from_browser"`
	} `json:"input"`
	Decoded []goldenMessage `json:"decoded"`
}

// goldenMessage is one task, its body decoded.
type goldenMessage struct {
	Queue           string         `json:"queue"`
	Headers         map[string]any `json:"headers"`
	Properties      map[string]any `json:"properties"`
	ContentType     string         `json:"content-type"`
	ContentEncoding string         `json:"content-encoding"`
	Body            []any          `json:"body"`
}

// goldenRegistry is what the captured site had.
func goldenRegistry() *Entry {
	return python(map[string][]Handler{
		"demo.rule.everyone": {on("celery")},
		"demo.two_queues":    {on("celery"), on("slow")},
		"demo.dynamic":       {on("fast-1")}, // its function computed this queue
	})
}

// TestTasksGolden: the same frame of the same window makes the same messages.
func TestTasksGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/celery_message_*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(err, len(files))
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var golden goldenMessages
		if err := json.Unmarshal(b, &golden); err != nil {
			t.Fatal(err)
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			compareMessages(t, &golden)
		})
	}
}

func compareMessages(t *testing.T, golden *goldenMessages) {
	t.Helper()
	frame, err := compat.DecodeClientFrame([]byte(golden.Input.Frame), compat.FrameLimits{})
	if err != nil {
		t.Fatal(err)
	}
	window, err := json.Marshal(golden.Decoded[0].Body[0].([]any)[1])
	if err != nil {
		t.Fatal(err)
	}
	info, err := compat.DecodeWindowInfo(window)
	if err != nil {
		t.Fatal(err)
	}
	plan := mustPlan(t, mustDispatcher(t, goldenRegistry()), Trigger{
		Window: info, Signal: frame.Signal, To: []Target{Server}, Opts: frame.Opts, Countdown: frame.Countdown, Expires: frame.Expires, FromClient: true,
	})
	var got []goldenMessage
	for _, s := range mustSent(t, plan) {
		got = append(got, decodeGolden(t, s))
	}
	differs := cmp.FilterPath(func(p cmp.Path) bool {
		key, ok := p.Last().(cmp.MapIndex)
		return ok && differing[key.Key().String()]
	}, cmp.Comparer(func(a, b any) bool { return (a == nil) == (b == nil) }))
	byQueue := cmpopts.SortSlices(func(a, b goldenMessage) bool { return a.Queue < b.Queue })
	if diff := cmp.Diff(golden.Decoded, got, differs, byQueue); diff != "" {
		t.Errorf("(-Python +Go):\n%s", diff)
	}
}

// differing are headers and properties that are different in each message; they must be there in both, or null in both.
var differing = map[string]bool{
	"lang": true, "id": true, "root_id": true, "argsrepr": true, "origin": true, "eta": true, "expires": true,
	"correlation_id": true, "reply_to": true, "delivery_tag": true,
}

// decodeGolden decodes a message into the golden file's form.
func decodeGolden(t *testing.T, s sent) goldenMessage {
	t.Helper()
	envelope, err := s.task.Envelope()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := envelope.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	var out goldenMessage
	var payload celeryproto.Raw
	if payload, err = envelope.Payload(celeryproto.Limits{}); err != nil {
		t.Fatal(err)
	}
	var wire struct {
		Headers    map[string]any `json:"headers"`
		Properties map[string]any `json:"properties"`
	}
	if err := json.Unmarshal(raw, &wire); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(payload, &out.Body); err != nil {
		t.Fatal(err)
	}
	out.Queue, out.Headers, out.Properties = s.task.Queue(), wire.Headers, wire.Properties
	out.ContentType, out.ContentEncoding = envelope.ContentType, envelope.ContentEncoding
	return out
}
