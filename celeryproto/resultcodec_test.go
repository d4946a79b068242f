package celeryproto

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// resultGolden returns the stored value of a case, of whatever serializer.
func resultGolden(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile("testdata/celery/" + name + ".json")
	if err != nil {
		tb.Fatal(err)
	}
	var doc struct {
		Redis []struct {
			Text  string `json:"value_utf8"`
			Bytes []byte `json:"value_b64"`
		}
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		tb.Fatal(err)
	}
	if doc.Redis[0].Bytes != nil {
		return doc.Redis[0].Bytes
	}
	return []byte(doc.Redis[0].Text)
}

// TestResultCodecGoldens reads the results of a worker with each serializer, and compares with those of the JSON one.
func TestResultCodecGoldens(t *testing.T) {
	t.Parallel()
	for name, exception := range map[string]string{
		"result_serializer_*":          "",
		"result_children_*":            "",
		"result_failure_*":             "ValueError: boom",
		"result_failure_opaque_args_*": `RuntimeError: ('<Opaque thing>', 'plain')`,
		"result_retry_*":               "ValueError: try again",
	} {
		for _, serializer := range []string{SerializerMsgpack, SerializerYAML, SerializerPickle} {
			golden := strings.Replace(name, "*", serializer, 1)
			data := resultGolden(t, golden)
			codec := ResultCodec{Serializer: serializer, Accept: must(ParseAccept([]string{"json", serializer}))(t)}
			m := must(codec.Decode(data))(t)
			if exception != "" {
				want := exception
				if serializer == SerializerPickle && strings.Contains(name, "opaque") {
					want = `RuntimeError: ('Opaque()', 'plain')` // its repr is the class's own
				}
				if e := must(m.Exception())(t); e.Error() != want {
					t.Errorf("%s: %v", golden, e)
				}
			}
			if m.TaskID == "" || m.Status == "" || strings.Contains(name, "children") && m.Children.Kind() != KindArray {
				t.Errorf("%s: %+v", golden, m)
			}
			again := must(codec.Append(nil, m))(t)
			// A traceback in YAML was wrapped before its paths were replaced.
			comparable := serializer == SerializerMsgpack || serializer == SerializerYAML && m.Traceback == ""
			if comparable && !bytes.Equal(again, data) {
				t.Errorf("%s: encoded again:\n got %q\nwant %q", golden, again, data)
			}
			if diff := cmp.Diff(m, must(codec.Decode(again))(t), cmp.AllowUnexported(ResultMeta{})); diff != "" {
				t.Errorf("%s: %s", golden, diff)
			}
			if _, err := (ResultCodec{Serializer: serializer}).Decode(data); !isDisallowed(err) {
				t.Errorf("%s: without accept: %v", golden, err)
			}
		}
	}
}

func isDisallowed(err error) bool {
	_, ok := errors.AsType[*DisallowedError](err)
	return ok
}

var pickleCodec = ResultCodec{Serializer: SerializerPickle, Accept: acceptAll}

// TestPickledFailures reads exceptions of protocols 0 to 5.
func TestPickledFailures(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"value_error": `("boom", 1) builtins.ValueError`,
		"retry": `("again", "ValueError('boom')", {"__type__": "datetime", "__value__": "2024-01-01T00:00:00"}) ` +
			`celery.exceptions.Retry`,
		"max_retries":     `("no more") celery.exceptions.MaxRetriesExceededError`,
		"revoked":         `("terminated") celery.exceptions.TaskRevokedError`,
		"attributes":      `("k") builtins.KeyError`,
		"opaque_argument": `("<class 'posix.system'>", "plain", "ValueError('inner')") builtins.RuntimeError`,
	}
	seen := 0
	for _, g := range mustSerialized(t, "pickles") {
		name, isFailure := strings.CutPrefix(g.Name, "failure_")
		if !isFailure {
			continue
		}
		seen++
		name = name[:len(name)-len("_0")]
		e := must(must(pickleCodec.Decode(g.Data))(t).Exception())(t)
		args := make([]string, len(e.Message))
		for i, arg := range e.Message {
			args[i] = string(arg)
		}
		if got := "(" + strings.Join(args, ", ") + ") " + e.Module + "." + e.Type; got != want[name] {
			t.Errorf("%s:\n got %s\nwant %s", g.Name, got, want[name])
		}
		// A task may not have the same.
		if _, err := DecodeContent(ContentTypePickle, "", g.Data, everything); err == nil {
			t.Errorf("%s: read as the content of a message", g.Name)
		}
	}
	if seen != 6*len(want) {
		t.Errorf("%d failures", seen)
	}
	wrapped := resultGolden(t, "result_failure_custom_pickle")
	if e := must(must(pickleCodec.Decode(wrapped))(t).Exception())(t); e.Error() != `golden_app.CustomError: (42, {'why': 'because'})` {
		t.Error(e)
	}
}

