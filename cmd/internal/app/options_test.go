package app

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"
)

func TestOptionsPrecedence(t *testing.T) {
	t.Parallel()
	o := NewOptions("gateway", io.Discard)
	listen := o.Set.String("listen", "d", "")
	admin := o.Set.String("admin", "d", "")
	file := o.Set.String("max-conns", "d", "")
	rest := o.Set.String("rest", "d", "")
	env := map[string]string{"DFWS_LISTEN": "e", "DFWS_ADMIN": "e"}
	lookup := func(k string) (string, bool) { v, ok := env[k]; return v, ok }
	if err := o.Parse([]string{"--listen", "f"}, lookup); err != nil {
		t.Fatal(err)
	}
	if err := o.ApplyFile(map[string]string{"listen": "s", "admin": "s", "max-conns": "s"}); err != nil {
		t.Fatal(err)
	}
	got := strings.Join([]string{*listen, *admin, *file, *rest}, " ")
	if want := "f e s d"; got != want {
		t.Errorf("values %q, want %q", got, want)
	}
	for name, want := range map[string]Source{"listen": FromFlag, "admin": FromEnv, "max-conns": FromFile, "rest": FromDefault} {
		if o.SourceOf(name) != want {
			t.Errorf("source of %s is %s, want %s", name, o.SourceOf(name), want)
		}
	}
	var out bytes.Buffer
	if err := o.Print(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "settings file") {
		t.Errorf("Print lacks the source:\n%s", out.String())
	}
}

func TestOptionsRefuseMalformedValues(t *testing.T) {
	t.Parallel()
	none := func(string) (string, bool) { return "", false }
	bad := func(k string) (string, bool) { return "soon", k == "DFWS_WAIT" }
	cases := []struct {
		name string
		run  func(o *Options) error
		want string
	}{
		{"environment", func(o *Options) error { return o.Parse(nil, bad) }, "DFWS_WAIT"},
		{"flag", func(o *Options) error { return o.Parse([]string{"-wait", "soon"}, none) }, "wait"},
		{"file", func(o *Options) error {
			return o.ApplyFile(map[string]string{"wait": "soon"})
		}, "settings file: wait"},
		{"unknown in file", func(o *Options) error {
			return o.ApplyFile(map[string]string{"wiat": "1s"})
		}, `"wiat" is not an option`},
		{"argument", func(o *Options) error { return o.Parse([]string{"extra"}, none) }, `unexpected argument "extra"`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := NewOptions("gateway", io.Discard)
			o.Set.Duration("wait", time.Second, "")
			err := c.run(o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}
