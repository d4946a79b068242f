package celeryproto

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// golden is one value that real Celery put into Redis.
type golden struct {
	name    string
	value   []byte
	decoded *struct { // what Python read from the body, where it was recorded
		Body     json.RawMessage `json:"body"`
		BodyText string          `json:"body_text"`
	}
}

type goldenFile struct {
	Redis []struct {
		Key       string          `json:"key"`
		Channel   string          `json:"channel"`
		Type      string          `json:"type"`
		Utf8      string          `json:"value_utf8"`
		B64       string          `json:"value_b64"`
		Decoded   json.RawMessage `json:"decoded"`
		Arguments []struct {
			Utf8 string `json:"arg_utf8"`
		} `json:"args"`
	} `json:"redis"`
}

// mustGoldens returns every recorded value that starts with one of the prefixes.
func mustGoldens(tb testing.TB, prefixes ...string) []golden {
	tb.Helper()
	return mustGoldensIn(tb, "celery", prefixes...)
}

// mustGoldensIn is mustGoldens for another folder of testdata.
func mustGoldensIn(tb testing.TB, folder string, prefixes ...string) []golden {
	tb.Helper()
	files, err := filepath.Glob("testdata/" + folder + "/*.json")
	if err != nil || len(files) == 0 {
		tb.Fatalf("goldens: %v, %d files", err, len(files))
	}
	var found []golden
	for _, path := range files {
		if filepath.Base(path) == "MANIFEST.json" {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		var file goldenFile
		if err := json.Unmarshal(b, &file); err != nil {
			tb.Fatalf("%s: %v", path, err)
		}
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		add := func(i int, value string, decoded json.RawMessage) {
			for _, prefix := range prefixes {
				if !strings.HasPrefix(value, prefix) {
					continue
				}
				g := golden{name: name + "#" + strconv.Itoa(i), value: []byte(value)}
				if decoded != nil {
					if err := json.Unmarshal(decoded, &g.decoded); err != nil {
						tb.Fatalf("%s: %v", path, err)
					}
				}
				found = append(found, g)
			}
		}
		for i, entry := range file.Redis {
			value := entry.Utf8
			if entry.B64 != "" {
				b, err := base64.StdEncoding.DecodeString(entry.B64)
				if err != nil {
					tb.Fatalf("%s: %v", path, err)
				}
				value = string(b)
			}
			add(i, value, entry.Decoded)
			for _, arg := range entry.Arguments {
				add(i, arg.Utf8, nil)
			}
		}
	}
	if len(found) == 0 {
		tb.Fatalf("no goldens with %q", prefixes)
	}
	return found
}

func mustEnvelopes(tb testing.TB) []golden {
	tb.Helper()
	return mustGoldens(tb, `{"body": `)
}

// mustGolden returns the first recorded value of one case.
func mustGolden(tb testing.TB, name, prefix string) []byte {
	tb.Helper()
	for _, g := range mustGoldens(tb, prefix) {
		if strings.HasPrefix(g.name, name+"#") {
			return g.value
		}
	}
	tb.Fatalf("no golden %s with %q", name, prefix)
	return nil
}

// sameJSON compares two texts as values of Python's dialect: the order of keys
// does not count, the text of a number does.
func sameJSON(tb testing.TB, a, b []byte) bool {
	tb.Helper()
	return equalRaw(tb, a, b)
}

func equalRaw(tb testing.TB, a, b Raw) bool {
	tb.Helper()
	if a.Kind() != b.Kind() {
		return false
	}
	switch a.Kind() {
	case KindObject:
		x, y := must(a.Object())(tb).merged(), must(b.Object())(tb).merged()
		if len(x) != len(y) {
			return false
		}
		for _, member := range x {
			other, ok := y.Get(member.Key)
			if !ok || !equalRaw(tb, member.Value, other) {
				return false
			}
		}
		return true
	case KindArray:
		x, y := must(a.Array())(tb), must(b.Array())(tb)
		if len(x) != len(y) {
			return false
		}
		for i := range x {
			if !equalRaw(tb, x[i], y[i]) {
				return false
			}
		}
		return true
	case KindString:
		return must(a.Text())(tb) == must(b.Text())(tb)
	default:
		return strings.TrimSpace(string(a)) == strings.TrimSpace(string(b))
	}
}

// must ends the test on an error: must(f())(t).
func must[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// must4 is must for a function with four results and an error at the end.
func must4[T, U, V any](v T, u U, w V, err error) func(testing.TB) (T, U, V, error) {
	return func(tb testing.TB) (T, U, V, error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v, u, w, err
	}
}
