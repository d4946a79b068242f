package canvas_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
)

func options(t testing.TB, s *canvas.Signature) *canvas.Send {
	t.Helper()
	plan, err := s.Apply(goldenEnv(), canvas.Call{})
	if err != nil {
		t.Fatal(err)
	}
	return plan.Steps[0].Send
}

func add() *canvas.Signature { return canvas.New("demo.add", 1, 2).Set("task_id", firstID) }

// TestGoldenMessages makes recorded messages from the same options. The clock is such that the times are the recorded ones.
func TestGoldenMessages(t *testing.T) {
	t.Parallel()
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Fatal(err)
	}
	headers := map[string]string{"x-trace": "abc"}
	for name, test := range map[string]struct {
		sig *canvas.Signature
		def func(*canvas.Defaults)
		// Which header tells the time of the call, and by how much later.
		clock string
		later time.Duration
	}{
		"task_v2_simple": {sig: canvas.New("demo.add", 2, 3).Set("task_id", firstID)},
		"task_v2_options": {sig: add().Set("shadow", "pretty name").Set("time_limit", 30).Set("soft_time_limit", 20).
			Set("headers", headers).Set("correlation_id", firstID).Set("reply_to", "my-reply").Set("ignore_result", true).
			Set("argsrepr", "<hidden>").Set("kwargsrepr", "<hidden>")},
		"task_v2_countdown": {sig: add().Set("countdown", 10), clock: "eta", later: 10 * time.Second},
		"task_v2_countdown_timezone_paris": {
			sig: add().Set("countdown", 10).Set("expires", 20), clock: "eta", later: 10 * time.Second,
			def: func(d *canvas.Defaults) { d.Location = paris },
		},
		"task_v2_countdown_no_utc": {
			sig: add().Set("countdown", 10).Set("expires", 20), clock: "eta", later: 10 * time.Second,
			def: func(d *canvas.Defaults) { d.Location, d.LocalTime = paris, true },
		},
		"task_v2_expires_seconds": {sig: add().Set("expires", 60.5), clock: "expires", later: 60500 * time.Millisecond},
		"task_v2_eta_naive":       {sig: add().Set("eta", celeryproto.NaiveTime{Year: 2030, Month: 1, Day: 2, Hour: 3, Minute: 4, Second: 5})},
		"task_v2_eta_utc":         {sig: add().Set("eta", time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC))},
		"task_v2_eta_paris":       {sig: add().Set("eta", time.Date(2030, 7, 2, 3, 4, 5, 678901000, paris))},
		"task_v2_ignore_result": {
			sig: canvas.New("demo.nothing"),
			def: func(d *canvas.Defaults) {
				d.TaskOptions = func(string) (celeryproto.Members, bool) {
					return celeryproto.Members{{Key: "ignore_result", Value: celeryproto.Raw("true")}}, true
				}
			},
		},
		"task_v2_task_time_limits": {
			sig: canvas.New("demo.timed"),
			def: func(d *canvas.Defaults) {
				d.TaskOptions = func(string) (celeryproto.Members, bool) {
					return celeryproto.Members{
						{Key: "time_limit", Value: celeryproto.Raw("30")}, {Key: "soft_time_limit", Value: celeryproto.Raw("20")},
						{Key: "priority", Value: celeryproto.Raw("null")},
					}, true
				}
			},
		},
		"task_v2_send_task": {
			sig: canvas.New("other.module.task", 1).WithKwargs(map[string]string{"k": "v"}),
			def: func(d *canvas.Defaults) { d.TaskOptions = nil },
		},
		"task_v2_priority_10":  {sig: add().Set("priority", 10)},
		"task_v2_custom_queue": {sig: add().Set("queue", "video")},
		"task_v1_simple": {
			sig:   canvas.New("demo.add", 2).WithKwargs(map[string]int{"y": 3}).Set("task_id", firstID).Set("expires", 60),
			clock: "expires", later: time.Minute, def: func(d *canvas.Defaults) { d.Protocol = 1 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			golden := mustRecording(t, name)
			def := goldenDefaults()
			if test.clock != "" {
				text := regexp.MustCompile(`"` + test.clock + `": "([^"]*)"`).FindStringSubmatch(plain(t, golden.messages[0]))
				at, err := celeryproto.ParseISOTime(text[1])
				if err != nil {
					t.Fatal(err)
				}
				def.Now = at.Add(-test.later)
			}
			if test.def != nil {
				test.def(&def)
			}
			send := options(t, test.sig)
			task, err := send.Message(def)
			if err != nil {
				t.Fatal(err)
			}
			task.SetQueue(queueOf(send))
			message, err := task.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			sameBytes(t, golden.messages[:1], []string{string(message)})
		})
	}
	// A datetime far away: the milliseconds until then are those of the call.
	golden := plain(t, mustRecording(t, "task_v2_expires_datetime").messages[0])
	at := time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC)
	def := goldenDefaults()
	def.Now = at.Add(-1991486113138 * time.Millisecond)
	task, err := options(t, add().Set("expires", at)).Message(def)
	if err != nil {
		t.Fatal(err)
	}
	if want := `"expiration": "` + task.Properties.Expiration + `"`; !strings.Contains(golden, want) {
		t.Errorf("%s is not in %s", want, golden)
	}
}

