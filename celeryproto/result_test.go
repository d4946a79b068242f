package celeryproto

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestResultGoldens(t *testing.T) {
	t.Parallel()
	for _, g := range mustGoldens(t, `{"status": `) {
		m := must(DecodeResult(g.value))(t)
		if got := must(m.Append(nil))(t); !bytes.Equal(got, g.value) {
			t.Errorf("%s: encoded again:\n got %s\nwant %s", g.name, got, g.value)
		}
		// The group, the parent and stamps have other places in other cases.
		m.wire = nil
		if got := must(m.Append(nil))(t); !sameJSON(t, got, g.value) {
			t.Errorf("%s: written anew:\n got %s\nwant %s", g.name, got, g.value)
		}
		switch m.Status {
		case StatusFailure, StatusRevoked:
			e := must(m.Exception())(t)
			if got := must(e.Raw())(t); !sameJSON(t, got, m.Result) {
				t.Errorf("%s: exception:\n got %s\nwant %s", g.name, got, m.Result)
			}
		}
	}
}

// TestResultCompressedGolden has a golden for each compression.
func TestResultCompressedGolden(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, g := range mustGoldens(t, compressedMarker) {
		codec := ResultCodec{Accept: acceptAll}
		if strings.HasPrefix(g.name, "result_compressed_pickle#") {
			codec.Serializer = SerializerPickle
		}
		m := must(codec.Decode(g.value))(t)
		seen[m.Compression] = true
		if mime, _, _ := strings.Cut(strings.TrimPrefix(string(g.value), compressedMarker), "\x00"); m.Compression != mime || m.Status == "" {
			t.Errorf("%s: compression %q, status %q", g.name, m.Compression, m.Status)
		}
		codec.Compression = m.Compression
		again := must(codec.Decode(must(codec.Append(nil, m))(t)))(t)
		if again.Compression != m.Compression || !bytes.Equal(again.Result, m.Result) {
			t.Errorf("%s: again %+v", g.name, again)
		}
		codec.Limits.MaxDecompressed = 10
		if _, err := codec.Decode(g.value); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", g.name, err)
		}
	}
	if len(seen) != len(algorithms) {
		t.Errorf("goldens of %v", seen)
	}
}

func TestResultFields(t *testing.T) {
	t.Parallel()
	m := must(DecodeResult(mustGolden(t, "result_success_extended", `{"status": `)))(t)
	if m.Extended == nil || m.Extended.Name == "" || m.Extended.Args.Kind() != KindArray || m.Extended.Retries == nil {
		t.Errorf("extended %+v", m.Extended)
	}
	if m.DateDone.IsZero() || m.TaskID == "" {
		t.Errorf("meta %+v", m)
	}
	failure := must(DecodeResult(mustGolden(t, "result_failure", `{"status": `)))(t)
	e := must(failure.Exception())(t)
	want := &Exception{Type: "ValueError", Module: "builtins", Message: []Raw{Raw(`"boom"`)}}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Error(diff)
	}
	if e.Error() != "ValueError: boom" {
		t.Error(e)
	}
}

func TestNewResult(t *testing.T) {
	t.Parallel()
	m := &ResultMeta{
		Status:    StatusFailure,
		Result:    must(NewException("builtins", "RuntimeError", "no é").Raw())(t),
		Traceback: "main.go:1",
		DateDone:  time.Date(2026, 11, 23, 9, 25, 13, 300938000, time.UTC),
		TaskID:    "i",
		GroupID:   "g",
	}
	const want = `{"status": "FAILURE", "result": {"exc_type": "RuntimeError", "exc_message": ["no \u00e9"], ` +
		`"exc_module": "builtins"}, "traceback": "main.go:1", "children": [], ` +
		`"date_done": "2026-11-23T09:25:13.300938+00:00", "group_id": "g", "task_id": "i"}`
	if got := string(must(m.Append(nil))(t)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if _, err := (&ResultMeta{}).Append(nil); err == nil {
		t.Error("a meta without status was written")
	}
	if _, err := (&ResultMeta{Status: "S", Result: Raw("{")}).Append(nil); err == nil {
		t.Error("a broken result was written")
	}
	if _, err := (&Exception{}).Raw(); err == nil {
		t.Error("an exception without a type was written")
	}
}

// TestResultForms has what foreign workers and older Celery write.
func TestResultForms(t *testing.T) {
	t.Parallel()
	for text, wantError := range map[string]string{
		`{"status":"SUCCESS","result":5,"task_id":"i"}`:                                                 "",
		`{"status":"SUCCESS","result":null,"date_done":"2026-11-23T09:25:13.148431"}`:                   "",
		`{"status":"SUCCESS","result":{"__type__":"money","__value__":1}}`:                              "",
		`{"status":"SUCCESS","result":NaN,"date_done":"2026-11-23T09:25:13.148431123Z","tenant":["a"]}`: "",
		`{"status":"RETRY","result":null,"traceback":null,"children":null}`:                             "",
		`{"status":"SUCCESS"}`:                               "celeryproto: result: result: missing",
		`{"result":5}`:                                       "celeryproto: result: status: missing",
		`{"status":5,"result":5}`:                            "celeryproto: result: status: expected string, got number",
		`{"status":"S","result":5,"date_done":"never"}`:      "celeryproto: result: date_done: not an ISO 8601 time",
		`{"status":"S","result":5,"retries":"x","name":"n"}`: "celeryproto: result: retries: not an integer of 32 bits",
		`[]`: "celeryproto: result: expected object, got array",
		`{`:  "celeryproto: result: json: expected a key in double quotes at byte 1",
		"\x00celery-compressed\x00application/x-lz4\x00x": `celeryproto: compression "application/x-lz4" is not supported`,
		"\x00celery-compressed\x00":                       "celeryproto: result: compression: missing",
		"\x00celery-compressed\x00gzip\x00x":              "celeryproto: result: unexpected EOF",
	} {
		m, err := DecodeResult([]byte(text))
		if wantError != "" {
			if err == nil || err.Error() != wantError {
				t.Errorf("%q: %v", text, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := must(m.Append(nil))(t); !sameJSON(t, got, []byte(text)) {
			t.Errorf("got  %s\nwant %s", got, text)
		}
	}
}

func TestExceptionForms(t *testing.T) {
	t.Parallel()
	for result, want := range map[string]string{
		`{"exc_type":"E","exc_message":["a",1],"exc_module":"shop.errors"}`: "shop.errors.E: ('a', 1)",
		`{"exc_type":"E","exc_message":"text","exc_module":null}`:           "E: text",
		`{"exc_type":"E","exc_message":[{"a":1}]}`:                          "E: {'a': 1}",
		`{"exc_type":"E","exc_message":[]}`:                                 "E",
		`{"exc_type":"E"}`:                                                  "E",
	} {
		m := &ResultMeta{Status: StatusFailure, Result: Raw(result)}
		if got := must(m.Exception())(t).Error(); got != want {
			t.Errorf("%s: got %s", result, got)
		}
	}
	for _, result := range []string{`{}`, `"text"`, `null`, ``, `{"exc_type":5}`, `{"exc_type":"E","exc_module":[]}`} {
		m := &ResultMeta{Status: StatusFailure, Result: Raw(result)}
		if e, err := m.Exception(); err == nil {
			t.Errorf("%s: got %v", result, e)
		}
	}
}

func TestNullErrors(t *testing.T) {
	t.Parallel()
	if s := (&EncodeError{Err: ErrMissing}).Error(); !strings.HasPrefix(s, "celeryproto: encode: ") {
		t.Error(s)
	}
}
