package djangoresults_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
	"github.com/dfws/dfws/celeryproto/djangoresults"
)

// The row of a chord is that of Python.
func TestChordRows(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		b := s.open(t)
		theirs, ours := newChord(t, s, b), newChord(t, s, b)
		theirs.startPython("a", "b", "c")
		ours.startGo("a", "b", "c")
		for range 2 {
			want, got := theirs.rows(), ours.rows()
			if len(want) != 1 || len(got) != 1 {
				t.Fatalf("%v %v", want, got)
			}
			want[0]["sub_tasks"] = strings.ReplaceAll(want[0]["sub_tasks"].(string), theirs.group, ours.group)
			if diff := cmp.Diff(want[0].shape(), got[0].shape()); diff != "" {
				t.Errorf("Python (-) and Go (+):\n%s", diff)
			}
			theirs.endPython(s, "a", 1)
			ours.endGo("a", "SUCCESS", "1")
		}
	})
}

// Chords that either language starts are completed by the one that ends the last task.
func TestMixedChords(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		b := s.open(t)
		for name, start := range map[string]func(*chordRig, ...string){"Python": (*chordRig).startPython, "Go": (*chordRig).startGo} {
			c := newChord(t, s, b)
			start(c, "a", "b", "c")
			if sent := c.endPython(s, "b", "two"); len(sent) != 0 {
				t.Errorf("%s: early: %v", name, sent)
			}
			if chord := c.endGo("a", "SUCCESS", `{"é": 1}`); chord != nil {
				t.Errorf("%s: early: %v", name, values(chord))
			}
			chord := c.endGo("c", "SUCCESS", "3")
			if got := values(chord); got != `{"\u00e9": 1}, "two", 3` || chord.Complex {
				t.Errorf("%s: %s", name, got)
			}
			c.finish(chord)

			c = newChord(t, s, b)
			start(c, "a", "b")
			c.endGo("a", "SUCCESS", "1")
			if diff := cmp.Diff([]any{[]any{[]any{1., 2.}}}, c.endPython(s, "b", 2)); diff != "" {
				t.Errorf("%s: what Python sent (+):\n%s", name, diff)
			}
			if left := c.rows(); len(left) != 0 {
				t.Errorf("%s: left behind: %v", name, left)
			}
			if chord := c.endGo("a", "SUCCESS", "1"); chord != nil { // its task was run again
				t.Errorf("%s: twice", name)
			}
		}
	})
}

// A group within a header counts as its tasks: in Python it does not, and the body is lost.
func TestNestedChords(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		b := s.open(t)
		c := newChord(t, s, b)
		c.startGo("a", "b+c", "d")
		c.endGo("a", "SUCCESS", "1")
		c.endPython(s, "b", 2)
		if chord := c.endGo("d", "SUCCESS", "4"); chord != nil {
			t.Fatalf("early: %s", values(chord))
		}
		chord := c.endGo("c", "SUCCESS", "3")
		if got := values(chord); got != "1, [2, 3], 4" || !chord.Complex {
			t.Errorf("%s", got)
		}
		c.finish(chord)

		c = newChord(t, s, b) // the counter is too small: Go looks at the results before it believes it
		c.startPython("a", "b+c+d")
		c.endGo("a", "SUCCESS", "1")
		c.endGo("b", "SUCCESS", "2")
		c.endGo("c", "FAILURE", valueError)
		chord = c.endGo("d", "SUCCESS", "4")
		if got := values(chord); got != "1, FAILURE "+valueError || !chord.Plain {
			t.Errorf("%s", got)
		}
		must(t, b.FailChord(t.Context(), chord))
		if left := c.rows(); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}

