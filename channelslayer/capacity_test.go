package channelslayer

import (
	"errors"
	"strings"
	"testing"
)

// globTable is judged by Python's fnmatch.translate (3.11); the redis tests hold the Lua patterns to it, too.
var globTable = []struct {
	glob    string
	matches []string
	not     []string
}{
	{"", []string{""}, []string{"a"}},
	{"*", []string{"", "a", "a!b", "é"}, nil},
	{"specific.*", []string{"specific.", "specific.abc!def"}, []string{"specific", "specificXabc", "xspecific.a"}},
	{"a?c", []string{"abc", "a.c", "aéc", "a!c"}, []string{"ac", "abbc"}},
	{"??", []string{"ab", "éé", "a٣"}, []string{"é", "a", "abc"}},
	{"?*", []string{"a", "é", "éa"}, []string{""}},
	{"*é*", []string{"é", "aéb"}, []string{"e"}},
	{"[ab]x", []string{"ax", "bx"}, []string{"cx", "x", "abx"}},
	{"[!ab]x", []string{"cx", "éx", "!x"}, []string{"ax", "bx", "x"}},
	{"[a-c]", []string{"a", "b", "c"}, []string{"d", "-"}},
	{"[c-a]", nil, []string{"a", "b", "c", "-"}},
	{"[a-]", []string{"a", "-"}, []string{"b"}},
	{"[]a]", []string{"]", "a"}, []string{"b", "[]a]"}},
	{"[!]a]", []string{"b", "é"}, []string{"]", "a"}},
	{"[a", []string{"[a"}, []string{"a"}},
	{"[]", []string{"[]"}, []string{""}},
	{"[^a]", []string{"^", "a"}, []string{"b"}},
	{`[\]`, []string{`\`}, []string{"a"}},
	{"gw.%d+", []string{"gw.%d+"}, []string{"gw.1", "gwx%d+"}},
	{"a.b$(c)", []string{"a.b$(c)"}, []string{"aXb$(c)"}},
	{"http.response!*", []string{"http.response!x", "http.response!"}, []string{"http.response"}},
	{"A", []string{"A"}, []string{"a"}},
}

func TestGlobs(t *testing.T) {
	t.Parallel()
	for _, tt := range globTable {
		re, _, err := compileGlob(tt.glob)
		if err != nil {
			t.Errorf("%q: %v", tt.glob, err)
			continue
		}
		for _, name := range tt.matches {
			if !re.MatchString(name) {
				t.Errorf("%q does not match %q", tt.glob, name)
			}
		}
		for _, name := range tt.not {
			if re.MatchString(name) {
				t.Errorf("%q matches %q", tt.glob, name)
			}
		}
	}
}

func TestCapacityRefuses(t *testing.T) {
	t.Parallel()
	if _, err := Open(Config{ChannelCapacity: []CapacityRule{{Glob: "[é]", Capacity: 1}}}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a set outside ASCII: %v", err)
	}
	if _, err := Open(Config{ChannelCapacity: []CapacityRule{{Glob: "celery"}}}); err == nil || !strings.Contains(err.Error(), "channel_capacity") {
		t.Errorf("capacity 0: %v", err)
	}
}
