package canvas_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
)

// TestWhatFollowsAgainstPython takes the messages of random compositions, lets the tasks succeed, fail, retry or replace
// themselves, here and in Python, and compares what is sent, stored and returned to chords.
func TestWhatFollowsAgainstPython(t *testing.T) {
	t.Parallel()
	ref := mustReference(t)
	base := mustSeed(t)
	compared := map[string]int{}
	for i := range (*trees + 2) / 3 {
		g := generator{Rand: rand.New(rand.NewPCG(base, uint64(i)+1<<32)), links: true, options: i%3 == 0, stamps: i%5 == 0}
		c := g.applyCase()
		c.conf["task_protocol"] = 2
		applied := ref.ask(t, object{
			"op": "apply", "expr": c.e, "conf": c.conf, "args": c.args, "options": c.options, "parent": c.parent,
		})
		for n, message := range mustMessages(t, applied.Effects) {
			if n == 6 {
				break
			}
			if task := mustTask(t, message); strings.HasPrefix(task.Name, "celery.") {
				continue // has a function of its own in Python
			}
			f := follower{t: t, ref: ref, g: g, conf: c.conf, message: message, task: mustTask(t, message)}
			all := f.all()
			for _, name := range slices.Sorted(maps.Keys(all)) {
				if g.IntN(2) == 0 {
					continue
				}
				compared[name]++
				if fault := all[name](); fault != "" {
					t.Fatalf("tree %d, %s: conf %v, message %s\n%s", i, name, c.conf, raw(t, message), fault)
				}
			}
		}
	}
	t.Logf("compared: %v", compared)
}

func mustMessages(t *testing.T, effects []json.RawMessage) []object {
	t.Helper()
	var messages []object
	for _, effect := range effects {
		var e struct {
			Message object `json:"message"`
		}
		if err := json.Unmarshal(effect, &e); err != nil {
			t.Fatal(err)
		}
		if e.Message != nil {
			messages = append(messages, e.Message)
		}
	}
	return messages
}

// follower compares what follows one message.
type follower struct {
	t       *testing.T
	ref     *reference
	g       generator
	conf    object
	message object
	task    *celeryproto.Task
}

func (f *follower) all() map[string]func() string {
	all := map[string]func() string{"success": f.success, "failure": f.failure, "replace": f.replace}
	if f.conf["known"] == nil { // else another task runs for it
		all["retry"] = f.retry
	}
	if !f.task.Embed.Chord.IsNull() {
		maps.Copy(all, map[string]func() string{
			"add to chord": f.addToChord, "chord ready": f.chordReady, "chord failed": f.chordFailed,
		})
	}
	return all
}

// ask lets Python do it.
func (f *follower) ask(op string, more object) answer {
	f.t.Helper()
	request := object{"op": op, "conf": f.conf, "message": f.message}
	maps.Copy(request, more)
	return f.ref.ask(f.t, request)
}

// compare compares effects; err is Go's.
func (f *follower) compare(want answer, got []any, err error) string {
	f.t.Helper()
	if pythonFaults.MatchString(want.Error) {
		return ""
	}
	if (err != nil) != (want.Error != "") {
		return fmt.Sprintf("python: %q, go: %v\n%s", want.Error, err, want.Where)
	}
	if err != nil {
		return ""
	}
	x, y := renamed(canonical(f.t, object{"effects": want.Effects})), renamed(canonical(f.t, object{"effects": got}))
	if x != y {
		return diff(x, y)
	}
	return ""
}

// own is what the worker stores for the task itself, and returns to its chord.
func (f *follower) own(status string, result any, children []celeryproto.ResultTree) []any {
	f.t.Helper()
	tuples := []any{}
	for i := range children {
		tuples = append(tuples, json.RawMessage(children[i].Raw()))
	}
	headers := f.message["headers"].(object)
	stored := object{
		"status": status, "result": result, "traceback": nil, "children": tuples, "task_id": f.task.ID,
		"name": f.task.Name, "args": json.RawMessage(f.task.Args), "kwargs": json.RawMessage(f.task.Kwargs), "worker": "h",
		"retries": f.task.Retries, "queue": f.task.Queue(),
	}
	if f.task.GroupID != "" {
		stored["group_id"] = f.task.GroupID
	}
	if f.task.ParentID != "" {
		stored["parent_id"] = f.task.ParentID
	}
	if stamps, _ := headers["stamps"].(object); len(stamps) > 0 {
		stored["stamped_headers"] = headers["stamped_headers"]
		maps.Copy(stored, stamps)
	}
	all := []any{}
	if ignored, _ := headers["ignore_result"].(bool); !ignored {
		all = append(all, object{"stored": stored})
	}
	if status == "RETRY" {
		return all
	}
	if part, ok := canvas.PartOf(f.task, status, raw(f.t, result)); ok {
		all = append(all, partEffect(&part, f.task.Embed.Chord))
	}
	return all
}

