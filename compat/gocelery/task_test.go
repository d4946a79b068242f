package gocelery

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/dfws/dfws/worker"
	"github.com/dfws/dfws/worker/workertest"
)

// What gocelery drops, or ends its process with, is a failure that whoever waits is told of.
func TestFailures(t *testing.T) {
	t.Parallel()
	b := bench(t, map[string]any{
		"add":    func(a, b int) int { return a + b },
		"sum":    func(first int, rest ...int) int { return first + len(rest) },
		"fails":  func() (int, error) { return 1, errors.New("no luck") },
		"error":  func() error { return errors.New("no luck") },
		"named":  func() error { return &worker.Exception{Type: "KeyError", Args: []any{"k"}} },
		"panics": func(m map[string]any) int { return len(m["x"].(string)) },
		"nan":    func() float64 { return math.NaN() },
		"chan":   func() any { return make(chan int) },
		"kwargs": &kwargsTask{},
	})
	for _, c := range []struct {
		name, args, kwargs string
		class, text        string
	}{
		{"add", "1", "", "TypeError", "1 positional arguments, want 2"},
		{"add", "1 2 3", "", "TypeError", "3 positional arguments, want 2"},
		{"add", "", `{"a": 1, "b": 2}`, "TypeError", "0 positional arguments and 2 keyword arguments, which are for a CeleryTask, want 2"},
		{"add", `1 "x"`, "", "TypeError", "argument 2: string, want int"},
		{"add", "1 null", "", "TypeError", "argument 2: null, want int"},
		{"sum", "", "", "TypeError", "0 positional arguments, want 1"},
		{"sum", "1 2 []", "", "TypeError", "argument 3: array, want int"},
		{"fails", "", "", "", "no luck"},
		{"error", "", "", "", "no luck"},
		{"named", "", "", "KeyError", "k"},
		{"panics", `{"x":5}`, "", "", "interface conversion"},
		{"nan", "", "", "EncodeError", "NaN"},
		{"chan", "", "", "EncodeError", "chan int"},
		{"kwargs", "", `{"refused": 1}`, "", "refused"},
	} {
		task := workertest.Task{Name: c.name, Args: raws(strings.Fields(c.args)...)}
		if c.kwargs != "" {
			task.Kwargs = raws(c.kwargs)[0]
		}
		out := b.Task(task)
		if out.Report.Outcome != worker.Failed || !strings.Contains(out.Err.Error(), c.text) {
			t.Errorf("%s(%s%s): %s, %v", c.name, c.args, c.kwargs, out.Report.Outcome, out.Err)
			continue
		}
		if named, ok := errors.AsType[*worker.Exception](out.Err); c.class != "" && (!ok || named.Type != c.class) {
			t.Errorf("%s: %v, want a %s", c.name, out.Err, c.class)
		}
	}
}

func TestResults(t *testing.T) {
	t.Parallel()
	type person struct {
		Name string `json:"name"`
	}
	b := bench(t, map[string]any{
		"void":    func() {},
		"ok":      func() error { return nil },
		"struct":  func() (person, error) { return person{"Ada"}, nil },
		"pointer": func() *person { return &person{"Ada"} },
		"any":     func(v any) any { return v },
		"sum":     func(n ...int) int { return len(n) },
		"kwargs":  &kwargsTask{},
		"made":    func() CeleryTask { return &kwargsTask{} },
	})
	for _, c := range []struct{ name, args, kwargs, want string }{
		{"void", "", "", "null"}, {"ok", "", "", "null"}, {"struct", "", "", `{"name":"Ada"}`}, {"pointer", "", "", `{"name":"Ada"}`},
		{"any", "[1]", "", "[1]"}, {"any", "null", "", "null"}, {"sum", "", "", "0"}, {"sum", "1 2 3", "", "3"},
		{"void", "", `{"a": 1}`, "null"}, // what gocelery does not look at stays unlooked at
		{"kwargs", "1 2", `{"a": 1}`, `{"a":1}`}, {"made", "", `{"a": "x"}`, `{"a":"x"}`}, {"kwargs", "", "", "{}"},
	} {
		task := workertest.Task{Name: c.name, Args: raws(strings.Fields(c.args)...)}
		if c.kwargs != "" {
			task.Kwargs = raws(c.kwargs)[0]
		}
		if out := b.Task(task); out.Err != nil || out.Result.String() != c.want {
			t.Errorf("%s(%s%s): %s, %v", c.name, c.args, c.kwargs, out.Result, out.Err)
		}
	}
}

func TestRegisterPanics(t *testing.T) {
	t.Parallel()
	c := mustNew(t, Config{})
	var function func()
	var task *kwargsTask
	var factory func() CeleryTask
	for fact, register := range map[string]func(){
		"no name":              func() { c.Register("", func() {}) },
		"a <nil>, want":        func() { c.Register("x", nil) },
		"a int, want":          func() { c.Register("x", 5) },
		"a func(), want":       func() { c.Register("x", function) },
		"a nil *gocelery.":     func() { c.Register("x", task) },
		"a nil func() gocel":   func() { c.Register("x", factory) },
		"parameter 2":          func() { c.Register("x", func(int, chan int) {}) },
		"parameter 1":          func() { c.Register("x", func(...error) {}) },
		"is a context.Context": func() { c.Register("x", func(context.Context) {}) },
	} {
		func() {
			defer func() {
				if text, _ := recover().(string); !strings.Contains(text, fact) {
					t.Errorf("%q, want %q in it", text, fact)
				}
			}()
			register()
		}()
	}
}
