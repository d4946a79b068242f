package canvas_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
)

// composition is one that Celery has run to its end (integration/capture/celery_messages/cases_compositions.py).
type composition struct {
	Name    string
	Expr    expr
	Conf    map[string]any
	Steps   []struct{ Published []string } // by the client, then after each task
	Results map[string]map[string]any
	Left    []string `json:"chord_keys_left"`
}

func mustCompositions(t testing.TB) []composition {
	t.Helper()
	b, err := os.ReadFile("testdata/canvas_compositions.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Redis []composition }
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // 1 stays an integer
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	if len(file.Redis) < 80 {
		t.Fatalf("%d compositions", len(file.Redis))
	}
	return file.Redis
}

// TestGoldenCompositions runs recorded compositions by what this package says: it publishes what Celery has published, step by
// step and byte for byte up to IDs, and stores what Celery has stored.
func TestGoldenCompositions(t *testing.T) {
	t.Parallel()
	for _, c := range mustCompositions(t) {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			p := newPlayer(t, c.Conf)
			build := build
			if c.Conf["task_allow_error_cb_on_chord_header"] == true {
				build = buildHeader
			}
			plan, err := build(t, c.Expr).Apply(p.env, canvas.Call{})
			if err != nil {
				t.Fatal(err)
			}
			want := c.Steps[0].Published
			p.do(plan)
			for i := 1; len(p.waiting) > 0; i++ {
				p.run(p.next())
				if i < len(c.Steps) {
					want = append(want, c.Steps[i].Published...)
				}
				if len(p.sent) != len(want) {
					t.Fatalf("after %d tasks %d messages, want %d", i, len(p.sent), len(want))
				}
			}
			sameBytes(t, want, p.sent)
			p.sameResults(c.Results)
			if left := p.left(); !slices.Equal(left, c.Left) {
				t.Errorf("keys of chords that are left: %v, want %v", left, c.Left)
			}
		})
	}
}

// buildHeader is build with the setting task_allow_error_cb_on_chord_header.
func buildHeader(t testing.TB, e expr) *canvas.Signature {
	t.Helper()
	return build(t, e["on"].(expr)).LinkErrorHeader(build(t, e["sig"].(expr)))
}

// player is a client, a broker, a worker and a result backend in one.
type player struct {
	t       testing.TB
	env     *canvas.Env
	def     canvas.Defaults
	sent    []string
	waiting []string
	metas   map[string]*celeryproto.ResultMeta
	chords  map[string]*playedChord
}

// playedChord is what the Redis backend keeps of a chord.
type playedChord struct {
	size    int // 0: not there
	header  *celeryproto.ResultTree
	parts   []celeryproto.ChordPart
	claimed bool
	done    bool
}

func newPlayer(t testing.TB, conf map[string]any) *player {
	p := &player{
		t: t, env: goldenEnv(), def: goldenDefaults(), metas: map[string]*celeryproto.ResultMeta{}, chords: map[string]*playedChord{},
	}
	if conf["task_protocol"] == json.Number("1") {
		p.env.Protocol, p.def.Protocol = 1, 1
	}
	p.env.AllowErrorCallbackOnChordHeader = conf["task_allow_error_cb_on_chord_header"] == true
	return p
}

func (p *player) chord(id string) *playedChord {
	if p.chords[id] == nil {
		p.chords[id] = &playedChord{}
	}
	return p.chords[id]
}

// do carries out a plan.
func (p *player) do(plan *canvas.Plan) {
	p.t.Helper()
	if plan == nil {
		return
	}
	for _, step := range plan.Steps {
		if step.Send == nil {
			c := p.chord(step.Chord.GroupID)
			switch {
			case step.Chord.Header == nil:
				c.size, c.claimed, c.done = step.Chord.Size, false, false
			case step.Chord.Complex:
				c.header = step.Chord.Header
			}
			continue
		}
		task, err := step.Send.Message(p.def)
		if err != nil {
			p.t.Fatal(err)
		}
		task.SetQueue("celery")
		message, err := task.Append(nil)
		if err != nil {
			p.t.Fatal(err)
		}
		p.sent, p.waiting = append(p.sent, string(message)), append(p.waiting, string(message))
	}
}