// Many tasks end at the same time in two Python processes and in Go: each chord's body is sent once.
func TestConcurrentChords(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		b := s.open(t)
		pythons := []*site{s, s.another(t)}
		const chords, tasks = 6, 12
		for range chords {
			c := newChord(t, s, b)
			var names []string
			for i := range tasks {
				names = append(names, fmt.Sprint(i))
			}
			c.startGo(names...)
			var sent atomic.Int64
			var wg sync.WaitGroup
			for i, name := range names {
				wg.Go(func() {
					if python := i % 3; python < len(pythons) {
						var bodies []any
						args := map[string]any{"task_id": c.id(name), "group_id": c.group, "status": "SUCCESS", "result": i}
						if err := pythons[python].request("part", args, &bodies); err != nil {
							t.Errorf("%s in Python: %v", name, err)
						}
						sent.Add(int64(len(bodies)))
						return
					}
					m := &celeryproto.ResultMeta{TaskID: c.id(name), Status: "SUCCESS", Result: raw(name)}
					part := celeryproto.ChordPart{GroupID: c.group, TaskID: m.TaskID, Status: m.Status, Result: m.Result}
					err := b.Store(t.Context(), m)
					var chord *celeryproto.Chord
					if err == nil {
						chord, err = b.ChordPart(t.Context(), part)
					}
					if err == nil && chord != nil {
						sent.Add(1)
						err = b.FinishChord(t.Context(), chord)
					}
					if err != nil {
						t.Errorf("%s in Go: %v", name, err)
					}
				})
			}
			wg.Wait()
			if n, left := sent.Load(), c.rows(); n != 1 || len(left) != 0 {
				t.Fatalf("%d bodies, left behind: %v", n, left)
			}
		}
	})
}

// A part that is counted twice, since its task was run twice, completes nothing early.
func TestPartsTwice(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		b := s.open(t)
		c := newChord(t, s, b)
		c.startGo("a", "b", "c")
		for range 4 {
			if chord := c.endGo("a", "SUCCESS", "1"); chord != nil {
				t.Fatalf("early: %s", values(chord))
			}
		}
		if sent := c.endPython(s, "b", 2); len(sent) != 0 {
			t.Fatalf("early: %v", sent)
		}
		if diff := cmp.Diff([]any{[]any{[]any{1., 2., 3.}}}, c.endPython(s, "c", 3)); diff != "" {
			t.Errorf("what Python sent (+):\n%s", diff)
		}
	})
}

// A claim keeps others off while it lasts. When the process dies, its message is run again, and takes the chord up.
func TestClaims(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		b := s.open(t)
		brief := s.openWith(t, func(o *djangoresults.Options) { o.ChordClaim = time.Second })
		c := newChord(t, s, brief)
		c.startGo("a", "b")
		c.endGo("a", "SUCCESS", "1")
		lost := c.endGo("b", "SUCCESS", "2") // and the process dies
		if lost == nil {
			t.Fatal("not complete")
		}
		again := celeryproto.ChordPart{GroupID: c.group, TaskID: c.id("b"), Status: "SUCCESS", Result: raw("2")}
		_, err := b.ChordPart(t.Context(), again)
		if !errors.Is(err, djangoresults.ErrChordHeld) || !djangoresults.Retryable(err) {
			t.Fatalf("claimed chord: %v", err)
		}
		var chord *celeryproto.Chord
		eventually(t, "the claim ends", func() bool {
			chord, err = b.ChordPart(t.Context(), again)
			return !errors.Is(err, djangoresults.ErrChordHeld)
		})
		if got := values(chord); err != nil || got != "1, 2" || chord.Token == lost.Token {
			t.Fatalf("%s, %v", got, err)
		}
		if ours := must1(brief.RenewChord(t.Context(), lost))(t); ours {
			t.Error("the lost claim was renewed")
		}
		must(t, brief.FinishChord(t.Context(), lost))
		c.backend = b
		c.finish(chord)
		if ours := must1(b.RenewChord(t.Context(), chord))(t); ours {
			t.Error("a finished chord was renewed")
		}

		c = newChord(t, s, b) // Python needs not wait for the claim's end, and reads the list with the claim behind it
		c.startGo("a", "b")
		c.endGo("a", "SUCCESS", "1")
		lost = c.endGo("b", "SUCCESS", "2")
		if diff := cmp.Diff([]any{[]any{[]any{1., 2.}}}, c.endPython(s, "b", 2)); diff != "" {
			t.Errorf("what Python sent (+):\n%s", diff)
		}
		if ours := must1(b.RenewChord(t.Context(), lost))(t); ours {
			t.Error("a chord that Python has completed was renewed")
		}
	})
}

func TestAddToChord(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		b := s.open(t)
		c := newChord(t, s, b)
		c.startGo("a", "b")
		for range 2 { // a lost answer
			must(t, b.AddToChord(t.Context(), c.group, &celeryproto.ResultTree{ID: c.id("c")}))
		}
		for _, name := range []string{"a", "b"} {
			if chord := c.endGo(name, "SUCCESS", "1"); chord != nil {
				t.Fatalf("early: %s", values(chord))
			}
		}
		if diff := cmp.Diff([]any{[]any{[]any{1., 1., 3.}}}, c.endPython(s, "c", 3)); diff != "" {
			t.Errorf("what Python sent (+):\n%s", diff)
		}
		err := b.AddToChord(t.Context(), c.group, &celeryproto.ResultTree{ID: "x"})
		if !errors.Is(err, djangoresults.ErrNoChord) || djangoresults.Retryable(err) {
			t.Errorf("to a chord that is over: %v", err)
		}
	})
}

