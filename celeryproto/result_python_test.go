package celeryproto

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestPythonReadsResults lets Celery's backend read what we store, in every serializer and compression.
func TestPythonReadsResults(t *testing.T) {
	t.Parallel()
	p := startPython(t)
	compressions := []string{""}
	for _, a := range algorithms {
		compressions = append(compressions, a.mime)
	}
	stored := func(module, class, args string) string {
		return `{"exc_type": "` + class + `", "exc_message": [` + args + `], "exc_module": "` + module + `"}`
	}
	for name, tc := range map[string]struct{ status, result, want string }{ // want is "" where it is the same
		"value":             {StatusSuccess, `{"a": [1, null, 1.5]}`, ``},
		"builtin":           {StatusFailure, stored("builtins", "ValueError", `"boom", 1`), ``},
		"no arguments":      {StatusFailure, stored("builtins", "KeyError", ``), ``},
		"of Celery":         {StatusRevoked, stored("celery.exceptions", "TaskRevokedError", `"expired"`), ``},
		"of billiard":       {StatusFailure, stored("billiard.exceptions", "TimeLimitExceeded", `1`), ``},
		"nobody's":          {StatusFailure, stored("main", "Boom", `"x"`), stored("celery.exceptions", "Boom", `"x"`)},
		"no such builtin":   {StatusFailure, stored("builtins", "Boom", `"x"`), stored("celery.exceptions", "Boom", `"x"`)},
		"retry without one": {StatusRetry, `null`, ``},
		"other arguments": {StatusFailure, stored("builtins", "UnicodeDecodeError", `"x"`),
			stored("builtins", "Exception", `"<class 'UnicodeDecodeError'>(['x'])"`)},
	} {
		for _, serializer := range []string{SerializerJSON, SerializerMsgpack, SerializerYAML, SerializerPickle} {
			for _, compression := range compressions {
				m := &ResultMeta{Status: tc.status, Result: Raw(tc.result), Traceback: "line 1\n  line 2", TaskID: "i",
					Children: Raw(`[[["c", null], null]]`), DateDone: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)}
				data := must(ResultCodec{Serializer: serializer, Compression: compression}.Append(nil, m))(t)
				text := mustAsk[string](t, p, map[string]any{"op": "result", "serializer": serializer, "data": data})
				want := tc.want
				if want == "" {
					want = tc.result
				}
				got := must(Raw(text).Object())(t)
				if result, _ := got.Get(keyResult); !equalRaw(t, result, Raw(want)) {
					t.Errorf("%s %s %s: Python sees %s\nwant %s", name, serializer, compression, result, want)
				}
				for key, want := range map[string]string{"traceback": `"line 1\n  line 2"`, "children": `[[["c", null], null]]`,
					"date_done": `"2026-01-02T03:04:05.000006+00:00"`, "task_id": `"i"`} {
					if value, _ := got.Get(key); !equalRaw(t, value, Raw(want)) {
						t.Errorf("%s %s %s: %s is %s", name, serializer, compression, key, value)
					}
				}
			}
		}
	}
}

// TestResultsOfPython reads what Celery's backend stores of exceptions and values.
func TestResultsOfPython(t *testing.T) {
	t.Parallel()
	p := startPython(t)
	for python, want := range map[string]string{
		`ValueError("boom")`:                              "ValueError: boom",
		`ValueError("boom", 1)`:                           "ValueError: ('boom', 1)",
		`KeyError()`:                                      "KeyError",
		`exceptions.TimeLimitExceeded(3)`:                 "billiard.exceptions.TimeLimitExceeded: 3",
		`decimal.InvalidOperation("no")`:                  "decimal.InvalidOperation: no",
		`Local("text", 1)`:                                "nowhere.Local: ('text', 1)",
		`ValueError(datetime.datetime(2024, 1, 2, 3))`:    "ValueError: datetime.datetime(2024, 1, 2, 3, 0)",
		`RuntimeError("a", ValueError("b"))`:              `RuntimeError: ('a', 'ValueError(\'b\')')`,
		`exceptions.SoftTimeLimitExceeded()`:              "billiard.exceptions.SoftTimeLimitExceeded",
		`exceptions.Terminated("by me")`:                  "billiard.exceptions.Terminated: by me",
		`UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x")`: "",
	} {
		for _, serializer := range []string{SerializerJSON, SerializerMsgpack, SerializerYAML, SerializerPickle} {
			data := mustAsk[[]byte](t, p, map[string]any{"op": "store", "serializer": serializer, "compression": "zstd",
				"state": StatusFailure, "python": python})
			m := must(ResultCodec{Serializer: serializer, Accept: acceptAll}.Decode(data))(t)
			e := must(m.Exception())(t)
			if want == "" {
				if e.Type != "UnicodeDecodeError" || len(e.Message) != 5 {
					t.Errorf("%s %s: %v", serializer, python, e)
				}
				continue
			}
			if e.Error() != want {
				t.Errorf("%s %s: %v, want %s", serializer, python, e, want)
			}
			if m.Compression != CompressionZstd {
				t.Errorf("%s %s: compression %q", serializer, python, m.Compression)
			}
		}
	}
}

// TestPythonHasTheExceptions unpickles every class that we write as an exception object, with arguments of several kinds.
func TestPythonHasTheExceptions(t *testing.T) {
	t.Parallel()
	p := startPython(t)
	for module, classes := range map[string]map[string]bool{
		"builtins": builtinExceptions, "celery.exceptions": celeryExceptions, "billiard.exceptions": billiardExceptions,
		"kombu.exceptions": kombuExceptions,
	} {
		for _, class := range slices.Sorted(maps.Keys(classes)) {
			for _, args := range []string{`[]`, `["text"]`, `["text", 1]`, `[1, "text", null]`, `[{"a": []}, [], 1.5, true]`} {
				stored := `{"exc_type": "` + class + `", "exc_message": ` + args + `, "exc_module": "` + module + `"}`
				m := &ResultMeta{Status: StatusFailure, Result: Raw(stored), TaskID: "i"}
				data := must(pickleCodec.Append(nil, m))(t)
				if strings.Contains(string(data), keyExcType) {
					t.Errorf("%s.%s is stored as a dict", module, class)
				}
				var text string
				if err := p.ask(map[string]any{"op": "result", "serializer": SerializerPickle, "data": data}, &text); err != nil {
					t.Errorf("%s.%s with %s: %v", module, class, args, err)
				}
			}
		}
	}
}
