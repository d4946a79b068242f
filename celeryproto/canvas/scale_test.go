package canvas_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
)

// allocated is how many bytes a function allocates.
func allocated(t testing.TB, run func() error) float64 {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := run()
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	return float64(after.TotalAlloc - before.TotalAlloc)
}

func manyOf(n int, sig func(i int) *canvas.Signature) []*canvas.Signature {
	all := make([]*canvas.Signature, n)
	for i := range all {
		all[i] = sig(i)
	}
	return all
}

func call(i int) *canvas.Signature { return canvas.New("t.a", i) }

// jsonOf is a composition as it comes from the wire.
func jsonOf(t testing.TB, s *canvas.Signature) celeryproto.Raw {
	t.Helper()
	r, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// requestWith is a task with something that follows it.
func requestWith(t testing.TB, embed celeryproto.Embed) *celeryproto.Task {
	t.Helper()
	task, err := celeryproto.NewTask("t.run", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	task.Embed = embed
	return task
}

// TestLinear measures that ten times the tasks take about ten times the memory, and so the time, in every step. It is not
// parallel: others would allocate too.
func TestLinear(t *testing.T) {
	env := &canvas.Env{}
	apply := func(s *canvas.Signature) error {
		_, err := s.Apply(env, canvas.Call{})
		return err
	}
	steps := func(n int) celeryproto.Raw {
		texts := make([]string, n)
		for i := range texts {
			texts[i] = fmt.Sprintf(`{"task": "t.a", "args": [], "kwargs": {}, "options": {"task_id": "%d"}}`, i)
		}
		return celeryproto.Raw("[" + strings.Join(texts, ", ") + "]")
	}
	result := celeryproto.Raw("1")
	for name, run := range map[string]func(n int) func() error{
		"build a chain": func(n int) func() error {
			tasks := manyOf(n, call)
			return func() error { return canvas.Chain(tasks...).Err() }
		},
		"apply a chain": func(n int) func() error {
			s := canvas.Chain(manyOf(n, call)...)
			return func() error { return apply(s) }
		},
		"decode and apply a chain": func(n int) func() error {
			r := jsonOf(t, canvas.Chain(manyOf(n, call)...))
			return func() error {
				s, err := canvas.Decode(r)
				return errors.Join(err, apply(s))
			}
		},
		"message of a chain": func(n int) func() error {
			plan, err := canvas.Chain(manyOf(n, call)...).Apply(env, canvas.Call{})
			if err != nil {
				t.Fatal(err)
			}
			return func() error {
				_, err := plan.Steps[0].Send.Message(canvas.Defaults{Now: time.Unix(1e9, 0)})
				return err
			}
		},
		"next step of a chain": func(n int) func() error {
			req := requestWith(t, celeryproto.Embed{Chain: steps(n)})
			return func() error {
				_, err := canvas.OnSuccess(env, req, result)
				return err
			}
		},
		"failure of a chain": func(n int) func() error {
			req := requestWith(t, celeryproto.Embed{Chain: steps(n)})
			return func() error {
				_, err := canvas.OnFailure(env, req, celeryproto.Raw(`{"exc_type": "E"}`), nil)
				return err
			}
		},
		"callbacks": func(n int) func() error {
			req := requestWith(t, celeryproto.Embed{Callbacks: steps(n)})
			return func() error {
				_, err := canvas.OnSuccess(env, req, result)
				return err
			}
		},
		"apply a group": func(n int) func() error {
			s := canvas.Group(manyOf(n, call)...)
			return func() error { return apply(s) }
		},
		"decode and apply a chord": func(n int) func() error {
			r := jsonOf(t, canvas.Chord(canvas.Group(manyOf(n, call)...), call(1)))
			return func() error {
				s, err := canvas.Decode(r)
				return errors.Join(err, apply(s))
			}
		},
		"chord of chains": func(n int) func() error {
			s := canvas.Chord(canvas.Group(manyOf(n, func(i int) *canvas.Signature { return canvas.Chain(call(i), call(i)) })...), call(1))
			return func() error { return apply(s) }
		},
		"chord with a long body": func(n int) func() error {
			s := canvas.Chord(canvas.Group(call(1), call(2)), canvas.Chain(manyOf(n, call)...))
			return func() error { return apply(s) }
		},
		"chain of chords": func(n int) func() error {
			s := canvas.Chain(manyOf(n, func(i int) *canvas.Signature { return canvas.Chord(canvas.Group(call(i), call(i)), call(i)) })...)
			return func() error { return apply(s) }
		},
		"group of groups": func(n int) func() error {
			s := canvas.Group(manyOf(n, func(i int) *canvas.Signature { return canvas.Group(call(i), call(i)) })...)
			return func() error { return apply(s) }
		},
		"chain with errbacks": func(n int) func() error {
			s := canvas.Chain(call(1), call(2))
			for i := range n {
				s.LinkError(call(i))
			}
			return func() error { return apply(s) }
		},
		"stamp a chain": func(n int) func() error {
			s := canvas.Chain(manyOf(n, call)...)
			return func() error { return s.Stamp(nil, false, map[string]any{"x": 1}).Err() }
		},
		"chunks": func(n int) func() error {
			s := canvas.Chunks(call(1), make([]int, n), 1)
			return func() error { return apply(s) }
		},
		"options": func(n int) func() error {
			s := canvas.New("t.a")
			names := make([]string, n)
			for i := range names {
				names[i] = fmt.Sprint("stamp", i)
				s.Set(names[i], i)
			}
			s.Set("stamped_headers", names)
			plan, err := s.Apply(env, canvas.Call{})
			if err != nil {
				t.Fatal(err)
			}
			return func() error {
				_, err := plan.Steps[0].Send.Message(canvas.Defaults{Now: time.Unix(1e9, 0)})
				return err
			}
		},
	} {
		few, many := allocated(t, run(500)), allocated(t, run(5000))
		if ratio := many / few; ratio > 15 {
			t.Errorf("%s: ten times as much takes %.1f times the memory (%.0f bytes each)", name, ratio, many/5000)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	deep := call(1)
	for range canvas.DefaultMaxDepth + 1 {
		deep = canvas.Group(deep, call(2))
	}
	wide := canvas.Group(manyOf(20, call)...)
	large := canvas.Chain(call(1), canvas.New("t.b", strings.Repeat("x", 5000)))
	for _, test := range []struct {
		sig  *canvas.Signature
		lim  canvas.Limits
		want error
	}{
		{deep, canvas.Limits{}, canvas.ErrTooDeep},
		{deep, canvas.Limits{MaxDepth: 2 * canvas.DefaultMaxDepth}, nil},
		{wide, canvas.Limits{MaxMessages: 19}, canvas.ErrTooManyMessages},
		{wide, canvas.Limits{MaxMessages: 20}, nil},
		{large, canvas.Limits{MaxBytes: 5000}, canvas.ErrTooLarge},
		{large, canvas.Limits{MaxBytes: 10000}, nil},
	} {
		env := &canvas.Env{Limits: test.lim}
		if _, err := test.sig.Apply(env, canvas.Call{}); !errors.Is(err, test.want) {
			t.Errorf("apply with %+v: %v, want %v", test.lim, err, test.want)
		}
		if test.want == canvas.ErrTooDeep {
			if _, err := test.sig.Freeze(env, canvas.FreezeOptions{}); !errors.Is(err, test.want) {
				t.Errorf("freeze with %+v: %v, want %v", test.lim, err, test.want)
			}
		}
	}
}

// What contains itself is an error, and no endless loop.
func TestCircles(t *testing.T) {
	t.Parallel()
	a, b := canvas.New("t.a"), canvas.New("t.b")
	a.Link(b)
	b.Link(a)
	if _, err := a.Encode(); !errors.Is(err, canvas.ErrTooDeep) {
		t.Errorf("encode: %v", err)
	}
	if _, err := a.Apply(nil, canvas.Call{}); !errors.Is(err, canvas.ErrTooDeep) {
		t.Errorf("apply: %v", err)
	}
	if _, err := canvas.Chain(a, b).Apply(nil, canvas.Call{}); !errors.Is(err, canvas.ErrTooDeep) {
		t.Errorf("apply a chain: %v", err)
	}
	if n := len(a.FlattenLinks()); n == 0 || !errors.Is(a.Err(), canvas.ErrTooDeep) && !errors.Is(b.Err(), canvas.ErrTooDeep) {
		t.Errorf("%d links, %v", n, a.Err())
	}
	c := canvas.New("t.c")
	c.Link(c).LinkError(c)
	if c.Clone(); c.Err() != nil {
		t.Errorf("clone: %v", c.Err())
	}
	if err := c.Stamp(nil, false, map[string]any{"x": 1}).Err(); !errors.Is(err, canvas.ErrTooDeep) {
		t.Errorf("stamp: %v", err)
	}
}