// Retries carry expires as text; what has expired has no time left.
func TestMessageTimes(t *testing.T) {
	t.Parallel()
	def := goldenDefaults()
	def.Now = time.Date(2030, 1, 1, 12, 0, 0, 123456789, time.UTC)
	for option, test := range map[string]struct {
		value      any
		header     string
		expiration string
	}{
		"expires text":    {"2030-01-01T13:00:00+01:00", "2030-01-01T13:00:00+01:00", "0"},
		"expires later":   {"2030-01-01T12:00:01.123456Z", "2030-01-01T12:00:01.123456Z", "1000"},
		"expires naive":   {celeryproto.NaiveTimeOf(def.Now.Add(time.Minute)), "2030-01-01T12:01:00.123456", "60000"},
		"expires 0":       {0, "2030-01-01T12:00:00.123456+00:00", "0"},
		"expires ago":     {-5, "2030-01-01T11:59:55.123456+00:00", "0"},
		"expires true":    {true, "2030-01-01T12:00:01.123456+00:00", "1000"},
		"expires rounded": {0.0000005, "2030-01-01T12:00:00.123456+00:00", "0"},
		"expires null":    {nil, "", ""},
		"countdown 0":     {0, "", ""},
		"countdown 0.25":  {0.25, "2030-01-01T12:00:00.373456+00:00", ""},
		"countdown -1":    {-1, "2030-01-01T11:59:59.123456+00:00", ""},
		"eta text":        {"2030-01-01T12:00:00Z", "2030-01-01T12:00:00Z", ""},
		"eta null":        {nil, "", ""},
	} {
		name, _, _ := strings.Cut(option, " ")
		task, err := options(t, add().Set(name, test.value)).Message(def)
		if err != nil {
			t.Errorf("%s: %v", option, err)
			continue
		}
		envelope, err := task.Envelope()
		if err != nil {
			t.Fatal(err)
		}
		if name == "countdown" {
			name = "eta"
		}
		got, _ := envelope.Headers.Get(name)
		text := ""
		if !got.IsNull() {
			if text, err = got.Text(); err != nil {
				t.Fatal(err)
			}
		}
		if text != test.header || envelope.Properties.Expiration != test.expiration {
			t.Errorf("%s: %q, %q, want %q, %q", option, text, envelope.Properties.Expiration, test.header, test.expiration)
		}
	}
}

func TestMessageOptions(t *testing.T) {
	t.Parallel()
	def := goldenDefaults()
	def.ReplyTo, def.DeliveryMode, def.Lang = "default-reply", celeryproto.DeliveryTransient, ""
	task, err := options(t, add().Set("custom", map[string]int{"a": 1}).Set("nothing", nil).Set("mandatory", true).
		Set("headers", map[string]any{"x": 1, "lang": "xx"}).Set("retries", 2).Set("replaced_task_nesting", 3)).Message(def)
	if err != nil {
		t.Fatal(err)
	}
	if task.Lang != "xx" || task.Retries != 2 || task.ReplacedTaskNesting != 3 || len(task.ExtraHeaders) != 1 ||
		len(task.Properties.Extra) != 1 || task.Properties.Extra[0].Key != "custom" || task.Properties.ReplyTo != "default-reply" ||
		task.Properties.DeliveryMode != celeryproto.DeliveryTransient {
		t.Errorf("%+v", task)
	}
	task, err = options(t, add().Set("stamped_headers", []string{"a", "gone", "priority"}).Set("a", []int{1}).Set("priority", 5)).Message(def)
	if err != nil {
		t.Fatal(err)
	}
	// As in Python, a stamp of the name of an option is no option any more; a name without a value is left out.
	if task.Stamps.String() != `{"a": [1], "priority": 5}` || task.StampedHeaders.String() != `["a", "priority"]` || task.Properties.Priority != 0 {
		t.Errorf("%s %s %d", task.Stamps, task.StampedHeaders, task.Properties.Priority)
	}
	def.Serializer, def.Compression = celeryproto.SerializerYAML, "zlib"
	task, err = options(t, add().Set("serializer", "msgpack").Set("compression", "gzip")).Message(def)
	if err != nil {
		t.Fatal(err)
	}
	task.SetQueue("q")
	if e, err := task.Envelope(); err != nil || e.ContentType != celeryproto.ContentTypeMsgpack || task.Compression != "gzip" {
		t.Errorf("%+v, %v", e, err)
	}
	def.Serializer, def.Compression = "", ""
	task, err = options(t, add().Set("delivery_mode", "persistent")).Message(def)
	if err != nil || task.Properties.DeliveryMode != celeryproto.DeliveryPersistent || task.Lang != celeryproto.LangGo {
		t.Errorf("%+v, %v", task, err)
	}
}

func TestMessageRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"countdown": "5"}`:                      "option countdown",
		`{"countdown": 1e30}`:                     "out of range",
		`{"countdown": NaN}`:                      "out of range",
		`{"countdown": 123456789012345678901234}`: "out of range",
		`{"eta": 5}`:                              "option eta",
		`{"eta": ""}`:                             "option eta",
		`{"eta": "tomorrow"}`:                     "option eta",
		`{"expires": [1]}`:                        "option expires",
		`{"expires": -3e9}`:                       "out of range",
		`{"priority": "high"}`:                    "option priority",
		`{"delivery_mode": 7}`:                    "option delivery_mode",
		`{"reply_to": 7}`:                         "option reply_to",
		`{"headers": [1]}`:                        "option headers",
		`{"compression": 1}`:                      "option compression",
		`{"correlation_id": 1}`:                   "option correlation_id",
		`{"stamped_headers": 1}`:                  "option stamped_headers",
		`{"stamped_headers": [1]}`:                "option stamped_headers",
		`{"serializer": "xml"}`:                   `"xml" is not supported`,
		`{"retries": []}`:                         "retries",
		`{"group_id": 5}`:                         "group",
		`{"headers": {"id": null}}`:               "id",
	} {
		call := canvas.Call{}
		var err error
		if call.Options, err = celeryproto.Raw(text).Object(); err != nil {
			t.Fatal(err)
		}
		plan, err := canvas.New("t.a").Apply(nil, call)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if _, err := plan.Steps[0].Send.Message(canvas.Defaults{Now: time.Unix(1e9, 0)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	plan, err := canvas.New("t.a").Set("serializer", "xml").Apply(nil, canvas.Call{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = plan.Steps[0].Send.Message(canvas.Defaults{})
	if unsupported, ok := errors.AsType[*celeryproto.UnsupportedError](err); !ok || unsupported.Name != "xml" {
		t.Errorf("%v", err)
	}
}

// TestReprAgainstPython compares with Python's repr.
func TestReprAgainstPython(t *testing.T) {
	t.Parallel()
	ref := mustReference(t)
	values := []string{
		`null`, `true`, `[]`, `{}`, `[1, -2.5, 1e16, 1e-7, 123456789012345678901234567890]`, `NaN`, `-Infinity`, `"plain"`, `"it's"`,
		`"\"both\" and 'so'"`, `"\"only\""`, `"back\\slash \n\r\t\u0000\u001f\u007f\u00a0\u00ad"`, `"h\u00e9llo \u20ac \ud83d\ude00 \u200b \ue000 \udead"`,
		`{"a": {"b": ["c", {"d": null}]}, "e'": "f"}`, `{"__type__": "datetime", "__value__": "2024-02-29T12:30:45.123456+00:00"}`,
		`{"__type__": "date", "__value__": "2024-02-29"}`, `{"__type__": "decimal", "__value__": "1.10"}`,
		`{"__type__": "bytes", "__value__": "it's \u0000\u001b\\"}`, `{"__type__": "base64", "__value__": "/wAK"}`,
		`{"__type__": "uuid", "__value__": {"hex": "00000000000040008000000000000001"}}`,
		`[{"__type__": "datetime", "__value__": "2024-02-29T12:30:45"}]`,
	}
	request := "{\"op\": \"repr\", \"values\": [" + strings.Join(values, ", ") + "]}\n" // NaN is no JSON for encoding/json
	answer := ref.askText(t, request)
	if len(answer.Reprs) != len(values) {
		t.Fatalf("%d reprs: %s", len(answer.Reprs), answer.Error)
	}
	for i, value := range values {
		if got := canvas.Repr(celeryproto.Raw(value)); got != answer.Reprs[i] {
			t.Errorf("%s: %s, want %s", value, got, answer.Reprs[i])
		}
	}
}

func TestReprException(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		module, typ string
		message     []string
		want        string
	}{
		{"builtins", "ValueError", []string{"x"}, "ValueError('x')"},
		{"builtins", "ValueError", nil, "ValueError()"},
		{"app.errors", "Outer.Inner", []string{"a", "it's"}, `Inner('a', "it's")`},
		{"celery.exceptions", "NotRegistered", []string{"t.a"}, "Task of kind 't.a' never registered, please make sure it's imported."},
		{"celery.exceptions", "TimeoutError", []string{"The operation timed out."}, "TimeoutError('The operation timed out.')"},
		{"celery.exceptions", "Reject", []string{"no", "yes"}, "reject requeue='yes': no"},
		{"celery.exceptions", "BackendGetMetaError", []string{"failed"}, "BackendGetMetaError('failed') task_id:"},
	} {
		if got := canvas.ReprException(celeryproto.NewException(test.module, test.typ, test.message...)); got != test.want {
			t.Errorf("%s, want %s", got, test.want)
		}
	}
	if got := canvas.CallbackError(celeryproto.NewException("kombu.exceptions", "OperationalError", "gone")).Error(); got !=
		"celery.exceptions.ChordError: Callback error: OperationalError('gone')" {
		t.Error(got)
	}
}
