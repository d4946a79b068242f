package celeryproto

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

// serialized is one case of integration/capture/serialized: data and the value in it as kombu's JSON, "" where there is none.
type serialized struct {
	Name            string `json:"name"`
	ContentType     string `json:"content_type"`
	ContentEncoding string `json:"content_encoding"`
	Compression     string `json:"compression"`
	Data            []byte `json:"data"`
	Text            string `json:"text"`
}

func mustSerialized(tb testing.TB, file string) []serialized {
	tb.Helper()
	b, err := os.ReadFile("testdata/serialized/" + file + ".json")
	if err != nil {
		tb.Fatal(err)
	}
	var doc struct{ Cases []serialized }
	if err := json.Unmarshal(b, &doc); err != nil {
		tb.Fatal(err)
	}
	if len(doc.Cases) == 0 {
		tb.Fatalf("%s: no cases", file)
	}
	return doc.Cases
}

var everything = Limits{Accept: acceptAll}

func TestContentGoldens(t *testing.T) {
	t.Parallel()
	for _, g := range mustSerialized(t, "content") {
		data := g.Data
		if g.Compression != "" {
			data = must(decompress(g.Compression, data, DefaultMaxDecompressed))(t)
		}
		got, err := DecodeContent(g.ContentType, g.ContentEncoding, data, everything)
		if err != nil || !sameJSON(t, got, []byte(g.Text)) {
			t.Errorf("%s:\n got %s %v\nwant %s", g.Name, got, err, g.Text)
			continue
		}
		again, contentType, encoding, err := EncodeContent(g.ContentType, got)
		if err != nil || contentType != g.ContentType || encoding != g.ContentEncoding {
			t.Errorf("%s: encoded again: %s %s %v", g.Name, contentType, encoding, err)
		}
		if g.ContentType != ContentTypePickle && string(again) != string(data) {
			t.Errorf("%s: encoded again:\n got %q\nwant %q", g.Name, again, data)
		}
	}
}

func TestYAMLGoldens(t *testing.T) {
	t.Parallel()
	accepted := 0
	for _, g := range mustSerialized(t, "yaml") {
		got, err := DecodeContent(ContentTypeYAML, EncodingUTF8, g.Data, everything)
		switch {
		case g.Text == "" && err == nil:
			t.Errorf("%q: got %s, and Python refuses it", g.Name, got)
		case g.Text != "" && err != nil:
			t.Errorf("%q: %v, and Python reads %s", g.Name, err, g.Text)
		case err == nil && !sameJSON(t, got, []byte(g.Text)):
			t.Errorf("%q:\n got %s\nwant %s", g.Name, got, g.Text)
		}
		if err == nil {
			accepted++
		}
	}
	if accepted < 80 {
		t.Errorf("read only %d", accepted)
	}
}

// TestYAMLRefusedByName has what safe_load has no constructor for.
func TestYAMLRefusedByName(t *testing.T) {
	t.Parallel()
	for text, name := range map[string]string{
		"!!python/object/apply:os.system ['true']": "tag:yaml.org,2002:python/object/apply:os.system",
		"[1, !!python/tuple [1]]":                  "tag:yaml.org,2002:python/tuple",
		"{a: !mine x}":                             "!mine",
		"{a: !mine x, a: 1}":                       "!mine",
		"!!set {a: !mine x}":                       "!mine",
	} {
		_, err := DecodeContent(ContentTypeYAML, "", []byte(text), everything)
		if unsupported, ok := errors.AsType[*UnsupportedError](err); !ok || unsupported.Name != name || unsupported.What != whatYAML {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// refusedPickles are the cases of pickles.json that are refused, with the name in the error.
var refusedPickles = map[string]string{
	"tuple_keys":  "tuple",
	"bytes_keys":  "bytes",
	"cycle":       "that contains itself",
	"zone":        "zoneinfo.ZoneInfo",
	"timedelta":   "datetime.timedelta",
	"timezone":    "datetime.timezone",
	"counter":     "collections.Counter",
	"complex":     "builtins.complex",
	"fraction":    "fractions.Fraction",
	"function":    "posix.system",
	"class":       "builtins.ValueError",
	"exception":   "builtins.ValueError",
	"typed_keys":  "__type__, __value__",
	"failure":     "",
	"chain":       "-",
	"group":       "-",
	"unreachable": "-",
}

func TestPickleGoldens(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, g := range mustSerialized(t, "pickles") {
		if strings.HasPrefix(g.Name, "failure_") {
			continue // TestPickledFailures
		}
		name := g.Name[:strings.LastIndexByte(g.Name, '_')]
		got, err := DecodeContent(ContentTypePickle, EncodingBinary, g.Data, everything)
		if want, refused := refusedPickles[name]; refused && want != "-" {
			seen[name] = true
			if unsupported, ok := errors.AsType[*UnsupportedError](err); !ok || unsupported.Name != want {
				t.Errorf("%s: got %s %v", g.Name, got, err)
			}
			continue
		}
		if err != nil || !sameJSON(t, got, []byte(g.Text)) {
			t.Errorf("%s:\n got %s %v\nwant %s", g.Name, got, err, g.Text)
			continue
		}
		data, _, _, err := EncodeContent(SerializerPickle, got)
		if err != nil {
			t.Errorf("%s: %v", g.Name, err)
			continue
		}
		again, err := DecodeContent(ContentTypePickle, EncodingBinary, data, everything)
		if err != nil || string(again) != string(got) {
			t.Errorf("%s: again:\n got %s %v\nwant %s", g.Name, again, err, got)
		}
	}
	if len(seen) < 13 {
		t.Errorf("refused only %v", seen)
	}
}
