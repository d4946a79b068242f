package djangoresults

import (
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

// What is in sub_tasks is read or refused; what was read is written and read again.
func FuzzSubTasks(f *testing.F) {
	held := newClaim(1_800_000_000)
	for _, text := range []string{
		`[[["a", null], null], [["b", null], null]]`, `[["a", null]]`, `[[["g", null], [[["a", ["p", null]], null]]]]`, `[]`, `[[]]`, ` [ ] `, `{`,
		`[[["a", null], null]]` + held.text(), claimStart + strings.Repeat(" ", claimBits), `[[["a", null], null]]` + held.text()[:50],
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := &chordRow{subTasks: text}
		if found, ok := claimOf(text); ok {
			if rest, same := strings.CutSuffix(text, found.text()); !same || strings.TrimRight(rest, claimAlphabet) != strings.TrimRight(text, claimAlphabet) {
				t.Errorf("%q has another claim than it is read as", text)
			}
		}
		members, err := c.header()
		if err != nil {
			return
		}
		written := encodeHeader(members)
		c.subTasks = written + held.text()
		again, err := c.header()
		if found, ok := claimOf(c.subTasks); err != nil || encodeHeader(again) != written || !ok || found != held {
			t.Errorf("%q: %v", c.subTasks, err)
		}
	})
}

// Any row is read or refused.
func FuzzRow(f *testing.F) {
	b := &Backend{d: dialects[SQLite], opts: Options{Zone: time.UTC}, content: content{celeryproto.ResultCodec{
		Accept: mustAccept(f, "json", "msgpack", "yaml", "pickle"),
	}}}
	f.Add("SUCCESS", "application/json", "utf-8", "1", "2026-01-02 03:04:05.678901", `{"children": [[["c", null], null]], "k": 1}`, `"(1,)"`)
	f.Add("FAILURE", "application/x-python-serialize", "binary", "gASVHwAAAAAAAACMCGJ1aWx0aW5zlIwKVmFsdWVFcnJvcpSTlClSlC4=", "2026-01-02", "", "")
	f.Add("RETRY", "application/x-msgpack", "binary", "gaF4AQ==", "", "gaF4AQ==", "!")
	f.Add("REVOKED", "application/x-yaml", "utf-8", "{a: 1}\n", "x", "[", "- 1")
	f.Fuzz(func(t *testing.T, status, contentType, encoding, result, done, meta, args string) {
		text := func(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }
		m, err := b.meta(&taskRow{
			id: "x", status: status, contentType: contentType, encoding: encoding, result: text(result), done: text(done), meta: text(meta),
			args: text(args),
		})
		if (m == nil) == (err == nil) {
			t.Fatalf("%v, %v", m, err)
		}
		if m != nil && len(m.Result) > 0 {
			if err := celeryproto.CheckJSON(m.Result, celeryproto.JSONLimits{}); err != nil {
				t.Errorf("%q is no JSON: %v", m.Result, err)
			}
		}
	})
}

func mustAccept(t testing.TB, names ...string) celeryproto.Accept {
	t.Helper()
	a, err := celeryproto.ParseAccept(names)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestASCII(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`"é😀x\u0000é"`: `"\u00e9\ud83d\ude00x\u0000\u00e9"`, `{"é": "\""}`: `{"\u00e9": "\""}`, "\"a\xed\xa0\x80\"": `"a\ud800"`, "1": "1",
	} {
		if got := ascii(celeryproto.Raw(text)); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestBind(t *testing.T) {
	t.Parallel()
	const query = "SELECT ? WHERE a IN (?, ?)"
	if got := dialects[PostgreSQL].bind(query); got != "SELECT $1 WHERE a IN ($2, $3)" {
		t.Error(got)
	}
	if got := dialects[SQLite].bind(query); got != query {
		t.Error(got)
	}
}
