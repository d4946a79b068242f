package dispatch

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
)

// site has handlers of each kind.
func site() []*Entry {
	return []*Entry{
		golang("demo", map[string][]Handler{
			"both": {on("go")}, "go.only": {on("go"), on("go"), on("go2")}, "go.internal": {serverSide("go")},
		}),
		python(map[string][]Handler{
			"py": {on("celery"), on("celery")}, "both": {on("celery")}, "dyn": {dynamic("fast-0", "fast-1")}, "mixed": {dynamic(), on("slow"), serverSide("x")},
			"internal": {serverSide("celery"), serverSide("slow")},
		}),
	}
}

func TestPlanQueues(t *testing.T) {
	t.Parallel()
	d := mustDispatcher(t, site()...)
	for _, test := range []struct {
		signal     string
		fromClient bool
		outcome    Outcome
		queues     []string
	}{
		{"py", true, OutcomePlanned, []string{"celery"}},
		{"py", false, OutcomePlanned, []string{"celery"}},
		{"both", true, OutcomePlanned, []string{"celery", "go"}},
		{"go.only", true, OutcomePlanned, []string{"go", "go2"}},
		{"go.internal", true, OutcomeNotCallable, nil},
		{"go.internal", false, OutcomePlanned, []string{"go"}},
		{"internal", true, OutcomeNotCallable, nil},
		{"internal", false, OutcomePlanned, []string{"celery", "slow"}},
		{"dyn", true, OutcomePlanned, []string{"resolve:celery"}},
		{"mixed", true, OutcomePlanned, []string{"slow", "x", "resolve:celery"}},
		{"nobody", true, OutcomeUnknownSignal, nil},
		{"nobody", false, OutcomeUnknownSignal, nil},
		{"", false, OutcomeUnknownSignal, nil},
		{"\xed\xa0\x80", true, OutcomeUnknownSignal, nil},
	} {
		p := mustPlan(t, d, Trigger{Signal: test.signal, To: []Target{Server}, Opts: celeryproto.Raw("{}"), FromClient: test.fromClient})
		var queues []string
		for _, s := range mustSent(t, p) {
			if s.call == nil {
				queues = append(queues, "resolve:"+s.task.Queue())
				continue
			}
			queues = append(queues, s.task.Queue())
			if s.call.Signal != test.signal || s.call.FromClient != test.fromClient || !s.call.ToServer || len(s.call.Topics) != 0 {
				t.Errorf("%q: %+v", test.signal, s.call)
			}
		}
		if p.Outcome != test.outcome || !slices.Equal(queues, test.queues) || p.Frame != nil || p.Groups != nil {
			t.Errorf("%q from client %v: %s to %v, want %s to %v", test.signal, test.fromClient, p.Outcome, queues, test.outcome, test.queues)
		}
	}
}

// TestPlanWithoutPythonRegistry: without the Django app, nobody knows Python's handlers, so the signal goes to each configured queue.
func TestPlanWithoutPythonRegistry(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]*Dispatcher{
		"nothing": mustDispatcher(t),
		"only go": mustDispatcher(t, site()[0]),
	} {
		for signal, want := range map[string][]string{"py": {"celery"}, "go.internal": {"celery"}, "go.only": {"celery", "go", "go2"}} {
			if name == "nothing" {
				want = []string{"celery"}
			}
			p := mustPlan(t, d, Trigger{Signal: signal, To: []Target{Server}, FromClient: true})
			var queues []string
			for _, s := range mustSent(t, p) {
				queues = append(queues, s.call.Queue)
			}
			if p.Outcome != OutcomeUnregistered || !slices.Equal(queues, want) {
				t.Errorf("%s: %s: %s to %v, want %v", name, signal, p.Outcome, queues, want)
			}
		}
	}
}

