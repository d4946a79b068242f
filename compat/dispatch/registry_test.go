package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const goldenEntry = `{"schema": 1, "publisher": "python", "language": "python", "app": "project", "digest": "ab", "published_at": 1764000000.5, "host": "h", "pid": 1,
	"default_queue": "celery", "signals": {
		"s": [{"handler": "project.f", "queue": "celery", "dynamic": false, "queues": ["celery"], "allow": "everyone",
			"arguments": {"required": ["a"], "optional": ["b"], "any": false}}],
		"d": [{"handler": "project.g", "queue": null, "dynamic": true, "queues": ["fast-0", "fast-1"], "allow": "has_perm:a.b", "later": 5}]}}`

func TestDecodeEntry(t *testing.T) {
	t.Parallel()
	e, err := DecodeEntry("python", []byte(goldenEntry))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]Handler{
		"s": {{Handler: "project.f", Queue: "celery", Queues: []string{"celery"}, Allow: "everyone", Publisher: "python", Language: "python",
			Arguments: &Arguments{Required: []string{"a"}, Optional: []string{"b"}}}},
		"d": {{Handler: "project.g", Dynamic: true, Queues: []string{"fast-0", "fast-1"}, Allow: "has_perm:a.b", Publisher: "python", Language: "python"}},
	}
	if diff := cmp.Diff(want, e.Signals); diff != "" {
		t.Error(diff)
	}
	if e.DefaultQueue != "celery" || e.PublishedAt != 1764000000.5 {
		t.Errorf("%+v", e)
	}
	encoded, err := e.encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := DecodeEntry("python", encoded)
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Digest) != 64 {
		t.Errorf("digest %q", again.Digest)
	}
	again.Digest = e.Digest
	if diff := cmp.Diff(e, again); diff != "" {
		t.Error(diff)
	}
}

func TestEntryOnTheWire(t *testing.T) {
	t.Parallel()
	encoded, err := golang("demo", map[string][]Handler{"s": {{Handler: "f", Queue: "go", Allow: "everyone"}}, "d": {dynamic()}}).encode()
	if err != nil {
		t.Fatal(err)
	}
	var wire map[string]any
	if err := json.Unmarshal(encoded, &wire); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"s": []any{map[string]any{"handler": "f", "queue": "go", "dynamic": false, "queues": []any{"go"}, "allow": "everyone"}},
		"d": []any{map[string]any{"handler": "dyn", "queue": nil, "dynamic": true, "queues": []any{}, "allow": "everyone"}},
	}
	if diff := cmp.Diff(any(want), wire["signals"]); diff != "" {
		t.Error(diff)
	}
	if wire["schema"] != 1.0 || wire["publisher"] != "go:demo" || wire["language"] != "go" {
		t.Errorf("%v", wire)
	}
}

// TestDigest: Python computes the same one; this is from json.dumps(signals, sort_keys=True, separators=(",", ":")).
func TestDigest(t *testing.T) {
	t.Parallel()
	got, err := digest(map[string][]Handler{"\u00e9<&>": {on("go")}, "d": {{Handler: "g", Dynamic: true, Allow: "custom", Arguments: &Arguments{Any: true, Required: []string{"a"}}}}})
	if err != nil || got != "4bef8aa383986f5ebda90792494548ffc643de4d5a4b94d7e6e53226dfd45d98" {
		t.Errorf("%s, %v", got, err)
	}
}

func TestDecodeEntryRefuses(t *testing.T) {
	t.Parallel()
	for text, part := range map[string]string{
		``: "unexpected end", `[]`: "array", `{}`: "schema 0", `{"schema": 2}`: "schema 2 is not supported",
		strings.Replace(goldenEntry, `"language": "python"`, `"language": "go"`, 1):        "does not fit the language",
		strings.Replace(goldenEntry, `"language": "python"`, `"language": "rust"`, 1):      "not known",
		strings.Replace(goldenEntry, `"queue": "celery", "dyn`, `"queue": null, "dyn`, 1):  `"project.f" has no queue`,
		strings.Replace(goldenEntry, `"queue": "celery", "dyn`, `"queue": ["a"], "dyn`, 1): "array",
		strings.Replace(goldenEntry, `"signals": {`, `"signals": {"x": 5, `, 1):            "number",
	} {
		_, err := DecodeEntry("python", []byte(text))
		if entryErr, ok := errors.AsType[*EntryError](err); !ok || entryErr.Publisher != "python" || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v, want %q in it", text, err, part)
		}
	}
	if _, err := DecodeEntry("go:x", []byte(`{"schema": 1, "language": "go"}`)); err == nil || !strings.Contains(err.Error(), "default_queue") {
		t.Error(err)
	}
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	r := NewRegistry(RegistryConfig{})
	if r.Ready() || r.HasPython() || r.Lookup("both") != nil {
		t.Error("a new registry knows something")
	}
	r.Set(site()...)
	if !r.Ready() || !r.HasPython() {
		t.Error("not ready")
	}
	var where []string
	for _, h := range r.Lookup("both") {
		where = append(where, h.where()+" "+h.Language)
	}
	if diff := cmp.Diff([]string{"f_celery (python) python", "f_go (go:demo) go"}, where); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"both", "dyn", "go.internal", "go.only", "internal", "mixed", "py"}, r.Signals()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"celery", "fast-0", "fast-1", "slow", "x"}, r.PythonOnlyQueues()); diff != "" {
		t.Error(diff)
	}
	if entries := r.Entries(); len(entries) != 2 || entries[0].Publisher != "python" {
		t.Errorf("%v", entries)
	}
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	r := NewRegistry(RegistryConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	r.Set(site()...)
	good := golang("second", map[string][]Handler{"py": {on("go")}, "both": {on("go")}, "dyn": {on("go")}})
	if err := r.CheckConflicts(good); err != nil {
		t.Error(err)
	}
	bad := golang("second", map[string][]Handler{"py": {on("celery")}, "dyn": {on("fast-1"), on("go")}, "new": {on("celery")}})
	err := r.CheckConflicts(bad)
	if err == nil {
		t.Fatal("accepted")
	}
	want := []ConflictError{
		{Signal: "dyn", Queue: "fast-1", Handlers: [2]string{"dyn (python)", "f_fast-1 (go:second)"}},
		{Signal: "py", Queue: "celery", Handlers: [2]string{"f_celery (python)", "f_celery (go:second)"}},
	}
	var got []ConflictError
	for _, err := range err.(interface{ Unwrap() []error }).Unwrap() {
		conflict, ok := errors.AsType[*ConflictError](err)
		if !ok {
			t.Fatal(err)
		}
		got = append(got, *conflict)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(err.Error(), "f_celery (python)") || !strings.Contains(err.Error(), "f_celery (go:second)") {
		t.Error(err)
	}
	for range 2 { // said once, although it lasts
		r.Set(append(site(), bad)...)
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 2 {
		t.Errorf("%d errors in\n%s", n, log.String())
	}
	if err := r.CheckConflicts(good); err != nil {
		t.Errorf("the new entry of the same application replaces the old one: %v", err)
	}
}

func TestRegistryWithoutStore(t *testing.T) {
	t.Parallel()
	r := NewRegistry(RegistryConfig{})
	if r.Refresh(context.Background()) == nil || r.Run(context.Background()) == nil {
		t.Error("no error without a store")
	}
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add([]byte(goldenEntry))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeEntry("python", b)
		if err != nil {
			return
		}
		encoded, err := e.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeEntry("python", encoded); err != nil {
			t.Fatalf("%s: %v", encoded, err)
		}
	})
}
