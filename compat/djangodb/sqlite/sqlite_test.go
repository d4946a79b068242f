package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"modernc.org/sqlite"

	"github.com/dfws/dfws/compat"
)

func TestSource(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "a b#c?d%.sqlite3")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const rest = "?_pragma=busy_timeout%285000%29&_txlock=immediate"
	escaped := "file:" + dir + "/a%20b%23c%3Fd%25.sqlite3"
	for name, want := range map[string]string{
		path:                               escaped + rest + "&mode=rw",
		escaped + "?mode=ro&cache=private": escaped + rest + "&cache=private&mode=ro",
		"file://" + strings.TrimPrefix(escaped, "file:"): escaped + rest + "&mode=rw",
	} {
		if got, err := source(name, defaultTimeout); err != nil || got != want {
			t.Errorf("%s:\n got %s, %v\nwant %s", name, got, err, want)
		}
	}
	for name, part := range map[string]string{
		":memory:": "in memory", "file::memory:?cache=shared": "in memory", "file:x?mode=memory": "in memory", "": "in memory",
		filepath.Join(dir, "none"): "no such file", "file:%zz": "no URI",
	} {
		if _, err := source(name, time.Second); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Options are obeyed on the connection itself; a locked database is an error that passes.
func TestOpen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.sqlite3")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := compat.Database{Name: path, Options: compat.SecretJSON(`{"timeout": 0.05, "transaction_mode": "DEFERRED",
		"init_command": "PRAGMA synchronous=OFF; PRAGMA cache_size=77;"}`)}
	first, err := open(d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = first.Close() })
	for pragma, want := range map[string]int{"synchronous": 0, "cache_size": 77, "busy_timeout": 50} {
		var got int
		if err := first.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s = %d, %v", pragma, got, err)
		}
	}
	tx, err := first.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := open(d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = second.Close() })
	if _, err := second.BeginTx(t.Context(), nil); err == nil || !transient(err) {
		t.Errorf("locked: %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	_, err = second.ExecContext(t.Context(), "SELECT x FROM nothing")
	if _, ok := errors.AsType[*sqlite.Error](err); !ok || transient(err) || transient(errors.New("x")) {
		t.Errorf("no table: %v", err)
	}
	for options, part := range map[string]string{`{"odd": 1}`: "not supported: odd", `{"timeout": "x"}`: "options.timeout"} {
		if _, err := open(compat.Database{Name: path, Options: compat.SecretJSON(options)}); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v", options, err)
		}
	}
	broken, err := open(compat.Database{Name: path, Options: compat.SecretJSON(`{"init_command": "no SQL"}`)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = broken.Close() })
	if err := broken.PingContext(t.Context()); err == nil || !strings.Contains(err.Error(), "init_command") {
		t.Errorf("bad init_command: %v", err)
	}
}
