package canvas_test

import (
	"errors"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
)

func encoded(t testing.TB, s *canvas.Signature) string {
	t.Helper()
	r, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return r.String()
}

func TestBuild(t *testing.T) {
	t.Parallel()
	a := func() *canvas.Signature { return canvas.New("t.a", 1, "x").WithKwargs(map[string]any{"k": nil}) }
	const one = `{"task": "t.a", "args": [1, "x"], "kwargs": {"k": null}, "options": {}, "subtask_type": null, "immutable": false}`
	for _, test := range []struct {
		sig  *canvas.Signature
		want string
	}{
		{a(), one},
		{canvas.New("t.a"), `{"task": "t.a", "args": [], "kwargs": {}, "options": {}, "subtask_type": null, "immutable": false}`},
		{
			canvas.New("t.a").Set("queue", "q").Set("immutable", true).Set("countdown", 1.5),
			`{"task": "t.a", "args": [], "kwargs": {}, "options": {"queue": "q", "countdown": 1.5}, "subtask_type": null, "immutable": true}`,
		},
		{
			canvas.New("t.a").Link(canvas.New("t.b")),
			`{"task": "t.a", "args": [], "kwargs": {}, "options": {"link": [{"task": "t.b", "args": [], "kwargs": {}, "options": {}, ` +
				`"subtask_type": null, "immutable": false}]}, "subtask_type": null, "immutable": false}`,
		},
		{
			canvas.Chain(a()), `{"task": "celery.chain", "args": [], "kwargs": {"tasks": [` + one + `]}, "options": {}, "subtask_type": "chain", "immutable": false}`,
		},
		{
			canvas.Group(a(), a()),
			`{"task": "celery.group", "args": [], "kwargs": {"tasks": [` + one + ", " + one + `]}, "options": {}, "subtask_type": "group", "immutable": false}`,
		},
		{
			canvas.Chord(canvas.Group(a()), a()),
			`{"task": "celery.chord", "args": [], "kwargs": {"kwargs": {}, "header": [` + one + `], "body": ` + one + `}, "options": {}, "subtask_type": "chord", "immutable": false}`,
		},
		{
			canvas.New("t.m", a()), // a signature as an argument
			`{"task": "t.m", "args": [` + one + `], "kwargs": {}, "options": {}, "subtask_type": null, "immutable": false}`,
		},
		{
			canvas.New("t.a", 2).Partial(1), `{"task": "t.a", "args": [1, 2], "kwargs": {}, "options": {}, "subtask_type": null, "immutable": false}`,
		},
	} {
		if got := encoded(t, test.sig); got != test.want {
			t.Errorf("got\n%s\nwant\n%s", got, test.want)
		}
	}
}

func TestAccessors(t *testing.T) {
	t.Parallel()
	chord := canvas.Chord(canvas.Group(canvas.New("t.a"), canvas.New("t.b")), canvas.New("t.c").Set("task_id", "c"))
	if chord.Kind() != canvas.KindChord || chord.Task() != canvas.TaskChord || chord.Body().Task() != "t.c" || chord.Body().ID() != "c" {
		t.Errorf("%v %s %v", chord.Kind(), chord.Task(), chord.Body())
	}
	tasks := chord.Tasks()
	if len(tasks) != 2 || tasks[1].Task() != "t.b" || tasks[0].Body() != nil {
		t.Errorf("%v", tasks)
	}
	tasks[0].Set("queue", "q") // the signature's own
	if got, ok := chord.Tasks()[0].Option("queue"); !ok || got.String() != `"q"` {
		t.Errorf("%s, %v", got, ok)
	}
	if _, ok := chord.Option("queue"); ok || chord.IsImmutable() || canvas.New("t.a").Tasks() == nil || chord.Err() != nil {
		t.Error("an option that is not set")
	}
	if got := chord.Immutable(true).Tasks(); !got[0].IsImmutable() || !got[1].IsImmutable() || chord.IsImmutable() {
		t.Error("immutable is said of a chord's header")
	}
	for kind, name := range map[canvas.Kind]string{canvas.KindTask: "task", canvas.KindChunks: "chunks"} {
		if kind.String() != name {
			t.Errorf("%s, want %s", kind, name)
		}
	}
	linked := canvas.New("t.a").Link(canvas.New("t.b").Link(canvas.New("t.c"))).Link(canvas.New("t.d"))
	var names []string
	for _, s := range linked.FlattenLinks() {
		names = append(names, s.Task())
	}
	if got := strings.Join(names, " "); got != "t.a t.b t.c t.d" {
		t.Errorf("links %s", got)
	}
	group := canvas.Group(canvas.New("t.a"), canvas.New("t.b"), canvas.New("t.c"), canvas.New("t.d")).Skew(1, 2, 0.5)
	for i, want := range []string{"1.0", "1.5", "2.0", "2.0"} {
		if got, _ := group.Tasks()[i].Option("countdown"); got.String() != want {
			t.Errorf("task %d starts after %s, want %s", i, got, want)
		}
	}
}

