package canvas_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
)

var (
	trees = flag.Int("trees", 300, "random compositions for each differential test")
	seed  = flag.Uint64("seed", 1, "of the random compositions; 0: by the clock")
)

func mustSeed(t *testing.T) uint64 {
	t.Helper()
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", s)
	return s
}

// TestApplyAgainstPython applies random compositions here and in Python: what is sent, stored and returned has to be the same
// up to the IDs.
func TestApplyAgainstPython(t *testing.T) {
	t.Parallel()
	ref := mustReference(t)
	base := mustSeed(t)
	for i := range *trees {
		g := generator{Rand: rand.New(rand.NewPCG(base, uint64(i))), links: i%2 == 0, options: i%3 == 0, stamps: i%5 == 0}
		c := g.applyCase()
		fault := compareApply(t, ref, c)
		if fault == "" {
			continue
		}
		c.e = shrunk(c.e, func(e expr) bool {
			smaller := c
			smaller.e = e
			found := compareApply(t, ref, smaller)
			if found != "" {
				fault = found
			}
			return found != ""
		})
		t.Fatalf("tree %d: %s\n%+v\n%s", i, raw(t, c.e), c, fault)
	}
}

// applyCase is one composition and how it is applied.
type applyCase struct {
	e                     expr
	decoded               bool
	args                  []any
	kwargs, options, conf object
	parent                object
}

func (g generator) applyCase() applyCase {
	c := applyCase{e: g.expr(3), decoded: g.IntN(2) == 0, conf: object{}}
	if g.IntN(5) == 0 {
		c.conf["task_protocol"] = 1
		c.decoded = true // what freezes in between does not know the setting
	}
	if g.IntN(4) == 0 {
		c.conf["known"] = false
	}
	if g.IntN(3) == 0 {
		c.conf["task_allow_error_cb_on_chord_header"] = true
		c.decoded = true // what builds does not know the setting
	}
	if g.IntN(3) == 0 {
		c.conf["task_inherit_parent_priority"] = true
	}
	if g.IntN(3) == 0 {
		c.args = []any{g.IntN(9)}
	}
	if g.IntN(6) == 0 {
		c.kwargs = object{"extra": 1}
	}
	if g.options && g.IntN(2) == 0 {
		c.options = g.someOptions()
	}
	if g.links && g.IntN(6) == 0 {
		callback := object{"task": "t.a", "args": []any{}, "kwargs": object{}, "options": object{}, "subtask_type": nil, "immutable": false}
		if c.options == nil {
			c.options = object{}
		}
		c.options[[]string{"link", "link_error"}[g.IntN(2)]] = []any{callback}
	}
	if g.IntN(3) == 0 {
		c.parent = g.request()
	}
	return c
}

// request is the message of a task that runs.
func (g generator) request() object {
	headers := object{"lang": "py", "task": "t.run", "id": "parent-id", "retries": g.IntN(2), "timelimit": []any{nil, nil}}
	if g.IntN(2) == 0 {
		headers["root_id"] = "root-id"
	}
	return object{
		"headers":          headers,
		"properties":       object{"delivery_info": object{"exchange": "", "routing_key": "celery"}, "priority": g.IntN(4), "delivery_tag": "tag"},
		"body":             []any{[]any{1}, object{}, object{}},
		"content-type":     "application/json",
		"content-encoding": "utf-8",
	}
}

// mustTask is a message as a worker decodes it.
func mustTask(t testing.TB, message object) *celeryproto.Task {
	t.Helper()
	envelope := object{}
	for key, v := range message {
		envelope[key] = v
	}
	envelope["body"] = string(raw(t, message["body"]))
	properties := object{}
	for key, v := range message["properties"].(object) {
		properties[key] = v
	}
	properties["body_encoding"] = "utf-8"
	properties["delivery_tag"] = "tag"
	envelope["properties"] = properties
	e, err := celeryproto.DecodeEnvelope(raw(t, envelope))
	if err != nil {
		t.Fatal(err)
	}
	task, err := celeryproto.DecodeTask(e)
	if err != nil {
		t.Fatal(err)
	}
	return task
}

func members(t testing.TB, o object) celeryproto.Members {
	t.Helper()
	if o == nil {
		return nil
	}
	m, err := raw(t, o).Object()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// pythonFaults are errors of Celery 5.7 on what is possible here: stamps of a visitor that differ inside a composition
// (see stampHeaders), set_immutable of a chord whose header is a group, and a callback that came from the wire on a group.
var pythonFaults = regexp.MustCompile(
	`^KeyError: '[xyz]'$|'str' object has no attribute 'set_immutable'|'dict' object has no attribute 'clone'`)

func compareApply(t *testing.T, ref *reference, c applyCase) (fault string) {
	t.Helper()
	e := c.e
	if c.decoded {
		built := ref.ask(t, object{"op": "build", "expr": e, "conf": c.conf})
		if built.Error != "" {
			return "" // Python cannot make it either
		}
		var sig any
		if err := json.Unmarshal(built.Sig, &sig); err != nil {
			t.Fatal(err)
		}
		e = expr{"op": "json", "sig": sig}
	}
	want := ref.ask(t, object{
		"op": "apply", "expr": e, "conf": c.conf, "args": c.args, "kwargs": c.kwargs, "options": c.options, "parent": c.parent,
	})
	call := canvas.Call{Kwargs: members(t, c.kwargs), Options: members(t, c.options)}
	for _, arg := range c.args {
		call.Args = append(call.Args, raw(t, arg))
	}
	if c.parent != nil {
		call.Parent = canvas.ParentOf(mustTask(t, c.parent))
	}
	plan, err := build(t, e).Apply(env(c.conf), call)
	if err == nil && pythonFaults.MatchString(want.Error) {
		return ""
	}
	if (err != nil) != (want.Error != "") {
		return fmt.Sprintf("python: %q, go: %v\n%s", want.Error, err, want.Where)
	}
	if err != nil {
		return ""
	}
	got := object{"effects": effects(t, plan, c.conf), "result": nil, "children": []any{}}
	if plan.Result != nil {
		got["result"] = json.RawMessage(plan.Result.Raw())
	}
	for i := range plan.Children {
		got["children"] = append(got["children"].([]any), json.RawMessage(plan.Children[i].Raw()))
	}
	if want.Children == nil {
		want.Children = []json.RawMessage{}
	}
	x := renamed(canonical(t, object{"effects": want.Effects, "result": want.Result, "children": want.Children}))
	y := renamed(canonical(t, got))
	if x != y {
		return diff(x, y)
	}
	return ""
}
