package appserver

import (
	"slices"
	"strings"
	"testing"
)

func TestSplitCommand(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"":                               nil,
		"  ":                             nil,
		"a b\tc\nd":                      {"a", "b", "c", "d"},
		`a 'b c' "d e" f\ g`:             {"a", "b c", "d e", "f g"},
		`a "" ''`:                        {"a", "", ""},
		`x"y"'z'`:                        {"xyz"},
		`"a \" \\ \$ \n" 'b \'`:          {`a " \ $ \n`, `b \`},
		`gunicorn --env A='1 2' s.wsgi`:  {"gunicorn", "--env", "A=1 2", "s.wsgi"},
		`$HOME *.py; a | b && c > d`:     {"$HOME", "*.py;", "a", "|", "b", "&&", "c", ">", "d"},
		"sh -c 'exec gunicorn $OPTIONS'": {"sh", "-c", "exec gunicorn $OPTIONS"},
	} {
		got, err := SplitCommand(text)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{`a 'b`, `a "b`, `a \`, `a "b\"`} {
		if got, err := SplitCommand(text); err == nil {
			t.Errorf("%s: %q and no error", text, got)
		}
	}
}

func TestParseCommand(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"gunicorn site.wsgi":                       "gunicorn site.wsgi --bind unix:{socket}",
		"/venv/bin/gunicorn site.wsgi -w 3":        "/venv/bin/gunicorn site.wsgi -w 3 --bind unix:{socket}",
		"python3 -m gunicorn site.wsgi":            "python3 -m gunicorn site.wsgi --bind unix:{socket}",
		"uvicorn site.asgi:application":            "uvicorn site.asgi:application --uds {socket}",
		"daphne site.asgi:application":             "daphne site.asgi:application -u {socket}",
		"hypercorn site.asgi:application":          "hypercorn site.asgi:application --bind unix:{socket}",
		"gunicorn -b unix:{socket} site.wsgi":      "gunicorn -b unix:{socket} site.wsgi",
		"uwsgi --http-socket {socket} --module x":  "uwsgi --http-socket {socket} --module x",
		"sh -c 'exec gunicorn -b unix:{socket} x'": "sh|-c|exec gunicorn -b unix:{socket} x",
	} {
		got, err := parseCommand(text)
		if want := strings.ReplaceAll(want, " ", "|"); err != nil || strings.ReplaceAll(strings.Join(got, "|"), " ", "|") != want {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"":                                 "missing",
		"myserver --port 8000":             SocketPlaceholder,
		"gunicorn site.wsgi -b 0.0.0.0:80": "-b names an address",
		"gunicorn --bind=:80 site.wsgi":    "--bind names an address",
		"uvicorn site.asgi --port 8000":    "--port names an address",
		"gunicorn 'x":                      "not closed",
	} {
		if _, err := parseCommand(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestConfigFaults(t *testing.T) {
	t.Parallel()
	_, err := New(Config{Command: "x", StartTimeout: -1, StopTimeout: -1, StartAttempts: -1, MaxMemory: -1, MaxAge: -1, ReadyPath: "a b"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"command", "StartTimeout", "StopTimeout", "StartAttempts", "MaxMemory", "MaxAge", "ReadyPath"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %s", err, want)
		}
	}
	if _, err := New(Config{Command: "no-such-program {socket}"}); err == nil || !strings.Contains(err.Error(), "no-such-program") {
		t.Errorf("got %v", err)
	}
}

func FuzzSplitCommand(f *testing.F) {
	for _, seed := range []string{`a 'b c' "d e" f\ g`, `"\"`, `''`, "a\\"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		words, err := SplitCommand(text)
		if err != nil {
			return
		}
		quoted := make([]string, len(words))
		for i, word := range words {
			quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
		again, err := SplitCommand(strings.Join(quoted, " "))
		if err != nil || !slices.Equal(again, words) {
			t.Errorf("%q became %q, %v", words, again, err)
		}
	})
}