// TestPickledResultRefused has objects at other places than the exception's.
func TestPickledResultRefused(t *testing.T) {
	t.Parallel()
	const boom = "cbuiltins\nValueError\n(Vboom\ntR"
	for text, name := range map[string]string{
		"(Vstatus\nVSUCCESS\nVresult\n" + boom + "d.":                              "builtins.ValueError",
		"(Vstatus\nVFAILURE\nVresult\n" + boom + "Vtraceback\n" + boom + "d.":      "builtins.ValueError",
		"(Vstatus\nVFAILURE\nVresult\n(lcos\nsystem\n(Vtrue\ntRad.":                "os.system",
		"cos\nsystem\n(Vtrue\ntR0(Vstatus\nVFAILURE\nVresult\n" + boom + "d.":      "os.system",
		"(Vstatus\nVFAILURE\nVresult\ncbuiltins\ngetattr\n(cx\ny\nVz\ntR(Va\ntRd.": "x.y",
	} {
		_, err := pickleCodec.Decode([]byte(text))
		if unsupported, ok := errors.AsType[*UnsupportedError](err); !ok || unsupported.Name != name {
			t.Errorf("%q: %v", text, err)
		}
	}
	// A class alone is looked up, and nothing is made of it: what a reader here keeps is a name.
	m, err := pickleCodec.Decode([]byte("(Vstatus\nVFAILURE\nVresult\ncbuiltins\nValueError\nd."))
	if err == nil {
		t.Errorf("a class as an exception: %+v", m)
	}
}

// TestResultCodecValue has the other values of the backend: a saved group and chord parts.
func TestResultCodecValue(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{"result": [["g", null], [[["a", null], null]]]}`,
		`[1, "id", "SUCCESS", {"a": [1.5, null]}]`,
		`[1, "id", "FAILURE", {"exc_type": "ValueError", "exc_message": ["boom"], "exc_module": "builtins"}]`,
		`[1, "id", "FAILURE", {"exc_type": "Mine", "exc_message": [], "exc_module": "main"}]`,
	} {
		for _, serializer := range []string{"", SerializerJSON, SerializerMsgpack, ContentTypeYAML, SerializerPickle} {
			for _, compression := range []string{"", "gzip", "zstd"} {
				codec := ResultCodec{Serializer: serializer, Compression: compression, Accept: acceptAll}
				data := must(codec.AppendValue([]byte("x"), Raw(text)))(t)
				if back := must(codec.DecodeValue(data[1:]))(t); !sameJSON(t, back, []byte(text)) {
					t.Errorf("%s %s: %s read as %s", serializer, compression, text, back)
				}
				if compression != "" && !bytes.HasPrefix(data[1:], []byte(compressedMarker)) {
					t.Errorf("%s %s: no marker", serializer, compression)
				}
			}
		}
	}
}

func TestResultCodecRefused(t *testing.T) {
	t.Parallel()
	m := &ResultMeta{Status: StatusSuccess, Result: Raw(`{"__type__": "decimal", "__value__": "1"}`), TaskID: "i"}
	for name, codec := range map[string]ResultCodec{
		"unknown serializer":     {Serializer: "bson"},
		"signed":                 {Serializer: "auth"},
		"raw":                    {Serializer: "raw"},
		"unknown compression":    {Compression: "lz4"},
		"Decimal in msgpack":     {Serializer: SerializerMsgpack},
		"Decimal in YAML":        {Serializer: SerializerYAML},
		"unknown with a pickle ": {Serializer: SerializerPickle, Compression: "lz4"},
	} {
		dst := []byte("before")
		if got, err := codec.Append(dst, m); err == nil || string(got) != "before" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if got, err := codec.AppendValue(dst, m.Result); err == nil || string(got) != "before" {
			t.Errorf("%s: value: %q, %v", name, got, err)
		}
	}
	for name, codec := range map[string]ResultCodec{
		"JSON not accepted": {Accept: must(ParseAccept([]string{"yaml"}))(t)},
		"nothing accepted":  {Accept: must(ParseAccept([]string{}))(t)},
	} {
		if _, err := codec.Decode([]byte(`{"status": "SUCCESS", "result": 5}`)); !isDisallowed(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (ResultCodec{Serializer: SerializerYAML, Accept: acceptAll}).Decode([]byte("[1]")); err == nil {
		t.Error("an array was read as a meta")
	}
	if _, err := (ResultCodec{}).AppendValue(nil, Raw("{")); err == nil {
		t.Error("broken JSON was written")
	}
}
