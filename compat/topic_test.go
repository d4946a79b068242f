package compat

import (
	"strings"
	"testing"
)

func TestTopicsGolden(t *testing.T) {
	t.Parallel()
	var golden struct {
		Topics []struct {
			Object string  `json:"object"`
			Topic  *string `json:"topic"`
			Group  string  `json:"group"`
		} `json:"topics"`
	}
	mustGolden(t, "topics.json", &golden)
	made := map[string]string{
		"BROADCAST":         BroadcastTopic,
		"WINDOW":            WindowTopic("abcdefghijklmnopqrstuvwxyz012345"),
		"USER":              UserTopic("auth.User", "1"),
		"Session('abc')":    SessionTopic("abc"),
		"str 'news'":        StringTopic("news"),
		"str ''":            StringTopic(""),
		"str 'é'":           StringTopic("é"),
		"int 1":             IntTopic(1),
		"int 0":             IntTopic(0),
		"int -1":            IntTopic(-1),
		"int 2**61-1":       IntTopic(1<<61 - 1),
		"int 2**61":         IntTopic(1 << 61),
		"int -5":            IntTopic(-5),
		"bool True":         BoolTopic(true),
		"class Plain":       ClassTopic("Plain"),
		"class int":         ClassTopic("int"),
		"User pk=1 (saved)": ModelTopic("auth.User", 1),
		"User unsaved":      ModelTopic("auth.User", nil),
		"User pk=0":         ModelTopic("auth.User", 0),
		"User pk='x-y'":     ModelTopic("auth.User", "x-y"),
		"Group pk=42":       ModelTopic("auth.Group", int64(42)),
		"Permission pk=7":   ModelTopic("auth.permission", 7),
		"lazy User pk=1":    ModelTopic("auth.user", "1"),
		"User class":        ClassTopic("User"),
	}
	seen := 0
	for _, g := range golden.Topics {
		if g.Topic == nil || strings.HasPrefix(*g.Topic, "!") {
			continue
		}
		if got := GroupName(*g.Topic); got != g.Group {
			t.Errorf("GroupName(%q) = %s, want %s", *g.Topic, got, g.Group)
		}
		if got, ok := made[g.Object]; ok {
			seen++
			if got != *g.Topic {
				t.Errorf("%s: topic %q, want %q", g.Object, got, *g.Topic)
			}
		}
	}
	if seen != len(made) {
		t.Errorf("%d of %d topics are in the golden file", seen, len(made))
	}
}

func TestTopicsOfWindowInfo(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ json, window, user string }{
		{`{}`, "-window.None", "-auth.user.None"},
		{`{"window_key": "", "user_pk": null}`, "-window.", "-auth.user.None"},
		{`{"window_key": "k", "user_pk": 7}`, "-window.k", "-auth.user.7"},
		{`{"user_pk": "a.b"}`, "-window.None", "-auth.user.a.b"},
		{`{"user_pk": 123456789012345678901234567890}`, "-window.None", "-auth.user.123456789012345678901234567890"},
		{`{"user_pk": {"__type__": "uuid", "__value__": {"hex": "00000000000000000000000000000005"}}}`, "-window.None",
			"-auth.user.00000000-0000-0000-0000-000000000005"},
	} {
		w, err := DecodeWindowInfo([]byte(test.json))
		if err != nil {
			t.Fatal(err)
		}
		if got := w.WindowTopic(); got != test.window {
			t.Errorf("%s: window topic %q, want %q", test.json, got, test.window)
		}
		if got := w.UserTopic("auth.User"); got != test.user {
			t.Errorf("%s: user topic %q, want %q", test.json, got, test.user)
		}
	}
}
