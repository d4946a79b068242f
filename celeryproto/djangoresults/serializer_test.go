package djangoresults_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/djangoresults"
	"github.com/dfws/dfws/integration/dbtest"
)

// With every result_serializer of kombu's, each language reads what the other wrote, exceptions, groups and chords included.
func TestSerializers(t *testing.T) {
	t.Parallel()
	for _, serializer := range []string{"msgpack", "yaml", "pickle"} {
		t.Run(serializer, func(t *testing.T) {
			t.Parallel()
			accept := []string{"json", serializer}
			s := startSite(t, sharedSite(t, dbtest.SQLite).db, settings{
				UseTZ: true, TimeZone: "UTC", Celery: map[string]any{"result_serializer": serializer, "accept_content": accept},
			}, "UTC")
			codec := celeryproto.ResultCodec{Serializer: serializer, Accept: must1(celeryproto.ParseAccept(accept))(t)}
			b := s.openWith(t, func(o *djangoresults.Options) { o.Codec = codec })
			for _, c := range calls {
				theirs, ours := newID(), newID()
				must(t, s.request("store", with(c.python, "task_id", theirs), nil))
				m := c.meta
				m.TaskID = ours
				must(t, b.Store(t.Context(), &m))
				want, got := s.row(t, "task", theirs), s.row(t, "task", ours)
				for _, name := range []string{"content_type", "content_encoding", "status"} {
					if want[name] != got[name] {
						t.Errorf("%s: %s: Python %v, Go %v", c.name, name, want[name], got[name])
					}
				}
				if serializer != "pickle" && want["result"] != got["result"] { // pickles of equal values differ
					t.Errorf("%s: result: Python %v, Go %v", c.name, want["result"], got["result"])
				}
				read, readOurs := ask[row](t, s, "read", map[string]any{"task_id": theirs}), ask[row](t, s, "read", map[string]any{"task_id": ours})
				delete(read, "date_done")
				delete(readOurs, "date_done")
				if diff := cmp.Diff(read, readOurs); diff != "" {
					t.Errorf("%s: read by Python, of Python (-) and of Go (+):\n%s", c.name, diff)
				}
				fromPython, fromGo := must1(b.Get(t.Context(), theirs))(t), must1(b.Get(t.Context(), ours))(t)
				fromPython.TaskID, fromPython.DateDone = ours, fromGo.DateDone
				if diff := cmp.Diff(plainMeta(t, fromPython), plainMeta(t, fromGo)); diff != "" {
					t.Errorf("%s: read by Go, of Python (-) and of Go (+):\n%s", c.name, diff)
				}
			}
			testSerializedChord(t, s, b)
			id := newID()
			must(t, s.request("store", with(calls[0].python, "task_id", id), nil))
			plain := sharedSite(t, dbtest.SQLite).open(t)
			_, err := plain.Get(t.Context(), id)
			if _, ok := errors.AsType[*celeryproto.DisallowedError](err); !ok || djangoresults.Retryable(err) {
				t.Errorf("not in accept_content: %v", err)
			}
		})
	}
}

func testSerializedChord(t *testing.T, s *site, b *djangoresults.Backend) {
	t.Helper()
	c := newChord(t, s, b)
	c.startGo("a", "b")
	c.endPython(s, "a", []any{"é", nil})
	if got := values(c.endGo("b", "SUCCESS", "2")); got != `["\u00e9", null], 2` {
		t.Errorf("%s", got)
	}
	c = newChord(t, s, b)
	c.startPython("a", "b")
	c.endGo("a", "SUCCESS", `{"x": 1}`)
	if diff := cmp.Diff([]any{[]any{[]any{map[string]any{"x": 1.}, 2.}}}, c.endPython(s, "b", 2)); diff != "" {
		t.Errorf("what Python sent (+):\n%s", diff)
	}
	group := newID()
	tree := `[["` + group + `", null], [[["c", null], null]]]`
	must(t, b.SaveGroup(t.Context(), must1(celeryproto.DecodeResultTree(raw(tree)))(t)))
	if diff := cmp.Diff(raw2any(tree), ask[any](t, s, "restore_group", map[string]any{"group_id": group})); diff != "" {
		t.Errorf("Python restores another group (+):\n%s", diff)
	}
	must(t, s.request("save_group", map[string]any{"tree": raw2any(tree)}, nil))
	if got := must1(b.Group(t.Context(), group))(t); got.Raw().String() != tree {
		t.Errorf("read %s", got.Raw())
	}
}