func (p *player) next() *celeryproto.Task {
	text := p.waiting[0]
	p.waiting = p.waiting[1:]
	return decoded(p.t, text)
}

// total is what the recorded tasks do with their arguments.
func total(v any) int64 {
	var n int64
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			n += total(item)
		}
	case map[string]any:
		for _, item := range v {
			n += total(item)
		}
	case int64:
		n = v
	}
	return n
}

// run is what a worker does with a task.
func (p *player) run(task *celeryproto.Task) {
	p.t.Helper()
	args, err := celeryproto.DecodeValue(task.Args)
	if err != nil {
		p.t.Fatal(err)
	}
	kwargs, err := celeryproto.DecodeValue(task.Kwargs)
	if err != nil {
		p.t.Fatal(err)
	}
	n := 1 + total(args) + total(kwargs)
	if task.Name == "t.fail" {
		p.failed(task, raw(p.t, object{"exc_type": "ValueError", "exc_message": []any{n}, "exc_module": "builtins"}))
		return
	}
	result := raw(p.t, n)
	if task.Name == "t.errback" {
		result = celeryproto.Raw(`"noted"`)
	}
	plan, err := canvas.OnSuccess(p.env, task, result)
	if err != nil {
		p.t.Fatal(err)
	}
	p.do(plan)
	children := []byte("[")
	for i := range plan.Children {
		if i > 0 {
			children = append(children, ", "...)
		}
		children = plan.Children[i].Append(children)
	}
	p.store(&celeryproto.ResultMeta{
		Status: "SUCCESS", Result: result, Children: append(children, ']'), TaskID: task.ID, GroupID: task.GroupID, ParentID: task.ParentID,
	})
	p.returnPart(task, "SUCCESS", result)
}