func TestPlanTargets(t *testing.T) {
	t.Parallel()
	d := mustDispatcher(t, site()...)
	window, err := compat.DecodeWindowInfo([]byte(`{"window_key": "k", "user_pk": 7}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		to     []Target
		window *compat.WindowInfo
		topics []string
	}{
		{nil, window, []string{"-auth.user.7"}},
		{nil, nil, []string{"-auth.user.None"}},
		{[]Target{}, window, nil},
		{[]Target{Server}, window, nil},
		{[]Target{Window, Broadcast, User}, window, []string{"-window.k", "-broadcast", "-auth.user.7"}},
		{[]Target{Window}, nil, []string{"-window.None"}},
		{[]Target{Broadcast, Server, Broadcast}, nil, []string{"-broadcast", "-broadcast"}},
		{[]Target{StringTopic("news"), ModelTopic("shop.Order", 12), RawTopic("-x")}, nil,
			[]string{"-str.3f198e976b3b64d65202f34d245de717a766db576a2c7d8d73e434c1", "-shop.order.12", "-x"}},
	} {
		p := mustPlan(t, d, Trigger{Window: test.window, Signal: "py", To: test.to, Opts: map[string]any{"a": 1}})
		var groups []string
		for _, topic := range test.topics {
			groups = append(groups, compat.GroupName(topic))
		}
		if diff := cmp.Diff(groups, p.Groups); diff != "" {
			t.Errorf("%v (-want +got):\n%s", test.to, diff)
		}
		if wantTask := slices.Contains(test.to, Server); (len(p.Messages) > 0) != wantTask {
			t.Errorf("%v: %d tasks", test.to, len(p.Messages))
		}
		want := ""
		if len(groups) > 0 {
			want = `{"signal": "py", "opts": {"a": 1}, "signal_id": "` + p.SignalID + `"}`
		}
		if string(p.Frame) != want || (p.SignalID == "") != (want == "") {
			t.Errorf("%v: frame %s", test.to, p.Frame)
		}
	}
	for target, want := range map[Target]error{Sync: ErrSyncUnsupported, Session: ErrSessionUnsupported} {
		if _, err := d.Plan(Trigger{Signal: "py", To: []Target{Server, target}}); !errors.Is(err, want) || !strings.Contains(err.Error(), target.String()) {
			t.Errorf("%s: %v", target, err)
		}
	}
}

func TestPlanWindowIsNeverNull(t *testing.T) {
	t.Parallel()
	d := mustDispatcher(t, site()...)
	for _, delay := range []time.Duration{0, time.Minute} {
		p := mustPlan(t, d, Trigger{Signal: "mixed", To: []Target{Server}, Countdown: delay})
		for _, s := range mustSent(t, p) {
			window := celeryproto.Raw(nil)
			if s.call != nil {
				window = s.call.Window
			} else {
				kwargs, err := s.task.Kwargs.Object()
				if err != nil {
					t.Fatal(err)
				}
				window, _ = kwargs.Get("window_info")
			}
			info, err := compat.DecodeWindowInfo(window)
			if err != nil || !info.IsAnonymous() {
				t.Errorf("%s: %v", window, err)
			}
		}
	}
}

func TestPlanResolve(t *testing.T) {
	t.Parallel()
	d := mustDispatcher(t, site()...)
	window := compat.AnonymousWindowInfo(compat.Handshake{WindowKey: "k", CSRFCookie: "csrf-secret"})
	p := mustPlan(t, d, Trigger{
		Window: window, Signal: "dyn", To: []Target{Server}, Opts: celeryproto.Raw(`{"n":1e5}`), FromClient: true, Countdown: 1500 * time.Millisecond, Expires: time.Minute,
	})
	s := mustSent(t, p)[0]
	if s.task.Name != ResolveTaskName || string(s.task.Args) != "[]" || s.task.ETA != nil || s.task.Expires != nil {
		t.Errorf("%+v", s.task)
	}
	want := `{"signal": "dyn", "window_info": ` + string(window.AppendJSON(nil)) + `, "opts": {"n":1e5}, "from_client": true, ` +
		`"options": {"eta": "2026-11-23T09:30:01.623456+00:00", "expires": "2026-11-23T09:31:00.123456+00:00"}}`
	if diff := cmp.Diff(want, s.task.Kwargs.String()); diff != "" {
		t.Error(diff)
	}
	if repr := s.task.KwargsRepr; strings.Contains(repr, "csrf-secret") || !strings.Contains(repr, "'dyn'") {
		t.Error(repr)
	}
}

func TestPlanTimes(t *testing.T) {
	t.Parallel()
	d := mustDispatcher(t, site()...)
	at := func(text string) *time.Time {
		when, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		when = when.UTC()
		return &when
	}
	paris := time.FixedZone("CET", 3600)
	for name, test := range map[string]struct {
		trigger      Trigger
		eta, expires *time.Time
		expiration   string
	}{
		"countdown":           {Trigger{Countdown: 30 * time.Second}, at("2026-11-23T09:30:30.123456Z"), nil, ""},
		"negative countdown":  {Trigger{Countdown: -5 * time.Second}, at("2026-11-23T09:29:55.123456Z"), nil, ""},
		"eta":                 {Trigger{ETA: time.Date(2027, 1, 1, 1, 0, 0, 999, paris)}, at("2027-01-01T00:00:00Z"), nil, ""},
		"countdown wins":      {Trigger{ETA: time.Date(2027, 1, 1, 1, 0, 0, 0, paris), Countdown: time.Second}, at("2026-11-23T09:30:01.123456Z"), nil, ""},
		"expires":             {Trigger{Expires: time.Minute}, nil, at("2026-11-23T09:31:00.123456Z"), "60000"},
		"negative expires":    {Trigger{Expires: -time.Minute}, nil, at("2026-11-23T09:29:00.123456Z"), "0"},
		"expires, countdown":  {Trigger{Countdown: time.Minute, Expires: 90 * time.Second}, at("2026-11-23T09:31:00.123456Z"), at("2026-11-23T09:31:30.123456Z"), "90000"},
		"fractions of second": {Trigger{Expires: 1500 * time.Microsecond}, nil, at("2026-11-23T09:30:00.124956Z"), "1"},
	} {
		trigger := test.trigger
		trigger.Signal, trigger.To = "py", []Target{Server}
		task := mustSent(t, mustPlan(t, d, trigger))[0].task
		if diff := cmp.Diff(test.eta, task.ETA); diff != "" {
			t.Errorf("%s: eta (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(test.expires, task.Expires); diff != "" {
			t.Errorf("%s: expires (-want +got):\n%s", name, diff)
		}
		if task.Properties.Expiration != test.expiration {
			t.Errorf("%s: expiration %q, want %q", name, task.Properties.Expiration, test.expiration)
		}
		if test.eta != nil && test.eta.Nanosecond() != 0 && !strings.Contains(string(mustPlan(t, d, trigger).Messages[0].Envelope), `+00:00"`) {
			t.Errorf("%s: eta without offset", name)
		}
	}
}

