package gateway

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/compat"
)

const goodFrame = `{"signal":"site.signal","opts":{"a":1}}`

// taskArgs decodes the arguments of a signal's task.
func taskArgs(t testing.TB, m redisbroker.Message) []json.RawMessage {
	t.Helper()
	var envelope struct{ Body string }
	if err := json.Unmarshal(m.Envelope, &envelope); err != nil {
		t.Fatal(err)
	}
	body, err := base64.StdEncoding.DecodeString(envelope.Body)
	if err != nil {
		t.Fatal(err)
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(body, &parts); err != nil {
		t.Fatal(err)
	}
	var args []json.RawMessage
	if err := json.Unmarshal(parts[0], &args); err != nil {
		t.Fatal(err)
	}
	return args
}

func TestSignalBecomesTask(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	c := r.connect(testKey)
	c.send(`{"signal":"site.two","opts":{"n":123456789012345678901234567890,"s":"\ud800é"}}`)
	r.eventually("two tasks", func() bool { return len(r.publisher.queued()) == 2 })
	for i, queue := range []string{"celery", "slow"} {
		m := r.publisher.queued()[i]
		args := taskArgs(t, m)
		var info map[string]any
		if err := json.Unmarshal(args[1], &info); err != nil {
			t.Fatal(err)
		}
		if m.Queue != queue || string(args[6]) != fmt.Sprintf("%q", queue) {
			t.Errorf("queue %q, argument %s, want %q", m.Queue, args[6], queue)
		}
		if got := string(args[2]); !strings.Contains(got, "123456789012345678901234567890") || !strings.Contains(got, `\ud800`) {
			t.Errorf("opts %s are not what was sent", got)
		}
		if info["username"] != "ada" || info["csrf_cookie"] != "tok" || info["user_agent"] != "Test/1" || info["window_key"] != testKey ||
			info["extra"] == nil {
			t.Errorf("window info %s", args[1])
		}
		if string(args[3]) != "true" {
			t.Errorf("from_client %s", args[3])
		}
	}
	if got := r.counts.get("frame signal"); got != 1 {
		t.Errorf("%d signals counted, want 1", got)
	}
}

// TestNoWindowBeforeTheRegistry: a window's signals need to know where to go.
func TestNoWindowBeforeTheRegistry(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	loaded := func(err error) {
		r.health.mu.Lock()
		defer r.health.mu.Unlock()
		r.health.registryErr = err
	}
	loaded(errNoRegistry)
	_, resp, err := r.dial(nil)
	if err == nil || resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || r.counts.get("refused registry") != 1 {
		t.Fatalf("got %v, %v", resp, err)
	}
	loaded(nil)
	r.anonymous().beat()
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	c := r.anonymous()
	c.beat()
	c.send(compat.HeartbeatFrame + " ") // df_websockets: just bad JSON
	c.beat()
	if got := r.counts.get("frame not_json"); got != 1 {
		t.Errorf("%d bad frames, want 1", got)
	}
}

// TestBadFrames: each has its outcome, none closes the socket, and the next valid frame works.
func TestBadFrames(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)
	for name, tc := range map[string]struct {
		frame, outcome string
		kind           int
	}{
		"not JSON":            {frame: `{"signal":`, outcome: "not_json"},
		"empty":               {frame: ``, outcome: "not_json"},
		"text":                {frame: `"signal"`, outcome: "not_object"},
		"list":                {frame: `["signal","opts"]`, outcome: "not_object"},
		"no signal":           {frame: `{"opts":{}}`, outcome: "no_signal"},
		"no opts":             {frame: `{"signal":"site.signal"}`, outcome: "no_opts"},
		"signal a list":       {frame: `{"signal":["site.signal"],"opts":{}}`, outcome: "bad_signal"},
		"unknown signal":      {frame: `{"signal":"nobody","opts":{}}`, outcome: "unknown_signal"},
		"server side":         {frame: `{"signal":"site.server","opts":{}}`, outcome: "not_callable_from_client"},
		"countdown null":      {frame: `{"signal":"site.signal","opts":{},"countdown":null}`, outcome: "bad_countdown"},
		"expires text":        {frame: `{"signal":"site.signal","opts":{},"expires":"x"}`, outcome: "bad_expires"},
		"eta":                 {frame: `{"signal":"site.signal","opts":{},"eta":1800000000}`, outcome: "bad_eta"},
		"typed marker":        {frame: `{"signal":"site.signal","opts":{"x":{"__type__":"datetime","__value__":"2026-01-01"}}}`, outcome: "typed_marker"},
		"typed marker hidden": {frame: `{"signal":"site.signal","opts":[{"\u005f_type__":"uuid","__value__":{}}]}`, outcome: "typed_marker"},
		"deep":                {frame: `{"signal":"site.signal","opts":` + deep + `}`, outcome: "too_deep"},
		"10^5000":             {frame: `{"signal":"site.signal","opts":{"n":1` + strings.Repeat("0", 5000) + `}}`, outcome: "int_too_long"},
		"binary":              {frame: goodFrame, outcome: "binary", kind: websocket.BinaryMessage},
		// What Python takes is taken.
		"10^400":         {frame: `{"signal":"site.signal","opts":{"n":1` + strings.Repeat("0", 400) + `}}`, outcome: "signal"},
		"NaN":            {frame: `{"signal":"site.signal","opts":{"n":NaN,"i":-Infinity}}`, outcome: "signal"},
		"lone surrogate": {frame: `{"signal":"site.signal","opts":{"s":"\udc80"}}`, outcome: "signal"},
		"duplicate keys": {frame: `{"signal":"nobody","opts":1,"signal":"site.signal","opts":{}}`, outcome: "signal"},
		"opts null":      {frame: `{"signal":"site.signal","opts":null}`, outcome: "signal"},
		"opts a list":    {frame: `{"signal":"site.signal","opts":[1]}`, outcome: "signal"},
		"blanks":         {frame: " \n{\"signal\":\"site.signal\",\"opts\":{}}\t", outcome: "signal"},
		"countdown text": {frame: `{"signal":"site.signal","opts":{},"countdown":"5"}`, outcome: "signal"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			c := r.connect(testKey)
			kind := max(tc.kind, websocket.TextMessage)
			if err := c.WriteMessage(kind, []byte(tc.frame)); err != nil {
				t.Fatal(err)
			}
			c.send(goodFrame)
			c.beat()
			want := 1
			if tc.outcome == "signal" {
				want = 2
			}
			if got := r.counts.get("frame " + tc.outcome); tc.outcome != "signal" && got != 1 {
				t.Errorf("outcome %q counted %d times, want once; %v", tc.outcome, got, r.counts.n)
			}
			if got := r.counts.get("frame signal"); got != want {
				t.Errorf("%d signals, want %d", got, want)
			}
			if got := len(r.publisher.queued()); got != want {
				t.Errorf("%d tasks, want %d", got, want)
			}
			if strings.Contains(r.logs.String(), testKey) {
				t.Error("the window key is in the log")
			}
		})
	}
}

