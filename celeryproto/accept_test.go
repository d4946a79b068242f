package celeryproto

import (
	"errors"
	"slices"
	"testing"
)

func TestAccept(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		names []string
		want  []string
	}{
		{nil, []string{ContentTypeJSON}},
		{[]string{}, nil},
		{[]string{"json"}, []string{ContentTypeJSON}},
		{[]string{"pickle", "application/json", "json"}, []string{ContentTypeJSON, ContentTypePickle}},
		{[]string{"yaml", "msgpack"}, []string{ContentTypeMsgpack, ContentTypeYAML}},
		{[]string{"application/x-python-serialize", "text/plain", "application/data"}, []string{ContentTypePickle, ContentTypeText}},
	} {
		a := must(ParseAccept(tc.names))(t)
		if got := a.ContentTypes(); !slices.Equal(got, tc.want) {
			t.Errorf("%v: %v", tc.names, got)
		}
		for _, f := range formats {
			if got, want := a.Accepts(f.contentType), slices.Contains(tc.want, f.contentType) || f.trusted; got != want {
				t.Errorf("%v accepts %s: %v", tc.names, f.contentType, got)
			}
		}
		if a.Accepts("") || a.Accepts("application/x-mine") || a.Accepts("json") {
			t.Errorf("%v accepts what it does not know", tc.names)
		}
	}
	if (Accept{}) != must(ParseAccept(nil))(t) {
		t.Error("the zero value is not Celery's default")
	}
	for _, name := range []string{"auth", "raw", "text", "", "JSON", "application/x-mine", "gzip"} {
		_, err := ParseAccept([]string{"json", name})
		if unsupported, ok := errors.AsType[*UnsupportedError](err); !ok || unsupported.Name != name {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestDisallowed(t *testing.T) {
	t.Parallel()
	_, err := DecodeContent(ContentTypePickle, EncodingBinary, []byte("N."), Limits{})
	const want = "celeryproto: Refusing to deserialize untrusted content of type pickle (application/x-python-serialize)"
	if err == nil || err.Error() != want {
		t.Error(err)
	}
	if _, ok := errors.AsType[*UnsupportedError](err); !ok {
		t.Error("not also unsupported, for who asks whether another worker may read it")
	}
	_, err = DecodeContent("application/x-mine", "", []byte("x"), everything)
	if unsupported, ok := errors.AsType[*UnsupportedError](err); !ok || unsupported.Name != "application/x-mine" || isDisallowed(err) {
		t.Error(err)
	}
}

// TestPlainContent has what kombu does not parse.
func TestPlainContent(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ contentType, encoding, data, want string }{
		{"", "binary", "\xff", `{"__type__": "base64", "__value__": "/w=="}`},
		{"", "ASCII-8BIT", "", `{"__type__": "bytes", "__value__": ""}`},
		{"application/data", "", "h\u00e9", `"h\u00e9"`},
		{"application/text", "utf-8", "a", `"a"`},
		{"text/plain", "us-ascii", "a", `"a"`},
		{"text/plain", "latin-1", "\xe9", `"\u00e9"`},
		{"text/plain", "us-ascii", "\xe9", ""},
		{"text/plain", "utf-8", "\xff", ""},
		{"text/plain", "ebcdic", "a", ""},
	} {
		got, err := DecodeContent(tc.contentType, tc.encoding, []byte(tc.data), everything)
		if string(got) != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%+v: %s %v", tc, got, err)
		}
	}
	if _, err := DecodeContent("text/plain", "", []byte("a"), Limits{}); !isDisallowed(err) {
		t.Errorf("kombu trusts application/text and not text/plain: %v", err)
	}
	for _, tc := range []struct{ serializer, text, want, encoding string }{
		{"raw", `"h\u00e9"`, "h\u00e9", "utf-8"},
		{"application/data", `{"__type__": "base64", "__value__": "/w=="}`, "\xff", "binary"},
		{"text/plain", `"a"`, "a", "utf-8"},
		{"text/plain", `{"__type__": "base64", "__value__": "/w=="}`, "", ""},
		{"raw", `5`, "", ""},
		{"raw", `"\ud800"`, "", ""},
		{"auth", `5`, "", ""},
		{"json", `[`, "", ""},
		{"yaml", `[`, "", ""},
	} {
		data, _, encoding, err := EncodeContent(tc.serializer, Raw(tc.text))
		if string(data) != tc.want || encoding != tc.encoding || (err == nil) != (tc.want != "") {
			t.Errorf("%+v: %q %q %v", tc, data, encoding, err)
		}
	}
}