func TestPlanDelayedTopics(t *testing.T) {
	t.Parallel()
	d := mustDispatcher(t, site()...)
	for _, test := range []struct {
		name   string
		signal string
		to     []Target
		delay  time.Duration
		want   []string // queue, to_server, topics of each task
		groups int
	}{
		{"only windows", "py", []Target{Broadcast, RawTopic("-x")}, time.Minute, []string{"go false -broadcast,-x"}, 0},
		{"unknown signal", "nobody", []Target{Broadcast}, time.Minute, []string{"go false -broadcast"}, 0},
		{"unknown signal and server", "nobody", []Target{Server, Broadcast}, time.Minute, []string{"go false -broadcast"}, 0},
		{"server elsewhere", "py", []Target{Server, Broadcast}, time.Minute, []string{"celery true ", "go false -broadcast"}, 0},
		{"server there too", "both", []Target{Server, Broadcast}, time.Minute, []string{"celery true ", "go true -broadcast"}, 0},
		{"handler there, not addressed", "both", []Target{Broadcast}, time.Minute, []string{"go false -broadcast"}, 0},
		{"due already", "both", []Target{Server, Broadcast}, -time.Minute, []string{"celery true ", "go true "}, 1},
	} {
		p := mustPlan(t, d, Trigger{Signal: test.signal, To: test.to, Countdown: test.delay, Opts: map[string]any{"a": 1}})
		var got []string
		for _, s := range mustSent(t, p) {
			toServer := " false "
			if s.call.ToServer {
				toServer = " true "
			}
			got = append(got, s.call.Queue+toServer+strings.Join(s.call.Topics, ","))
			if s.task.ETA == nil {
				t.Errorf("%s: no eta", test.name)
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" || len(p.Groups) != test.groups {
			t.Errorf("%s: %d groups (-want +got):\n%s", test.name, len(p.Groups), diff)
		}
	}
	alone := mustDispatcher(t, site()[1])
	if _, err := alone.Plan(Trigger{Signal: "py", To: []Target{Broadcast}, Countdown: time.Minute}); !errors.Is(err, ErrNoDelayedDelivery) {
		t.Errorf("without Go workers: %v", err)
	}
	if p := mustPlan(t, alone, Trigger{Signal: "py", To: []Target{Broadcast}, Expires: time.Minute}); len(p.Groups) != 1 || len(p.Messages) != 0 {
		t.Errorf("expires alone delays nothing: %+v", p)
	}
	other := golang("other", nil)
	other.DefaultQueue = "go-other"
	p := mustPlan(t, mustDispatcher(t, other), Trigger{Signal: "py", To: []Target{Broadcast}, Countdown: time.Minute})
	if p.Messages[0].Queue != "go-other" {
		t.Errorf("topics go to %s, where no Go worker is", p.Messages[0].Queue)
	}
}

func TestPlanOpts(t *testing.T) {
	t.Parallel()
	d := mustDispatcher(t, site()...)
	type args struct {
		Name string    `json:"name"`
		At   time.Time `json:"at"`
	}
	both := []Target{Server, Broadcast}
	for name, test := range map[string]struct {
		opts        any
		task, frame string
	}{
		"nil":     {nil, `{}`, `{}`},
		"null":    {celeryproto.Raw("null"), `{}`, `{}`},
		"nil map": {map[string]any(nil), `{}`, `{}`},
		"struct": {args{"n", time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)},
			`{"name": "n", "at": {"__type__": "datetime", "__value__": "2026-01-02T03:04:05.678901+00:00"}}`, `{"name": "n", "at": "2026-01-02T03:04:05.678Z"}`},
		"raw": {celeryproto.Raw(`{"a":1.0,"b":"é"}`), `{"a":1.0,"b":"é"}`, `{"a": 1.0, "b": "\u00e9"}`},
	} {
		p := mustPlan(t, d, Trigger{Signal: "py", To: both, Opts: test.opts})
		if got := mustSent(t, p)[0].call.Opts.String(); got != test.task {
			t.Errorf("%s: task %s, want %s", name, got, test.task)
		}
		if want := `"opts": ` + test.frame + `, "signal_id"`; !strings.Contains(string(p.Frame), want) {
			t.Errorf("%s: frame %s, want %s", name, p.Frame, want)
		}
	}
	for name, opts := range map[string]any{
		"list": []int{1}, "text": "x", "number": 5, "broken": celeryproto.Raw(`{"a"`), "raw list": celeryproto.Raw(`[1]`), "duration": map[string]any{"d": time.Second},
	} {
		if _, err := d.Plan(Trigger{Signal: "py", To: []Target{Server}, Opts: opts}); err == nil || !strings.Contains(err.Error(), `"py"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, fromClient := range []bool{false, true} {
		deep := func(n int) celeryproto.Raw {
			return celeryproto.Raw(strings.Repeat(`{"a": `, n) + "1" + strings.Repeat("}", n))
		}
		mustPlan(t, d, Trigger{Signal: "py", To: []Target{Server}, Opts: deep(celeryproto.MaxSendDepth - 1), FromClient: fromClient})
		_, err := d.Plan(Trigger{Signal: "py", To: []Target{Server}, Opts: deep(celeryproto.MaxSendDepth), FromClient: fromClient})
		if !errors.Is(err, celeryproto.ErrTooDeep) {
			t.Errorf("options nested too deeply for a worker: %v", err)
		}
		flat := celeryproto.Raw(`{"a": [` + strings.Repeat("[], ", celeryproto.MaxSendDepth) + `[]]}`)
		mustPlan(t, d, Trigger{Signal: "py", To: []Target{Server}, Opts: flat, FromClient: fromClient})
	}
	p := mustPlan(t, d, Trigger{Signal: "py", To: []Target{Server}, Opts: celeryproto.Raw(`[1]`), FromClient: true})
	if got := mustSent(t, p)[0].call.Opts.String(); got != `[1]` {
		t.Errorf("a browser's list: %s", got)
	}
}

func TestPlanHidesPrivateArguments(t *testing.T) {
	t.Parallel()
	d := mustDispatcher(t, site()...)
	window := compat.AnonymousWindowInfo(compat.Handshake{WindowKey: "window-secret", CSRFCookie: "csrf-secret"})
	for _, delay := range []time.Duration{0, time.Minute} {
		p := mustPlan(t, d, Trigger{
			Window: window, Signal: "py", To: []Target{Server}, Opts: celeryproto.Raw(`{"password": "form-secret"}`), FromClient: true, Countdown: delay,
		})
		if text := string(p.Messages[0].Envelope); strings.Contains(text, "-secret") {
			t.Error(text)
		}
		if got, want := mustSent(t, p)[0].task.ArgsRepr, "['py', {...}, {...}, True, [], True, 'celery']"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestTemplates: names of any kind survive the template, and their number is bounded.
func TestTemplates(t *testing.T) {
	t.Parallel()
	d := mustDispatcher(t) // everything goes to the default queue
	for _, signal := range []string{"", "'\"\\", "\u00e9\U0001f600", "\xed\xa0\x80", strings.Repeat("x", 10_000), "00000000-0000-4000-8000-000000000001", "{...}", "\x00\n"} {
		for range 2 {
			p := mustPlan(t, d, Trigger{Signal: signal, To: []Target{Server}, FromClient: true})
			s := mustSent(t, p)[0]
			if s.call.Signal != signal || s.task.ID == "" || s.task.ID != s.task.RootID || s.task.ID != s.task.Properties.CorrelationID ||
				s.task.Properties.DeliveryTag == s.task.ID || s.task.Properties.DeliveryTag == "" {
				t.Errorf("%.20q: %+v", signal, s.task)
			}
		}
	}
	for i := range maxTemplates + 10 {
		mustPlan(t, d, Trigger{Signal: "s" + strings.Repeat("i", i%100) + string(rune('a'+i/100)), To: []Target{Server}})
	}
	if n := len(d.templates.known); n > maxTemplates {
		t.Errorf("%d templates", n)
	}
}

func TestPlanObserver(t *testing.T) {
	t.Parallel()
	d := mustDispatcher(t, site()...)
	var got []string
	failed := 0
	d.cfg.Observer = Observer{
		Planned: func(o Outcome, client bool, tasks, groups int) {
			got = append(got, string(o)+strings.Repeat("+", tasks)+strings.Repeat("g", groups))
		},
		PlanFailed: func() { failed++ },
	}
	mustPlan(t, d, Trigger{Signal: "both", To: []Target{Server, Broadcast}})
	mustPlan(t, d, Trigger{Signal: "nobody", To: []Target{Server}})
	if _, err := d.Plan(Trigger{To: []Target{Sync}}); err == nil {
		t.Error("SYNC accepted")
	}
	if diff := cmp.Diff([]string{"planned++g", "unknown_signal"}, got); diff != "" || failed != 1 {
		t.Errorf("%d failed\n%s", failed, diff)
	}
}

func TestNewDispatcherNamesFaults(t *testing.T) {
	t.Parallel()
	_, err := NewDispatcher(Config{})
	if err == nil || !strings.Contains(err.Error(), "settings") || !strings.Contains(err.Error(), "registry") {
		t.Error(err)
	}
}

func BenchmarkPlan(b *testing.B) {
	registry := NewRegistry(RegistryConfig{})
	registry.Set(site()...)
	d, err := NewDispatcher(Config{Settings: mustSettings(b, "redis://h/0"), Registry: registry})
	if err != nil {
		b.Fatal(err)
	}
	window := compat.AnonymousWindowInfo(compat.Handshake{
		WindowKey: "c7y4jo5u71mlp005015h0a1023qiwed4", CSRFCookie: "2uGGlrhXYuq7vEvtWRPUQ4I6LCcOBsze", UserAgent: "Mozilla/5.0 (X11; Linux x86_64)", LanguageCode: "en",
	})
	trigger := Trigger{Window: window, Signal: "py", To: []Target{Server}, Opts: celeryproto.Raw(`{"form_data":[{"name":"title","value":"Some text"}]}`), FromClient: true}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Plan(trigger); err != nil {
			b.Fatal(err)
		}
	}
}