// What came from the wire and was not changed keeps its text, what is not known included.
func TestDecodeKeeps(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{"immutable": false, "task": "t.a", "options": {"x-custom": 1e400, "link": [{"task": "t.b","args":[1.0]}]}, "args": [12345678901234567890123], "kwargs": {"z": 1, "a": NaN}, "subtask_type": null, "chord_size": 3}`,
		`{"task": "t.a"}`,
		`{"task": "celery.chain", "args": [], "kwargs": {"tasks": [{"task": "t.a", "more": 1}]}, "options": {"y": 1, "x": 2}, "subtask_type": "chain", "immutable": false}`,
	} {
		s, err := canvas.Decode(celeryproto.Raw(text))
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if got := encoded(t, s); got != text {
			t.Errorf("got\n%s\nwant\n%s", got, text)
		}
	}
	// A composition keeps what its class keeps, and a chord takes the rest for options.
	s, err := canvas.Decode(celeryproto.Raw(`{"subtask_type": "chord", "task": "celery.chord", "kwargs": {"header": [{"task": "a"}], "body": {"task": "b"}}, "options": {}, "more": 5}`))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := s.Option("more"); got.String() != "5" {
		t.Errorf("%s", encoded(t, s))
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`5`:                                    "not a signature",
		`{}`:                                   "not a signature",
		`{"task": 5}`:                          "not a signature",
		`{"task": "a", "args": {}}`:            "args: expected array, got object",
		`{"task": "a", "kwargs": []}`:          "kwargs: expected object, got array",
		`{"task": "a", "options": 1}`:          "options: expected object, got number",
		`{"task": "a"`:                         "json",
		`{"task": "a", "args": [}`:             "json",
		strings.Repeat("[", 1000):              "nested too deeply",
		`{"task": "a", "subtask_type": "xyz"}`: "unknown subtask_type",
		`{"task": "celery.chain", "subtask_type": "chain"}`:               "without a list of tasks",
		`{"task": "c", "subtask_type": "group", "kwargs": {"tasks": 1}}`:  "without a list of tasks",
		`{"task": "c", "subtask_type": "chord", "kwargs": {"header": 1}}`: "without a list of tasks",
	} {
		if _, err := canvas.Decode(celeryproto.Raw(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", text, err, want)
		}
	}
	// A fault inside is found when it is needed.
	for _, text := range []string{
		`{"task": "c", "subtask_type": "group", "kwargs": {"tasks": [1]}}`,
		`{"task": "c", "subtask_type": "chain", "kwargs": {"tasks": [{"task": "a"}, null]}}`,
		`{"task": "c", "subtask_type": "chord", "kwargs": {"kwargs": {}, "header": [{"task": "a"}], "body": 7}}`,
		`{"task": "c", "subtask_type": "chord", "kwargs": {"kwargs": {}, "header": [{"task": "a"}]}}`,
		`{"task": "c", "subtask_type": "chunks", "kwargs": {"task": {"task": "a"}, "it": [1], "n": 0}}`,
		`{"task": "a", "options": {"task_id": 5}}`,
		`{"task": "c", "subtask_type": "group", "kwargs": {"tasks": [{"task": "a"}]}, "options": {"link": [{"task": "b"}]}, "immutable": false}`,
	} {
		s, err := canvas.Decode(celeryproto.Raw(text))
		if err != nil {
			continue
		}
		call := canvas.Call{Options: celeryproto.Members{{Key: "link", Value: celeryproto.Raw(`[{"task": "b"}]`)}}}
		if s.Kind() != canvas.KindGroup {
			call = canvas.Call{}
		}
		if _, err := s.Apply(nil, call); err == nil {
			t.Errorf("applied %s", text)
		}
	}
}

// A fault of what is built is kept, and returned in the end.
func TestBuildFaults(t *testing.T) {
	t.Parallel()
	fine := func() *canvas.Signature { return canvas.New("t.a") }
	for name, s := range map[string]*canvas.Signature{
		"arguments":        canvas.New("t.a", func() {}),
		"kwargs":           fine().WithKwargs([]int{1}),
		"kwargs value":     fine().WithKwargs(map[string]any{"f": math.Inf}),
		"option":           fine().Set("queue", make(chan int)),
		"immutable":        fine().Set("immutable", 1),
		"elements":         canvas.Map(fine(), 5),
		"chunks":           canvas.Chunks(fine(), []int{1}, 0),
		"partial":          fine().Partial(func() {}),
		"link to nothing":  canvas.Group().Link(fine()),
		"no body":          canvas.Chord(canvas.Group(fine()), nil).Link(fine()),
		"no body, errback": canvas.Chord(canvas.Group(fine()), nil).LinkError(fine()),
		"no body, then":    canvas.Chord(canvas.Group(fine()), nil).Then(fine()),
		"stamps":           fine().Stamp(nil, false, map[string]any{"x": func() {}}),
		"in a chain":       canvas.Chain(fine(), canvas.New("t.b", func() {})),
		"in a group":       canvas.Group(fine(), canvas.New("t.b", func() {})),
		"in a link":        fine().Link(canvas.New("t.b", func() {})),
		"in a body":        canvas.Chord(canvas.Group(fine()), canvas.New("t.b", func() {})),
		"then":             fine().Then(canvas.New("t.b", func() {})),
		"inner chain":      canvas.Chain(fine(), canvas.Chain(fine(), canvas.Chain().Link(fine()))),
	} {
		if _, err := s.Apply(nil, canvas.Call{}); err == nil {
			t.Errorf("%s: applied", name)
		}
	}
	if _, err := canvas.New("t.a", func() {}).Encode(); err == nil {
		t.Error("encoded a signature with a fault")
	}
}

func TestApplyErrors(t *testing.T) {
	t.Parallel()
	group := canvas.Group(canvas.New("t.a"), canvas.New("t.b"))
	link := celeryproto.Members{{Key: "link", Value: celeryproto.Raw(`{"task": "t.b"}`)}}
	if _, err := group.Apply(nil, canvas.Call{Options: link}); !errors.Is(err, canvas.ErrGroupLink) {
		t.Errorf("%v", err)
	}
	if _, err := canvas.Chain().Freeze(nil, canvas.FreezeOptions{}); !errors.Is(err, canvas.ErrEmptyChain) {
		t.Errorf("%v", err)
	}
	plan, err := canvas.Chain().Apply(nil, canvas.Call{})
	if err != nil || plan.Result != nil || len(plan.Steps) != 0 {
		t.Errorf("empty chain: %+v, %v", plan, err)
	}
	plan, err = canvas.Group().Apply(nil, canvas.Call{})
	if err != nil || !plan.Result.IsGroup || len(plan.Steps) != 0 {
		t.Errorf("empty group: %+v, %v", plan, err)
	}
	req := requestWith(t, celeryproto.Embed{})
	if _, _, err := canvas.AddToChord(nil, req, canvas.New("t.a")); !errors.Is(err, canvas.ErrNoChord) {
		t.Errorf("%v", err)
	}
	if _, err := canvas.Replace(nil, req, canvas.New("t.a").Set("chord", nil)); !errors.Is(err, canvas.ErrInChord) {
		t.Errorf("%v", err)
	}
	if _, err := canvas.Replace(nil, req, canvas.Chain()); !errors.Is(err, canvas.ErrEmptyChain) {
		t.Errorf("%v", err)
	}
	for _, embed := range []celeryproto.Embed{
		{Callbacks: celeryproto.Raw(`{}`)}, {Callbacks: celeryproto.Raw(`[1]`)}, {Chain: celeryproto.Raw(`5`)}, {Chain: celeryproto.Raw(`[[]]`)},
	} {
		if _, err := canvas.OnSuccess(nil, requestWith(t, embed), nil); err == nil {
			t.Errorf("%+v: no error", embed)
		}
	}
	if _, err := canvas.OnFailure(nil, requestWith(t, celeryproto.Embed{Errbacks: celeryproto.Raw(`[5]`)}), nil, nil); err == nil {
		t.Error("errback 5")
	}
}

// A signature is a template: it can be applied by many at a time, and stays as it is.
func TestApplyTogether(t *testing.T) {
	t.Parallel()
	decoded, err := canvas.Decode(jsonOf(t, canvas.Chain(canvas.New("t.a"), canvas.Group(canvas.New("t.b"), canvas.New("t.c")), canvas.New("t.d"))))
	if err != nil {
		t.Fatal(err)
	}
	shared := canvas.Chord(canvas.Group(decoded, canvas.New("t.a").Link(decoded)), decoded)
	before := encoded(t, shared)
	ids := make(chan string, 8*16)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			plan, err := shared.Apply(nil, canvas.Call{Args: []celeryproto.Raw{celeryproto.Raw("1")}})
			if err != nil {
				t.Error(err)
				return
			}
			for _, step := range plan.Steps {
				if step.Send != nil {
					ids <- step.Send.ID()
				}
			}
		})
	}
	wg.Wait()
	close(ids)
	seen := map[string]bool{}
	for id := range ids {
		if seen[id] {
			t.Errorf("ID %s twice", id)
		}
		seen[id] = true
	}
	if after := encoded(t, shared); after != before || len(seen) != 8*2 {
		t.Errorf("%d IDs; changed by Apply:\n%s\n%s", len(seen), before, after)
	}
}
