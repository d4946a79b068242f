package celeryproto

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestResultTree(t *testing.T) {
	t.Parallel()
	task := func(id string) ResultTree { return ResultTree{ID: id} }
	for text, want := range map[string]ResultTree{
		`[["a", null], null]`:                  task("a"),
		`[["a", [["b", null], null]], null]`:   {ID: "a", Parent: &ResultTree{ID: "b"}},
		`[["g", null], []]`:                    {ID: "g", IsGroup: true, Children: []ResultTree{}},
		`[["g", null], [[["a", null], null]]]`: {ID: "g", IsGroup: true, Children: []ResultTree{task("a")}},
		`[["b", [["g", [["p", null], null]], [[["a", null], null], [["h", null], []]]]], null]`: {ID: "b", Parent: &ResultTree{
			ID: "g", IsGroup: true, Parent: &ResultTree{ID: "p"}, Children: []ResultTree{task("a"), {ID: "h", IsGroup: true, Children: []ResultTree{}}},
		}},
	} {
		got, err := DecodeResultTree(Raw(text))
		if err != nil || cmp.Diff(&want, got) != "" {
			t.Errorf("%s: %v, %v", text, err, cmp.Diff(&want, got))
			continue
		}
		if back := got.Raw().String(); back != text {
			t.Errorf("%s, want %s", back, text)
		}
	}
	if got, err := DecodeResultTree(Raw(`["a", null]`)); err != nil || got.ID != "a" { // what older releases stored
		t.Errorf("%+v, %v", got, err)
	}
	for _, text := range []string{
		``, `5`, `[]`, `["a"]`, `[[5, null], null]`, `[["", null], null]`, `[["a", 5], null]`, `[["a"], null]`, `[["a", null], 5]`,
		`[["a", null], [5]]`, `[null, null]`, strings.Repeat(`[["a", `, 600),
	} {
		if got, err := DecodeResultTree(Raw(text)); err == nil {
			t.Errorf("%.40s: %+v", text, got)
		}
	}
	flat := ResultTree{ID: "g", IsGroup: true, Children: []ResultTree{task("a"), task("b")}}
	nested := ResultTree{ID: "g", IsGroup: true, Children: []ResultTree{task("a"), flat}}
	if flat.Complex() || !nested.Complex() {
		t.Error("only a group in a group is complex")
	}
	if got := strings.Join(nested.TaskIDs(nil), " "); got != "a a b" {
		t.Errorf("tasks %s", got)
	}
}

// A long chain has as many parents: neither the stack nor the time may suffer.
func TestResultTreeOfLongChain(t *testing.T) {
	t.Parallel()
	var tree *ResultTree
	const steps = 200_000
	for range steps {
		tree = &ResultTree{ID: "x", Parent: tree}
	}
	if n := len(tree.Raw()); n != steps*len(`[["x", ], null]`)+len("null") {
		t.Errorf("%d bytes", n)
	}
}

func FuzzResultTree(f *testing.F) {
	for _, seed := range []string{
		`[["g", [["p", null], null]], [[["a", null], null], [["h", null], []]]]`, `["a", null]`, `[["a", "b"], null]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		tree, err := DecodeResultTree(text)
		if err != nil {
			return
		}
		again, err := DecodeResultTree(tree.Raw())
		if err != nil || !cmp.Equal(tree, again) {
			t.Fatalf("%v: %s", err, tree.Raw())
		}
		tree.TaskIDs(nil)
	})
}
