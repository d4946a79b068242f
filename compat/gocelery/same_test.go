package gocelery

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	peer "github.com/gocelery/gocelery"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/worker/workertest"
)

// Either package's task is one of the other's, and programs that only call a result need not know whose it is.
var (
	_ CeleryTask      = peer.CeleryTask(nil)
	_ peer.CeleryTask = CeleryTask(nil)
	_                 = []interface {
		AsyncGet() (any, error)
		Ready() (bool, error)
	}{(*AsyncResult)(nil), (*peer.AsyncResult)(nil)}
)

// celsius has a method that encoding/json would call and gocelery does not.
type celsius float64

func (celsius) MarshalText() ([]byte, error) { return []byte("hot"), nil }

// functions are those that gocelery can run, with the kinds of their arguments: int, float, text, bool, list, map, any.
var functions = map[string]struct {
	fn   any
	args string
}{
	"add":     {func(a, b int) int { return a + b }, "int int"},
	"half":    {func(a float64) float64 { return a / 2 }, "float"},
	"narrow":  {func(a float32) float32 { return a }, "float"},
	"greet":   {func(a string) string { return "<hello> " + a }, "text"},
	"not":     {func(a bool) bool { return !a }, "bool"},
	"count":   {func(a []any) int { return len(a) }, "list"},
	"same":    {func(a []any) []any { return a }, "list"},
	"sameMap": {func(a map[string]any) map[string]any { return a }, "map"},
	"wrap":    {func(a any) []any { return []any{a, fmt.Sprintf("%T", a)} }, "any"},
	"types":   {func(a map[string]any) []string { return typesOf(a) }, "map"},
	"nothing": {func() uint8 { return 200 }, ""},
	"two":     {func(a string) (string, int) { return a, 5 }, "text"},
	"named":   {func(a float64) celsius { return celsius(a) }, "float"},
	"bytes":   {func(a string) []byte { return []byte(a) }, "text"},
	"ints":    {func(a int) map[int]string { return map[int]string{a: "x"} }, "int"},
	"one":     {func(a ...any) int { return len(a) }, "any"},
	"error":   {func(a int) (int, error) { return a, nil }, "int"},
}

func typesOf(m map[string]any) []string {
	texts := []string{}
	for key, v := range m {
		if len(m) == 1 {
			texts = append(texts, fmt.Sprintf("%s %T", key, v))
		}
	}
	return texts
}

// kwargsTask returns its arguments.
type kwargsTask struct{ kwargs map[string]any }

func (k *kwargsTask) ParseKwargs(kwargs map[string]any) error {
	if kwargs["refused"] != nil {
		return errors.New("refused")
	}
	k.kwargs = kwargs
	return nil
}

func (k *kwargsTask) RunTask() (any, error) { return k.kwargs, nil }

// TestSameAsGocelery runs functions with random arguments here and in gocelery's worker.
func TestSameAsGocelery(t *testing.T) {
	t.Parallel()
	reference := peer.NewCeleryWorker(nil, nil, 1)
	tasks := map[string]any{"kwargs": &kwargsTask{}}
	for name, f := range functions {
		tasks[name] = f.fn
	}
	for name, task := range tasks {
		reference.Register(name, task)
	}
	ours := bench(t, tasks)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for name, f := range functions {
		for range 50 {
			args := make([]string, 0, 2)
			for _, kind := range strings.Fields(f.args) {
				args = append(args, randomJSON(random, kind, 2))
			}
			text := "[" + strings.Join(args, ",") + "]"
			want := mustRun(t, reference, name, text, "{}")
			got := ours.Task(workertest.Task{Name: name, Args: raws(args...)})
			if got.Err != nil || !equalJSON(t, got.Result, want) {
				t.Errorf("%s%s: %s, %v; gocelery: %s", name, text, got.Result, got.Err, want)
			}
		}
	}
	for range 50 {
		kwargs := randomJSON(random, "map", 3)
		want := mustRun(t, reference, "kwargs", "[]", kwargs)
		got := ours.Task(workertest.Task{Name: "kwargs", Kwargs: celeryproto.Raw(kwargs)})
		if got.Err != nil || !equalJSON(t, got.Result, want) {
			t.Errorf("%s: %s, %v; gocelery: %s", kwargs, got.Result, got.Err, want)
		}
	}
}

// mustRun is the result of gocelery's worker, as it stores it.
func mustRun(t testing.TB, w *peer.CeleryWorker, name, args, kwargs string) []byte {
	t.Helper()
	message := &peer.TaskMessage{ID: "id", Task: name}
	if err := errors.Join(json.Unmarshal([]byte(args), &message.Args), json.Unmarshal([]byte(kwargs), &message.Kwargs)); err != nil {
		t.Fatalf("%s%s%s: %v", name, args, kwargs, err)
	}
	result, err := w.RunTask(message)
	if err != nil {
		t.Fatalf("gocelery: %s%s: %v", name, args, err)
	}
	b, err := json.Marshal(result.Result)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func equalJSON(t testing.TB, a, b []byte) bool {
	t.Helper()
	var v, w any
	if err := errors.Join(json.Unmarshal(a, &v), json.Unmarshal(b, &w)); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(v, w)
}

// randomJSON is a value that gocelery's worker survives: no null, which ends it where it is an argument itself.
func randomJSON(r *rand.Rand, kind string, depth int) string {
	pick := func(texts ...string) string { return texts[r.IntN(len(texts))] }
	switch kind {
	case "int":
		return pick("0", "-7", "3.0", "2.9", "-2.9", "1e3", "-0", "4503599627370496", fmt.Sprint(r.IntN(1e6)))
	case "float":
		return pick("0.5", "-1", "1e-3", "1e30", "123456.789", fmt.Sprint(r.Float64()))
	case "text":
		return pick(`""`, `"a"`, `"ü\n\ud83d\ude00"`, `"\ud800"`, `"<&>\u2028"`, `"null"`)
	case "bool":
		return pick("true", "false")
	case "list":
		texts := make([]string, r.IntN(4))
		for i := range texts {
			texts[i] = randomJSON(r, pick("any", "null"), depth-1)
		}
		return "[" + strings.Join(texts, ", ") + "]"
	case "map":
		texts := make([]string, r.IntN(3))
		for i := range texts {
			texts[i] = randomJSON(r, "text", 0) + ": " + randomJSON(r, pick("any", "null"), depth-1)
		}
		return "{" + strings.Join(texts, ", ") + "}"
	case "null":
		return "null"
	default:
		if depth <= 0 {
			return randomJSON(r, pick("int", "float", "text", "bool"), 0)
		}
		return randomJSON(r, pick("int", "float", "text", "bool", "list", "map"), depth)
	}
}
