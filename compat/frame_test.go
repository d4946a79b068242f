package compat

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

// goldenFrame is one frame of a browser and what df_websockets made of it.
type goldenFrame struct {
	Frame *string `json:"frame"`
	Reply *string `json:"reply"`
	Tasks []struct {
		Queue   string            `json:"queue"`
		Args    []json.RawMessage `json:"args_without_window_info"`
		ETA     bool              `json:"eta_set"`
		Expires bool              `json:"expires_set"`
	} `json:"tasks"`
}

func goldenFrames(tb testing.TB) []goldenFrame {
	tb.Helper()
	var golden struct {
		Frames []goldenFrame `json:"frames"`
	}
	mustGolden(tb, "frames_from_browser.json", &golden)
	return golden.Frames
}

// TestClientFramesGolden: what Python sent to a queue is decoded to the same values, what it lost is refused, unless only the registry of
// signals knows that it is lost.
func TestClientFramesGolden(t *testing.T) {
	t.Parallel()
	for _, g := range goldenFrames(t) {
		if g.Frame == nil {
			continue // a binary frame never reaches the decoder
		}
		f, err := DecodeClientFrame([]byte(*g.Frame), FrameLimits{})
		switch {
		case g.Reply != nil:
			if err != nil || !f.Heartbeat || *g.Reply != HeartbeatFrame {
				t.Errorf("%s: %+v, %v", *g.Frame, f, err)
			}
		case len(g.Tasks) == 0:
			if err == nil && f.Signal != "unknown.signal" {
				t.Errorf("%s: accepted, Python loses it", *g.Frame)
			}
		case err != nil:
			t.Errorf("%s: %v, Python takes it", *g.Frame, err)
		default:
			compareFrame(t, &g, f)
		}
	}
}

func compareFrame(t *testing.T, g *goldenFrame, f *ClientFrame) {
	t.Helper()
	task := g.Tasks[0]
	var signal string
	if err := json.Unmarshal(task.Args[0], &signal); err != nil {
		t.Fatal(err)
	}
	if f.Signal != signal || (f.Countdown != 0) != task.ETA || (f.Expires != 0) != task.Expires {
		t.Errorf("%s: %+v, Python: %s, eta %v, expires %v", *g.Frame, f, signal, task.ETA, task.Expires)
	}
	want := string(appendNormal(nil, celeryproto.Raw(task.Args[1])))
	if got := strings.ReplaceAll(string(appendNormal(nil, f.Opts)), "NaN", `"NaN"`); got != want {
		t.Errorf("%s: opts %s, Python: %s", *g.Frame, got, want)
	}
}

