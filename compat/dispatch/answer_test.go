package dispatch

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// goldenAnswer is an answer as the Django app writes it.
func goldenAnswer() string {
	return `{"schema": 1, "created": 1764000000.25, "binding": "session", "session": "` + SessionHash("cookie") + `", "user": "auth.user.1", "stamp": "ab", ` +
		`"topics": ["-broadcast", "-window.k"], "window_info": {"window_key": "k", "user_pk": 1}, "cookies": ["sessionid=x; Path=/"]}`
}

func TestDecodeAnswer(t *testing.T) {
	t.Parallel()
	a, err := DecodeAnswer([]byte(goldenAnswer()))
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprintf("%v %v %v %v %v %v", a.Topics, a.Cookies, a.User, a.Stamp, a.Binding, a.Groups) != "[-broadcast -window.k] [sessionid=x; Path=/] auth.user.1 ab session []" {
		t.Errorf("%+v", a)
	}
	for name, test := range map[string]struct{ old, text, field string }{
		"schema":       {`"schema": 1`, `"schema": 2`, "schema"},
		"no topics":    {`"topics": ["-broadcast", "-window.k"], `, ``, "topics"},
		"topic":        {`"-broadcast"`, `5`, "topics"},
		"many topics":  {`"-broadcast"`, strings.Repeat(`"",`, maxTicketGroups) + `""`, "topics"},
		"cookies":      {`"cookies": ["sessionid=x; Path=/"]`, `"cookies": null`, "cookies"},
		"many cookies": {`"sessionid=x; Path=/"`, strings.Repeat(`"",`, maxAnswerCookies) + `""`, "cookies"},
		"binding":      {`"binding": "session"`, `"binding": "trust me"`, "binding"},
		"window info":  {`"window_info": {"window_key": "k", "user_pk": 1}`, `"window_info": null`, "window_info"},
		"no JSON":      {`{"schema"`, `{schema`, ""},
		"larger":       {`"-broadcast"`, `"` + strings.Repeat("x", maxTicketBytes) + `"`, ""},
	} {
		var bad *TicketError
		text := strings.Replace(goldenAnswer(), test.old, test.text, 1)
		if _, err := DecodeAnswer([]byte(text)); !errors.As(err, &bad) || bad.Field != test.field {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecodeAnswer(f *testing.F) {
	f.Add([]byte(goldenAnswer()))
	f.Add([]byte(`{"schema": 1, "created": 1e400, "binding": "none", "topics": [], "cookies": [], "window_info": {}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := DecodeAnswer(b)
		var bad *TicketError
		if err != nil && !errors.As(err, &bad) {
			t.Errorf("%v is no TicketError", err)
		}
		if err == nil && (a.WindowInfo == nil || len(a.Topics) > maxTicketGroups || a.Binding != BindNone && a.Session == "") {
			t.Errorf("%+v", a)
		}
	})
}