func partEffect(part *celeryproto.ChordPart, body celeryproto.Raw) object {
	return object{
		"part": part.TaskID, "group": part.GroupID, "index": part.Index, "state": part.Status,
		"result": json.RawMessage(part.Result), "body": json.RawMessage(body),
	}
}

func (f *follower) success() string {
	value := []any{5, "text", nil, []any{1, 2}}[f.g.IntN(4)]
	want := f.ask("success", object{"value": value})
	plan, err := canvas.OnSuccess(env(f.conf), f.task, raw(f.t, value))
	if err != nil {
		return f.compare(want, nil, err)
	}
	got := append(effects(f.t, plan, f.conf), f.own("SUCCESS", value, plan.Children)...)
	return f.compare(want, got, nil)
}

var failures = []struct {
	spec   object
	stored object
	repr   string
}{
	{
		object{"type": "ValueError", "args": []any{"it's", 1}},
		object{"exc_type": "ValueError", "exc_message": []any{"it's", 1}, "exc_module": "builtins"}, `ValueError("it's", 1)`,
	},
	{
		object{"type": "KeyError", "args": []any{}},
		object{"exc_type": "KeyError", "exc_message": []any{}, "exc_module": "builtins"}, "KeyError()",
	},
}

func (f *follower) newStyle(sig *canvas.Signature) bool {
	known, set := f.conf["known"].(bool)
	return sig.Task() == "t.new" && (known || !set)
}

func (f *follower) failure() string {
	exc := failures[f.g.IntN(len(failures))]
	want := f.ask("failure", object{"exc": exc.spec})
	failure, err := canvas.OnFailure(env(f.conf), f.task, raw(f.t, exc.stored), f.newStyle)
	if err != nil {
		return f.compare(want, nil, err)
	}
	got := f.own("FAILURE", exc.stored, nil)
	ignored, _ := f.message["headers"].(object)["ignore_result"].(bool)
	return f.compare(want, append(got, f.failed(failure, exc.repr, ignored)...), nil)
}

// failed are the effects of a failure.
func (f *follower) failed(failure *canvas.Failure, repr string, ignored bool) []any {
	f.t.Helper()
	all := []any{}
	for i := range failure.Tasks {
		task := &failure.Tasks[i]
		all = append(all, f.errbacks(&task.Errbacks, repr)...)
		if task.Result != nil && !ignored {
			all = append(all, object{"stored": f.stored(task.Result)})
		}
		if task.Part != nil {
			all = append(all, partEffect(task.Part, task.Body))
		}
		if task.Revoke != nil {
			all = append(all, object{"revoke": task.Revoke})
		}
	}
	return append(all, f.errbacks(&failure.Errbacks, repr)...)
}

func (f *follower) errbacks(e *canvas.Errbacks, repr string) []any {
	f.t.Helper()
	all := []any{}
	for _, errback := range e.Call {
		all = append(all, object{"called": errback.Task(), "id": e.TaskID, "exc": repr})
	}
	return append(all, effects(f.t, e.Plan, f.conf)...)
}

// stored is a meta without its time.
func (f *follower) stored(meta *celeryproto.ResultMeta) object {
	f.t.Helper()
	text, err := meta.Append(nil)
	if err != nil {
		f.t.Fatal(err)
	}
	var stored object
	if err := json.Unmarshal(text, &stored); err != nil {
		f.t.Fatal(err)
	}
	delete(stored, "date_done")
	if meta.Extended == nil {
		stored["children"] = nil // outside of a task there are none to take
	}
	return stored
}