func TestDecodeClientFrame(t *testing.T) {
	t.Parallel()
	const head = `{"signal":"s","opts":{}`
	for _, test := range []struct {
		frame  string
		reason FrameReason // "" when accepted
	}{
		{head + `}`, ""},
		{head + `,"x":[{"__type__":"a","__value__":"b"}]}`, ""}, // only opts goes on
		{head + `,"eta":0,"expires":"0","countdown":false}`, ""},
		{`{"signal":"","opts":0}`, ""},
		{`{"signal":"\ud800","opts":[]}`, ""},
		{`{"signal":"s","opts":{"a":{"__type__":1,"__value__":2,"c":3}}}`, ""},
		{`{"signal":"s","opts":{"a":{"__type__":"date","__type__":"date"}}}`, ""},
		{`{"opts":{"__type__":"date","__value__":1},"signal":"s","opts":{}}`, ""}, // the last opts counts
		{"\ufeff{}", ReasonNotJSON},
		{"{\"signal\":\"s\",\"opts\":{\"a\":\"\xff\"}}", ReasonNotJSON},
		{`{"signal":"s","opts":{}`, ReasonNotJSON},
		{`{'signal':'s'}`, ReasonNotJSON},
		{`[{"signal":"s","opts":{}}]`, ReasonNotObject},
		{`NaN`, ReasonNotObject},
		{`{"Signal":"s","opts":{}}`, ReasonNoSignal},
		{`{"signal":"s"}`, ReasonNoOpts},
		{`{"signal":null,"opts":{}}`, ReasonBadSignal},
		{`{"signal":{},"opts":{}}`, ReasonBadSignal},
		{head + `,"eta":1}`, ReasonBadETA},
		{head + `,"eta":null}`, ReasonBadETA},
		{head + `,"eta":"x"}`, ReasonBadETA},
		{head + `,"eta":1,"countdown":null}`, ReasonBadETA},
		{head + `,"expires":[]}`, ReasonBadExpires},
		{head + `,"expires":1e10}`, ReasonBadExpires},
		{head + `,"expires":NaN}`, ReasonBadExpires},
		{head + `,"countdown":{}}`, ReasonBadCountdown},
		{head + `,"countdown":-2147483649}`, ReasonBadCountdown},
		{head + `,"countdown":1e400}`, ReasonBadCountdown},
		{head + `,"countdown":123456789012345678901234567890}`, ReasonBadCountdown},
		{`{"signal":"s","opts":{"a":[{"__type__":"datetime","__value__":"2026-01-01"}]}}`, ReasonTypedMarker},
		{`{"signal":"s","opts":{"\u005f_type__":"uuid","__value__":1}}`, ReasonTypedMarker},
		{`{"signal":"s","opts":{"__type__":"uuid","__type__":"date","__value__":1,"__value__":2}}`, ReasonTypedMarker},
		{`{"signal":"s","opts":` + strings.Repeat("[", 600) + strings.Repeat("]", 600) + `}`, ReasonTooDeep},
		{`{"signal":"s","opts":{"n":1` + strings.Repeat("0", 5000) + `}}`, ReasonIntTooLong},
		{`{"signal":"s","opts":"` + strings.Repeat("x", DefaultMaxFrameBytes) + `"}`, ReasonTooLarge},
	} {
		name := test.frame[:min(len(test.frame), 80)]
		_, err := DecodeClientFrame([]byte(test.frame), FrameLimits{})
		frameErr, _ := errors.AsType[*FrameError](err)
		switch {
		case test.reason == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.reason != "" && (frameErr == nil || frameErr.Reason != test.reason):
			t.Errorf("%s: %v, want %s", name, err, test.reason)
		}
	}
}

func TestFrameLimits(t *testing.T) {
	t.Parallel()
	lim := FrameLimits{MaxBytes: 40, JSON: celeryproto.JSONLimits{MaxDepth: 3, MaxIntDigits: 5}}
	for frame, want := range map[string]FrameReason{
		`{"signal":"s","opts":{"a":[1]}}`:                 "",
		`{"signal":"s","opts":{"a":[[1]]}}`:               ReasonTooDeep,
		`{"signal":"s","opts":{"a":123456}}`:              ReasonIntTooLong,
		`{"signal":"s","opts":{"a":"12345678901234567"}}`: ReasonTooLarge,
	} {
		_, err := DecodeClientFrame([]byte(frame), lim)
		got := FrameReason("")
		if frameErr, ok := errors.AsType[*FrameError](err); ok {
			got = frameErr.Reason
		}
		if got != want {
			t.Errorf("%s: %q, want %q", frame, got, want)
		}
	}
}