// TestFatalFrames: these break the protocol of the websocket itself.
func TestFatalFrames(t *testing.T) {
	t.Parallel()
	t.Run("invalid UTF-8", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, nil)
		c := r.anonymous()
		c.send("{\"signal\":\"\xff\"}")
		c.expectClose(CloseInvalidUTF8)
		r.eventually("counted", func() bool { return r.counts.get("closed 1007") == 1 && r.counts.get("frame invalid_utf8") == 1 })
	})
	t.Run("too big", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, nil)
		c := r.connect(testKey)
		c.send(`{"signal":"site.signal","opts":{"x":"` + strings.Repeat("x", DefaultMaxFrameBytes) + `"}}`)
		c.expectClose(CloseTooBig)
		if n := len(r.publisher.queued()); n != 0 {
			t.Errorf("%d tasks, want none", n)
		}
		r.connect(testKey).beat()
	})
	t.Run("just fits", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, nil)
		c := r.connect(testKey)
		frame := `{"signal":"site.signal","opts":{"x":"` + strings.Repeat("x", DefaultMaxFrameBytes)
		c.send(frame[:DefaultMaxFrameBytes-3] + `"}}`)
		c.beat()
		if n := len(r.publisher.queued()); n != 1 {
			t.Errorf("%d tasks, want one", n)
		}
	})
	t.Run("unmasked", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, nil)
		c := r.anonymous()
		if _, err := c.NetConn().Write(encodeFrame(websocket.TextMessage, "x")); err != nil {
			t.Fatal(err)
		}
		_, _, err := c.ReadMessage()
		if !websocket.IsCloseError(err, websocket.CloseProtocolError) {
			t.Errorf("got %v, want close 1002", err)
		}
	})
}