func (f *follower) retry() string {
	options := object{"countdown": 0}
	if f.g.IntN(3) == 0 {
		options["queue"] = "video"
	}
	if f.g.IntN(3) == 0 {
		options["args"] = []any{8}
		options["kwargs"] = object{"again": true}
	}
	want := f.ask("retry", object{"options": options})
	opts := canvas.RetryOptions{Options: members(f.t, object{"countdown": 0})}
	if queue, ok := options["queue"]; ok {
		opts.Options.Set("queue", raw(f.t, queue))
	}
	if _, ok := options["args"]; ok {
		opts.Args, opts.Kwargs = []celeryproto.Raw{celeryproto.Raw("8")}, members(f.t, object{"again": true})
	}
	plan, err := canvas.Retry(env(f.conf), f.task, opts)
	if err != nil {
		return f.compare(want, nil, err)
	}
	again := object{"exc_type": "ValueError", "exc_message": []any{"again"}, "exc_module": "builtins"}
	got := append(effects(f.t, plan, f.conf), f.own("RETRY", again, plan.Children)...)
	return f.compare(want, got, nil)
}

// mustExpr is a random composition as both sides decode it.
func (f *follower) mustExpr() (e expr, ok bool) {
	f.t.Helper()
	built := f.ref.ask(f.t, object{"op": "build", "expr": f.g.expr(2), "conf": f.conf})
	if built.Error != "" {
		return nil, false
	}
	var sig any
	if err := json.Unmarshal(built.Sig, &sig); err != nil {
		f.t.Fatal(err)
	}
	return expr{"op": "json", "sig": sig}, true
}

func (f *follower) replace() string {
	e, ok := f.mustExpr()
	if !ok {
		return ""
	}
	want := f.ask("replace", object{"expr": e})
	plan, err := canvas.Replace(env(f.conf), f.task, build(f.t, e))
	if err != nil {
		return f.compare(want, nil, err)
	}
	return f.compare(want, effects(f.t, plan, f.conf), nil)
}

func (f *follower) addToChord() string {
	e, ok := f.mustExpr()
	if !ok {
		return ""
	}
	want := f.ask("add_to_chord", object{"expr": e})
	added, plan, err := canvas.AddToChord(env(f.conf), f.task, build(f.t, e))
	if err != nil {
		return f.compare(want, nil, err)
	}
	got := []any{object{"added": json.RawMessage(added.Raw()), "group": f.task.GroupID}}
	return f.compare(want, append(got, effects(f.t, plan, f.conf)...), nil)
}

func (f *follower) chordReady() string {
	values := []any{1, "two", []any{3}}
	want := f.ask("chord_ready", object{"body": json.RawMessage(f.task.Embed.Chord), "results": values})
	chord := &celeryproto.Chord{GroupID: f.task.GroupID}
	for i, value := range values {
		chord.Results = append(chord.Results, celeryproto.ChordPart{TaskID: fmt.Sprint(i), Status: "SUCCESS", Result: raw(f.t, value)})
	}
	plan, err := canvas.OnChordReady(env(f.conf), f.task, f.task.Embed.Chord, chord)
	return f.compare(want, effects(f.t, plan, f.conf), err)
}

func (f *follower) chordFailed() string {
	exc := failures[f.g.IntN(len(failures))]
	want := f.ask("chord_failed", object{"body": json.RawMessage(f.task.Embed.Chord), "exc": exc.spec, "part": "p1"})
	chord := &celeryproto.Chord{Results: []celeryproto.ChordPart{
		{TaskID: "p0", Status: "SUCCESS", Result: celeryproto.Raw("1")},
		{TaskID: "p1", Status: "FAILURE", Result: raw(f.t, exc.stored)},
	}}
	_, err := canvas.OnChordReady(env(f.conf), f.task, f.task.Embed.Chord, chord)
	failed, ok := err.(*canvas.ChordError)
	if !ok {
		return fmt.Sprintf("chord with a failed part: %v", err)
	}
	failure, err := canvas.OnChordFailed(env(f.conf), f.task.Embed.Chord, failed, f.newStyle)
	if err != nil {
		return f.compare(want, nil, err)
	}
	repr := canvas.ReprException(failed.Exception())
	if body, err := canvas.Decode(f.task.Embed.Chord); err == nil && body.Kind() == canvas.KindGroup {
		repr = exc.repr
	}
	return f.compare(want, f.failed(failure, repr, false), nil)
}