// A result that has gone between the end of its task and that of the chord makes the body fail, rather than never run.
func TestChordWithoutAResult(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		b := s.open(t)
		brief := s.openWith(t, func(o *djangoresults.Options) { o.ChordClaim = time.Second })
		c := newChord(t, s, brief)
		c.startGo("a", "b")
		c.endGo("a", "SUCCESS", "1")
		c.endGo("b", "SUCCESS", "2")
		must(t, b.Forget(t.Context(), c.id("a")))
		var chord *celeryproto.Chord
		eventually(t, "the claim ends", func() bool {
			var err error
			chord, err = b.ChordPart(t.Context(), celeryproto.ChordPart{GroupID: c.group, TaskID: c.id("b"), Status: "SUCCESS"})
			return err == nil
		})
		if got := values(chord); !strings.HasPrefix(got, `FAILURE {"exc_type": "TimeoutError"`) {
			t.Errorf("%s", got)
		}
	})
}

// What is no list of results is an error, not a panic and not the end of the chord.
func TestBadChordRow(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		b := s.open(t)
		for _, text := range []string{`{}`, `[1]`, `[`, ``, "[]\n"} {
			c := newChord(t, s, b)
			c.startGo("a")
			s.execute(t, "UPDATE django_celery_results_chordcounter SET sub_tasks = '"+text+"' WHERE group_id = '"+c.group+"'")
			chord, err := b.ChordPart(t.Context(), c.storeGo("a", "SUCCESS", "1"))
			if text == "[]\n" { // complete, as all of nothing is
				if err != nil || chord == nil || len(chord.Results) != 0 {
					t.Errorf("%q: %v, %v", text, chord, err)
				}
				continue
			}
			if _, ok := errors.AsType[*celeryproto.DecodeError](err); !ok || djangoresults.Retryable(err) {
				t.Errorf("%q: %v", text, err)
			}
			if len(c.rows()) != 1 {
				t.Errorf("%q: the row is gone", text)
			}
		}
	})
}

// execute runs a statement on the site's database.
func (s *site) execute(t testing.TB, statement string) {
	t.Helper()
	s.openWith(t, func(o *djangoresults.Options) {
		if _, err := o.DB.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	})
}

// The number of tasks whose results make up a header is the size that Celery computes, however the header is composed.
func TestHeaderSizes(t *testing.T) {
	t.Parallel()
	task := func() *canvas.Signature { return canvas.New("t") }
	pair := func() *canvas.Signature { return canvas.Group(task(), task()) }
	chain := func(last *canvas.Signature) *canvas.Signature { return canvas.Chain(task(), last) }
	for name, members := range map[string][]*canvas.Signature{
		"tasks": {task(), task(), task()}, "group": {task(), pair(), task()}, "groups": {pair(), canvas.Group(pair(), task())},
		"chain": {chain(task()), task()}, "chain to group": {chain(pair()), task()}, "chord": {canvas.Chord(pair(), task()), task()},
		"chord with group": {canvas.Chord(pair(), pair()), task()}, "chain to chord": {chain(canvas.Chord(pair(), task())), task()},
		"chord in group": {canvas.Group(canvas.Chord(pair(), task()), task()), chain(chain(pair()))},
	} {
		n := 0
		env := &canvas.Env{NewID: func() string { n++; return fmt.Sprint(n) }}
		plan := must1(canvas.Chord(canvas.Group(members...), canvas.New("body")).Apply(env, canvas.Call{}))(t)
		leaves, sized := map[string]int{}, 0
		for _, step := range plan.Steps {
			switch {
			case step.Chord == nil:
			case step.Chord.Header != nil:
				leaves[step.Chord.GroupID] = len(step.Chord.Header.TaskIDs(nil))
			default:
				sized++
				if got, ok := leaves[step.Chord.GroupID]; !ok || got != step.Chord.Size {
					t.Errorf("%s: %d results for a size of %d", name, got, step.Chord.Size)
				}
			}
		}
		if sized == 0 {
			t.Errorf("%s: no size", name)
		}
	}
}