func (p *player) failed(task *celeryproto.Task, exc celeryproto.Raw) {
	p.t.Helper()
	p.store(&celeryproto.ResultMeta{Status: "FAILURE", Result: exc, TaskID: task.ID, GroupID: task.GroupID, ParentID: task.ParentID})
	p.returnPart(task, "FAILURE", exc)
	failure, err := canvas.OnFailure(p.env, task, exc, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	p.carryOut(failure, task)
}

func (p *player) carryOut(failure *canvas.Failure, req *celeryproto.Task) {
	p.t.Helper()
	for _, f := range failure.Tasks {
		p.do(f.Errbacks.Plan)
		already := false
		if f.Result != nil {
			if old := p.metas[f.Result.TaskID]; f.PartOnce && old != nil {
				already = old.Status == "FAILURE" || old.Status == "REVOKED"
			}
			f.Result.Extended = nil
			p.store(f.Result)
		}
		if f.Part != nil && !already {
			p.countPart(*f.Part, f.Body, req)
		}
	}
	p.do(failure.Errbacks.Plan)
}

func (p *player) store(m *celeryproto.ResultMeta) {
	if old := p.metas[m.TaskID]; old == nil || old.Status != "SUCCESS" {
		p.metas[m.TaskID] = m
	}
}

func (p *player) returnPart(task *celeryproto.Task, status string, result celeryproto.Raw) {
	p.t.Helper()
	if part, ok := canvas.PartOf(task, status, result); ok {
		p.countPart(part, task.Embed.Chord, task)
	}
}

// countPart is the chord of the Redis backend.
func (p *player) countPart(part celeryproto.ChordPart, body celeryproto.Raw, req *celeryproto.Task) {
	p.t.Helper()
	c := p.chord(part.GroupID)
	if c.done {
		return
	}
	if !slices.ContainsFunc(c.parts, func(old celeryproto.ChordPart) bool {
		return old.TaskID == part.TaskID && cmp.Equal(old.Index, part.Index)
	}) {
		c.parts = append(c.parts, part)
	}
	if c.size == 0 || c.size != len(c.parts) || c.claimed {
		return
	}
	c.claimed = true
	slices.SortStableFunc(c.parts, func(a, b celeryproto.ChordPart) int {
		if *a.Index != *b.Index {
			return *a.Index - *b.Index
		}
		return strings.Compare(a.TaskID, b.TaskID) // as a sorted set of Redis does
	})
	chord := &celeryproto.Chord{GroupID: part.GroupID, Results: c.parts}
	if c.header != nil {
		chord.Complex, chord.Results = true, p.join(c.header)
	}
	plan, err := canvas.OnChordReady(p.env, req, body, chord)
	if failed, ok := errors.AsType[*canvas.ChordError](err); ok {
		failure, err := canvas.OnChordFailed(p.env, body, failed, nil)
		if err != nil {
			p.t.Fatal(err)
		}
		p.carryOut(failure, req)
		c.size = 0
		return
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.do(plan)
	*c = playedChord{done: true}
}

// join are the results of a complex header.
func (p *player) join(header *celeryproto.ResultTree) []celeryproto.ChordPart {
	parts := make([]celeryproto.ChordPart, len(header.Children))
	for i := range parts {
		parts[i] = celeryproto.ChordPart{TaskID: header.Children[i].ID, Status: "SUCCESS"}
		for _, id := range header.Children[i].TaskIDs(nil) {
			if meta := p.metas[id]; meta.Status != "SUCCESS" && parts[i].Status == "SUCCESS" {
				parts[i].Status, parts[i].Result = meta.Status, meta.Result
			}
		}
		if parts[i].Status == "SUCCESS" {
			parts[i].Result = p.value(&header.Children[i])
		}
	}
	return parts
}

func (p *player) value(tree *celeryproto.ResultTree) celeryproto.Raw {
	if !tree.IsGroup {
		return p.metas[tree.ID].Result
	}
	values := make([]string, len(tree.Children))
	for i := range values {
		values[i] = p.value(&tree.Children[i]).String()
	}
	return celeryproto.Raw("[" + strings.Join(values, ", ") + "]")
}

// sameResults compares what was stored. The IDs are renamed as in the messages, which have all of them.
func (p *player) sameResults(want map[string]map[string]any) {
	p.t.Helper()
	got := map[string]string{}
	count := map[string]int{}
	for _, m := range p.metas {
		children := m.Children
		if children.IsNull() {
			children = celeryproto.Raw("[]")
		}
		got[m.TaskID] = renamed(canonical(p.t, object{
			"status": m.Status, "result": json.RawMessage(m.Result), "children": json.RawMessage(children),
			"group": m.GroupID != "", "parent": m.ParentID != "",
		}))
		count[got[m.TaskID]]++
	}
	for _, m := range want {
		_, group := m["group_id"]
		_, parent := m["parent_id"]
		if m["children"] == nil || m["status"] == "FAILURE" {
			m["children"] = []any{} // of a body that cannot run, Celery stores the children of the task that ended last
		}
		count[renamed(canonical(p.t, object{
			"status": m["status"], "result": m["result"], "children": m["children"], "group": group, "parent": parent,
		}))]--
	}
	for text, n := range count {
		if n != 0 {
			p.t.Errorf("%+d result: %s", n, text)
		}
	}
	if len(got) != len(want) {
		p.t.Errorf("%d results, want %d", len(got), len(want))
	}
}

// left are the suffixes of the keys that are left of the chords.
func (p *player) left() []string {
	left := []string{}
	for _, id := range slices.Sorted(maps.Keys(p.chords)) {
		c := p.chords[id]
		if c.claimed || c.done {
			left = append(left, "c")
		}
		if len(c.parts) > 0 {
			left = append(left, "d", "j")
		}
		if c.size > 0 {
			left = append(left, "s")
		}
	}
	slices.Sort(left)
	return left
}
