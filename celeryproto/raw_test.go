package celeryproto

import (
	"math"
	"math/big"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRawText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`"plain"`:                  "plain",
		` "x" `:                    "x",
		`"\u00e9\n\"\\\/\b\f\r\t"`: "é\n\"\\/\b\f\r\t",
		`"\ud83d\ude00"`:           "😀",
		`"\ud83d"`:                 "\xed\xa0\xbd",
		`"\ude00\ud83d"`:           "\xed\xb8\x80\xed\xa0\xbd",
		`"\ud83d\ud83d\ude00"`:     "\xed\xa0\xbd😀",
		`"\ud83dx\ude00"`:          "\xed\xa0\xbdx\xed\xb8\x80",
		`"\u0000"`:                 "\x00",
	} {
		got := must(Raw(text).Text())(t)
		if got != want {
			t.Errorf("%s: got %q want %q", text, got, want)
		}
		if again := must(Raw(AppendString(nil, got)).Text())(t); again != got {
			t.Errorf("%s: again %q", text, again)
		}
	}
	for _, text := range []string{``, `1`, `null`, `"`, `"a" 1`, `"\ud83"`} {
		if _, err := Raw(text).Text(); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
}

func TestAppendString(t *testing.T) {
	t.Parallel()
	// What json.dumps of CPython 3.11 writes.
	for s, want := range map[string]string{
		"":                    `""`,
		"é€😀":                 `"\u00e9\u20ac\ud83d\ude00"`,
		"\x00\x1f\x7f\u0080":  `"\u0000\u001f\u007f\u0080"`,
		"\b\f\n\r\t\"\\/'<>&": `"\b\f\n\r\t\"\\/'<>&"`,
		"\u2028":              `"\u2028"`,
		"\xed\xa0\x80":        `"\ud800"`,
		"\xed\xbf\xbf":        `"\udfff"`,
		"a\xffb\xed":          `"a\ufffdb\ufffd"`, // no Python str is like this
	} {
		if got := string(AppendString(nil, s)); got != want {
			t.Errorf("%q: got %s want %s", s, got, want)
		}
	}
}

func TestRawObject(t *testing.T) {
	t.Parallel()
	got := must(Raw(` {"a" : 1 ,"\u0061":[ 2 ], "b":{"c":null}} `).Object())(t)
	want := Members{{"a", Raw("1")}, {"a", Raw("[ 2 ]")}, {"b", Raw(`{"c":null}`)}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if v, ok := got.Get("a"); !ok || string(v) != "[ 2 ]" {
		t.Errorf("a is %s", v)
	}
	for _, text := range []string{``, `[]`, `{"a":1}}`, `{"a":[}`} {
		if _, err := Raw(text).Object(); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
}

func TestRawArrayAndLookup(t *testing.T) {
	t.Parallel()
	got := must(Raw(` [1 , [2], "]"] `).Array())(t)
	if diff := cmp.Diff([]Raw{Raw("1"), Raw("[2]"), Raw(`"]"`)}, got); diff != "" {
		t.Error(diff)
	}
	values := []Raw{Raw("old"), Raw("old")}
	err := Raw(`{"x":1,"s\u0069gnal":2,"signal":3,"x":{"opts":4}}`).Lookup([]string{"signal", "opts"}, values)
	if err != nil || string(values[0]) != "3" || values[1] != nil {
		t.Errorf("%v %q", err, values)
	}
	if err := Raw(`{"signal":1`).Lookup([]string{"signal"}, values[:1]); err == nil {
		t.Error("no error")
	}
}

func TestRawNumber(t *testing.T) {
	t.Parallel()
	huge, _ := new(big.Int).SetString("100000000000000000000", 10)
	for text, want := range map[string]any{
		`5`: int64(5), `-0`: int64(0), `9223372036854775807`: int64(math.MaxInt64),
		`1.0`: 1.0, `1e2`: 100.0, `1e400`: math.Inf(1), `-1e400`: math.Inf(-1), `-Infinity`: math.Inf(-1),
		`Infinity`: math.Inf(1), `1e-999`: 0.0,
	} {
		if got := must(Raw(text).Number())(t); got != want {
			t.Errorf("%s: got %v", text, got)
		}
	}
	if got := must(Raw(`100000000000000000000`).Number())(t); got.(*big.Int).Cmp(huge) != 0 {
		t.Errorf("got %v", got)
	}
	if got := must(Raw(`NaN`).Number())(t); !math.IsNaN(got.(float64)) {
		t.Errorf("got %v", got)
	}
	if got := must(Raw(`-0.0`).Number())(t); !math.Signbit(got.(float64)) {
		t.Errorf("got %v", got)
	}
	if _, err := Raw(`"1"`).Number(); err == nil {
		t.Error("a text is no number")
	}
}

func TestRawKind(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Kind{
		``: KindInvalid, `x`: KindInvalid, ` null`: KindNull, `true`: KindBool, `-1`: KindNumber, `NaN`: KindNumber,
		`"`: KindString, `[`: KindArray, `{`: KindObject,
	} {
		if got := Raw(text).Kind(); got != want {
			t.Errorf("%q: got %v want %v", text, got, want)
		}
	}
	if s := Kind(99).String(); s != "kind 99" {
		t.Error(s)
	}
}

func TestMembersSetAndDelete(t *testing.T) {
	t.Parallel()
	original := Members{{"a", Raw("1")}, {"b", Raw("2")}, {"a", Raw("3")}}
	m := original
	m.Set("a", Raw("4"))
	m.Set("c", nil)
	m.Delete("b")
	if got := string(m.Append(nil)); got != `{"a": 4, "c": null}` {
		t.Error(got)
	}
	if got := string(original.Append(nil)); got != `{"a": 1, "b": 2, "a": 3}` {
		t.Error(got)
	}
	var many Members
	for i := range 100 {
		many = append(many, Member{Key: string(rune('a' + i%50)), Value: Raw("1")})
	}
	if got := len(many.merged()); got != 50 {
		t.Errorf("merged to %d", got)
	}
}
