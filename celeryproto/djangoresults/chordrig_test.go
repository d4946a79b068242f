package djangoresults_test

import (
	"strings"
	"testing"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/djangoresults"
)

// header is the header of a chord with members that are tasks, or groups of tasks where several IDs are joined by "+".
func header(group string, members ...string) *celeryproto.ResultTree {
	tree := &celeryproto.ResultTree{ID: group, IsGroup: true}
	for _, member := range members {
		ids := strings.Split(member, "+")
		if len(ids) == 1 {
			tree.Children = append(tree.Children, celeryproto.ResultTree{ID: member})
			continue
		}
		tree.Children = append(tree.Children, *header("group of "+member, ids...))
	}
	return tree
}

// chordRig is a chord whose tasks end in either language.
type chordRig struct {
	t       testing.TB
	site    *site
	backend *djangoresults.Backend
	group   string
}

func newChord(t testing.TB, s *site, b *djangoresults.Backend) *chordRig {
	return &chordRig{t: t, site: s, backend: b, group: newID()}
}

// id is the ID of a task, which is unique by its group.
func (c *chordRig) id(name string) string { return name + "-" + c.group }

func (c *chordRig) tree(members ...string) *celeryproto.ResultTree {
	ids := make([]string, len(members))
	for i, member := range members {
		names := strings.Split(member, "+")
		for j, name := range names {
			names[j] = c.id(name)
		}
		ids[i] = strings.Join(names, "+")
	}
	return header(c.group, ids...)
}

// startGo starts the chord as canvas asks for it.
func (c *chordRig) startGo(members ...string) {
	c.t.Helper()
	tree := c.tree(members...)
	start := celeryproto.ChordStart{GroupID: c.group, Header: tree, Complex: tree.Complex()}
	must(c.t, c.backend.StartChord(c.t.Context(), start))
	must(c.t, c.backend.StartChord(c.t.Context(), start)) // a lost answer
	must(c.t, c.backend.StartChord(c.t.Context(), celeryproto.ChordStart{GroupID: c.group, Size: len(tree.TaskIDs(nil))}))
}

func (c *chordRig) startPython(members ...string) {
	c.t.Helper()
	tree := raw2any(c.tree(members...).Raw().String()).([]any)
	must(c.t, c.site.request("apply_chord", map[string]any{"group_id": c.group, "members": tree[1]}, nil))
}

// endPython ends a task in Python and returns the arguments of the bodies that it sent.
func (c *chordRig) endPython(s *site, name string, result any) []any {
	c.t.Helper()
	return ask[[]any](c.t, s, "part", map[string]any{"task_id": c.id(name), "group_id": c.group, "status": "SUCCESS", "result": result})
}

func (c *chordRig) storeGo(name, status, result string) celeryproto.ChordPart {
	c.t.Helper()
	must(c.t, c.backend.Store(c.t.Context(), &celeryproto.ResultMeta{TaskID: c.id(name), Status: status, Result: raw(result)}))
	return celeryproto.ChordPart{GroupID: c.group, TaskID: c.id(name), Status: status, Result: raw(result)}
}

// endGo ends a task in Go and returns the chord when it was the last.
func (c *chordRig) endGo(name, status, result string) *celeryproto.Chord {
	c.t.Helper()
	return must1(c.backend.ChordPart(c.t.Context(), c.storeGo(name, status, result)))(c.t)
}

// finish sends the body, as far as the backend sees it.
func (c *chordRig) finish(chord *celeryproto.Chord) {
	c.t.Helper()
	if ours := must1(c.backend.RenewChord(c.t.Context(), chord))(c.t); !ours {
		c.t.Error("the chord is somebody else's")
	}
	must(c.t, c.backend.FinishChord(c.t.Context(), chord))
	must(c.t, c.backend.FinishChord(c.t.Context(), chord)) // a lost answer
	if left := c.rows(); len(left) != 0 {
		c.t.Errorf("left behind: %v", left)
	}
}

func (c *chordRig) rows() []row {
	c.t.Helper()
	return ask[[]row](c.t, c.site, "rows", map[string]any{"name": "chord", "keys": []string{c.group}})
}

// values are the results of a chord as its body gets them.
func values(chord *celeryproto.Chord) string {
	if chord == nil {
		return "no chord"
	}
	var out []string
	for _, p := range chord.Results {
		text := string(p.Result)
		if p.Failed() {
			text = p.Status + " " + text
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}