func TestBrowserCloses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ code, counted int }{
		"normal": {1000, 1000}, "going away": {1001, 1001}, "no code": {websocket.CloseNoStatusReceived, 1005}, "own code": {4321, 4000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			c := r.connect(testKey)
			if err := c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(tc.code, "")); err != nil {
				t.Fatal(err)
			}
			c.expectClose(CloseNormal)
			r.eventually("gone", func() bool { return r.Stats().Windows == 0 && r.counts.get(fmt.Sprint("closed ", tc.counted)) == 1 })
		})
	}
}

func TestFragmentedFrame(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	c := r.connect(testKey)
	w, err := c.NextWriter(websocket.TextMessage)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{goodFrame[:1], strings.Repeat(" ", 10_000), goodFrame[1:]} {
		if _, err := w.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.beat()
	if n := len(r.publisher.queued()); n != 1 {
		t.Errorf("%d tasks, want one", n)
	}
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.FramesPerSecond, c.FramesBurst = 200, 1 })
	c := r.connect(testKey)
	for range 10 {
		c.send(goodFrame)
	}
	c.beat()
	if n := len(r.publisher.queued()); n != 10 {
		t.Errorf("%d tasks, want all 10", n)
	}
	if r.counts.get("throttled") == 0 {
		t.Error("nothing was throttled")
	}
}

// TestLargeFramesShareRoom: frames beyond 64 KiB wait for room; small ones and heartbeats do not.
func TestLargeFramesShareRoom(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.LargeFrameBytes = 1 }) // one frame at a time
	first, second, third := r.connect("a"), r.connect("b"), r.connect("c")
	half := strings.Repeat(" ", 200<<10)
	w, err := first.NextWriter(websocket.TextMessage)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(half)); err != nil {
		t.Fatal(err)
	}
	r.eventually("the first frame has the room", func() bool { return len(r.largeFrameC) == 1 })
	second.send(half + goodFrame)
	third.send(goodFrame)
	third.beat()
	if n := len(r.publisher.queued()); n != 1 {
		t.Errorf("%d tasks, want that of the small frame", n)
	}
	if _, err := w.Write([]byte(goodFrame)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	first.beat()
	second.beat()
	if n := len(r.publisher.queued()); n != 3 {
		t.Errorf("%d tasks, want 3", n)
	}
	if len(r.largeFrameC) != 0 {
		t.Error("the room was not given back")
	}
}

// TestDrainWhileFramesWait: a frame that waits for room does not hold up the drain.
func TestDrainWhileFramesWait(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.LargeFrameBytes = 1 })
	c := r.connect("a")
	r.largeFrameC <- struct{}{}
	c.send(strings.Repeat(" ", 200<<10))
	c.send(goodFrame)
	r.stop()
	c.expectClose(CloseGoingAway)
	<-r.doneC
}