func TestPythonInt(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]int64{
		`5`: 5, `-5`: -5, `1.9`: 1, `-1.9`: -1, `true`: 1, `false`: 0, `"5"`: 5, `" 5\n"`: 5, `"+5"`: 5, `"-5"`: -5, `"1_000"`: 1000,
		`"007"`: 7, `"\u0663"`: 3, `"\u00a05\u2003"`: 5, `1e3`: 1000, `0.9`: 0, `"\ud835\udfd9"`: 1, `9223372036854775807`: 1<<63 - 1,
	} {
		if got, err := pythonInt(celeryproto.Raw(value)); err != nil || got != want {
			t.Errorf("int(%s) = %d, %v, want %d", value, got, err, want)
		}
	}
	for _, value := range []string{
		`null`, `[]`, `{}`, `"x"`, `""`, `" "`, `"1.5"`, `"1e3"`, `"0x10"`, `"_1"`, `"1_"`, `"1__0"`, `"--1"`, `"+ 1"`, `"1 2"`, `NaN`, `Infinity`,
		`1e400`, `9223372036854775808`, `1e19`, `"9223372036854775808"`, `"\u00b2"`,
	} {
		if got, err := pythonInt(celeryproto.Raw(value)); err == nil {
			t.Errorf("int(%s) = %d, want an error", value, got)
		}
	}
	if got, err := pythonInt(nil); got != 0 || err != nil {
		t.Errorf("absent: %d, %v", got, err)
	}
}

func TestDelays(t *testing.T) {
	t.Parallel()
	f, err := DecodeClientFrame([]byte(`{"signal":"s","opts":null,"countdown":"-5","expires":9223372036}`), FrameLimits{})
	if err != nil {
		t.Fatal(err)
	}
	if f.Countdown != -5*time.Second || f.Expires != 9223372036*time.Second || f.Opts.String() != "{}" {
		t.Errorf("%+v", f)
	}
}

func TestServerFramesGolden(t *testing.T) {
	t.Parallel()
	var golden struct {
		Log []struct {
			Frames []string `json:"frames"`
		} `json:"log"`
	}
	mustGolden(t, "frames_to_browser.json", &golden)
	n := 0
	for _, entry := range golden.Log {
		for _, frame := range entry.Frames {
			var f struct {
				Signal   string          `json:"signal"`
				Opts     json.RawMessage `json:"opts"`
				SignalID string          `json:"signal_id"`
			}
			if err := json.Unmarshal([]byte(frame), &f); err != nil {
				t.Fatal(err)
			}
			n++
			if got := string(AppendServerFrame(nil, f.Signal, celeryproto.Raw(f.Opts), f.SignalID)); got != frame {
				t.Errorf("\n got %s\nwant %s", got, frame)
			}
		}
	}
	if n == 0 {
		t.Error("no frame in the golden file")
	}
	if got, want := string(AppendServerFrame([]byte("x"), "\u00e9", nil, "i")), `x{"signal": "\u00e9", "opts": {}, "signal_id": "i"}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func FuzzDecodeClientFrame(f *testing.F) {
	for _, g := range goldenFrames(f) {
		if g.Frame != nil {
			f.Add([]byte(*g.Frame))
		}
	}
	f.Add([]byte(`{"signal":"s","opts":{"__type__":"a","__value__":"b"},"countdown":"1_0"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := DecodeClientFrame(b, FrameLimits{})
		if err != nil {
			if _, ok := errors.AsType[*FrameError](err); !ok || frame != nil {
				t.Fatalf("%v, %v", frame, err)
			}
			return
		}
		if frame.Heartbeat {
			return
		}
		if celeryproto.HasTypedMarker(frame.Opts) {
			t.Error("typed marker passed")
		}
		call := SignalCall{Signal: frame.Signal, Opts: frame.Opts, FromClient: true, ToServer: true, Queue: "q"}
		args := call.AppendArgs(nil)
		mustCheck(t, args)
		decoded, err := DecodeSignalArgs(args)
		if err != nil || decoded.Signal != frame.Signal || string(decoded.Opts) != strings.TrimSpace(string(frame.Opts)) && frame.Opts.String() != "null" {
			t.Errorf("%+v, %v, want %+v", decoded, err, frame)
		}
	})
}

func BenchmarkDecodeClientFrame(b *testing.B) {
	frame := []byte(`{"signal":"myproject.first_signal","opts":{"form_data":[{"name":"title","value":"Some text of a form"},{"name":"n","value":"5"}]}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeClientFrame(frame, FrameLimits{}); err != nil {
			b.Fatal(err)
		}
	}
}
