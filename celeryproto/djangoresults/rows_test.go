package djangoresults_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/djangoresults"
	"github.com/dfws/dfws/integration/dbtest"
)

// stored is one call of store_result, and the same here.
type stored struct {
	name   string
	python map[string]any
	meta   celeryproto.ResultMeta
}

const valueError = `{"exc_type": "ValueError", "exc_message": ["no", 1, "\u00e9"], "exc_module": "builtins"}`

// calls are stored one after the other for the same task, so that the row is inserted first and then changed.
var calls = []stored{
	{"plain", map[string]any{"status": "SUCCESS", "result": map[string]any{"x": "é\x00😀", "n": nil}}, celeryproto.ResultMeta{
		Status: "SUCCESS", Result: raw(`{"n": null, "x": "é\u0000😀"}`), Children: raw("null"),
	}},
	{"started", map[string]any{
		"status": "STARTED", "result": map[string]any{"pid": 1}, "extended": true, "request": map[string]any{
			"task": "t.add", "argsrepr": "(1, 'é')", "kwargsrepr": "{}", "hostname": "w@h", "periodic_task_name": "every é",
			"meta": map[string]any{"k": 1},
		}}, celeryproto.ResultMeta{
		Status: "STARTED", Result: raw(`{"pid": 1}`), Extended: &celeryproto.ResultExtended{Name: "t.add", Worker: "w@h"},
		Request: &celeryproto.ResultRequest{
			ArgsRepr: "(1, 'é')", KwargsRepr: "{}", PeriodicTaskName: "every é", Meta: raw(`{"k": 1}`),
		},
	}},
	{"failed, extended", map[string]any{
		"status": "FAILURE", "raised": []any{"ValueError", []any{"no", 1, "é"}}, "traceback": "line\n\tline é", "extended": true,
		"request": map[string]any{"task": "t.add", "args": []any{1, "é"}, "kwargs": map[string]any{"a": nil},
			"children": []any{[]any{[]any{"c", nil}, nil}}}}, celeryproto.ResultMeta{
		Status: "FAILURE", Result: raw(valueError), Traceback: "line\n\tline é", Children: raw(`[[["c", null], null]]`),
		Extended: &celeryproto.ResultExtended{Name: "t.add", Args: raw(`[1, "é"]`), Kwargs: raw(`{"a": null}`)},
	}},
	{"failed", map[string]any{
		"status": "FAILURE", "raised": []any{"ValueError", []any{"no", 1, "é"}}, "traceback": "gone", "request": map[string]any{"task": "t.add"},
	}, celeryproto.ResultMeta{Status: "FAILURE", Result: raw(valueError), Traceback: "gone"}},
	{"null", map[string]any{"status": "SUCCESS"}, celeryproto.ResultMeta{Status: "SUCCESS", Children: raw("null")}},
	{"last one counts", map[string]any{"status": "RETRY", "raised": []any{"KeyError", []any{}}, "request": map[string]any{}},
		celeryproto.ResultMeta{Status: "RETRY", Result: raw(`{"exc_type": "KeyError", "exc_message": [], "exc_module": "builtins"}`)}},
}

// row is a row as Python's driver gives it, without what differs by nature.
type row map[string]any

// shape replaces times by their type and drops the keys, so that two rows can be compared.
func (r row) shape() row {
	out := row{}
	for name, value := range r {
		if typed, ok := value.(map[string]any); ok {
			for kind := range typed {
				value = kind
			}
		}
		if name != "id" && name != "task_id" && name != "group_id" {
			out[name] = value
		}
	}
	return out
}

func (s *site) row(t testing.TB, table, key string) row {
	t.Helper()
	rows := ask[[]row](t, s, "rows", map[string]any{"name": table, "keys": []string{key}})
	if len(rows) != 1 {
		t.Fatalf("%d rows of %s %s", len(rows), table, key)
	}
	return rows[0]
}

// Each column is what Python leaves there.
func TestRowsAsPython(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		b := s.open(t)
		theirs, ours := newID(), newID()
		for _, c := range calls {
			must(t, s.request("store", with(c.python, "task_id", theirs), nil))
			m := c.meta
			m.TaskID = ours
			must(t, b.Store(t.Context(), &m))
			if diff := cmp.Diff(s.row(t, "task", theirs).shape(), s.row(t, "task", ours).shape()); diff != "" {
				t.Errorf("%s: Python (-) and Go (+):\n%s", c.name, diff)
			}
		}
	})
}

func with(m map[string]any, name string, value any) map[string]any {
	out := map[string]any{name: value}
	for k, v := range m {
		out[k] = v
	}
	return out
}

// What Go stores, AsyncResult and the admin read; what Python stores, Go reads.
func TestReadEachOther(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		b := s.open(t)
		for _, c := range calls {
			theirs, ours := newID(), newID()
			must(t, s.request("store", with(c.python, "task_id", theirs), nil))
			m := c.meta
			m.TaskID = ours
			m.DateDone = time.Date(2026, 5, 4, 3, 2, 1, 987654000, time.UTC)
			must(t, b.Store(t.Context(), &m))
			want := ask[map[string]any](t, s, "read", map[string]any{"task_id": theirs})
			got := ask[map[string]any](t, s, "read", map[string]any{"task_id": ours})
			if got["date_done"] != "2026-05-04 03:02:01.987654+00:00" {
				t.Errorf("%s: date_done %v", c.name, got["date_done"])
			}
			delete(want, "date_done")
			delete(got, "date_done")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: read by Python, of Python (-) and of Go (+):\n%s", c.name, diff)
			}
			fromPython := must1(b.Get(t.Context(), theirs))(t)
			fromGo := must1(b.Get(t.Context(), ours))(t)
			if age := time.Since(fromPython.DateDone); age < 0 || age > time.Minute {
				t.Errorf("%s: Python's date_done is %v ago", c.name, age)
			}
			fromPython.TaskID, fromPython.DateDone = ours, m.DateDone
			if diff := cmp.Diff(plainMeta(t, fromPython), plainMeta(t, fromGo)); diff != "" {
				t.Errorf("%s: read by Go, of Python (-) and of Go (+):\n%s", c.name, diff)
			}
			page := ask[struct {
				Status []int
				Text   []string
			}](t, s, "page", map[string]any{"model": "taskresult", "search": ours})
			if len(page.Text) != 1 || !strings.Contains(page.Text[0], ours) || page.Status[1] != 200 {
				t.Errorf("%s: the admin shows %d pages, status %v", c.name, len(page.Text), page.Status)
			}
		}
	})
}

// plainMeta is a result as JSON with what JSON leaves out.
func plainMeta(t testing.TB, m *celeryproto.ResultMeta) string {
	t.Helper()
	return string(must1(m.Append(nil))(t)) + fmt.Sprintf(" %+v", m.Request)
}

func TestGetOfPython(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		b := s.open(t)
		id := newID()
		must(t, s.request("store", with(calls[1].python, "task_id", id), nil))
		m := must1(b.Get(t.Context(), id))(t)
		x := m.Extended
		if m.Status != "STARTED" || x == nil || x.Name != "t.add" || string(x.Args) != `"(1, '\u00e9')"` || x.Worker != "w@h" ||
			m.Request.PeriodicTaskName != "every é" || string(m.Children) != "[]" {
			t.Errorf("%s %+v", plainMeta(t, m), x)
		}
		if k, ok := m.Extra.Get("k"); !ok || string(k) != "1" {
			t.Errorf("meta: %+v", m.Extra)
		}
		if _, err := b.Get(t.Context(), newID()); !errors.Is(err, celeryproto.ErrNoResult) {
			t.Errorf("none: %v", err)
		}
	})
}

func TestForget(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		b := s.open(t)
		ids := []string{newID(), newID(), newID()}
		for _, id := range ids {
			must(t, b.Store(t.Context(), &celeryproto.ResultMeta{TaskID: id, Status: "SUCCESS"}))
		}
		must(t, s.request("forget", map[string]any{"task_id": ids[2]}, nil))
		must(t, b.Forget(t.Context(), ids[0], "no such task"))
		for i, id := range ids {
			_, err := b.Get(t.Context(), id)
			if i == 1 != (err == nil) {
				t.Errorf("%d: %v", i, err)
			}
		}
	})
}

func TestGroups(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		b := s.open(t)
		theirs, ours := newID(), newID()
		tree := func(id string) string {
			return `[["` + id + `", [["p", null], null]], [[["c", null], null], [["g", null], [[["d", null], null]]]]]`
		}
		must(t, s.request("save_group", map[string]any{"tree": raw2any(tree(theirs))}, nil))
		for range 2 {
			must(t, b.SaveGroup(t.Context(), must1(celeryproto.DecodeResultTree(raw(tree(ours))))(t)))
		}
		want := s.row(t, "group", theirs).shape()
		want["result"] = strings.ReplaceAll(want["result"].(string), theirs, ours)
		if diff := cmp.Diff(want, s.row(t, "group", ours).shape()); diff != "" {
			t.Errorf("row of Python (-) and of Go (+):\n%s", diff)
		}
		if diff := cmp.Diff(raw2any(tree(ours)), ask[any](t, s, "restore_group", map[string]any{"group_id": ours})); diff != "" {
			t.Errorf("Python restores another group (+):\n%s", diff)
		}
		if got := must1(b.Group(t.Context(), theirs))(t); got.Raw().String() != tree(theirs) {
			t.Errorf("read %s", got.Raw())
		}
		must(t, b.ForgetGroup(t.Context(), ours))
		must(t, s.request("delete_group", map[string]any{"group_id": theirs}, nil))
		for _, id := range []string{ours, theirs} {
			if _, err := b.Group(t.Context(), id); !errors.Is(err, celeryproto.ErrNoResult) {
				t.Errorf("deleted group: %v", err)
			}
			if got := ask[any](t, s, "restore_group", map[string]any{"group_id": id}); got != nil {
				t.Errorf("Python restores the deleted group %v", got)
			}
		}
	})
}

// Times in databases that have no type for instants are in Django's zone: with USE_TZ that of the connection, else TIME_ZONE.
func TestTimeZones(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		kind  dbtest.Kind
		useTZ bool
		zone  string // of the database
	}{
		{dbtest.SQLite, false, "Asia/Kolkata"}, {dbtest.SQLite, true, "UTC"}, {dbtest.PostgreSQL, false, "Asia/Kolkata"},
		{dbtest.MariaDB, false, "Asia/Kolkata"},
	} {
		t.Run(fmt.Sprintf("%s %s", tc.kind, tc.zone), func(t *testing.T) {
			t.Parallel()
			s := startSite(t, sharedSite(t, tc.kind).db, settings{UseTZ: tc.useTZ, TimeZone: "Asia/Kolkata"}, tc.zone)
			b := s.open(t)
			theirs, ours := newID(), newID()
			for _, status := range []string{"STARTED", "SUCCESS"} {
				must(t, s.request("store", map[string]any{"task_id": theirs, "status": status}, nil))
				must(t, b.Store(t.Context(), &celeryproto.ResultMeta{TaskID: ours, Status: status, DateDone: time.Now()}))
			}
			want, got := s.row(t, "task", theirs), s.row(t, "task", ours)
			for _, name := range []string{"date_created", "date_started", "date_done"} {
				if d := pythonTime(t, got[name]).Sub(pythonTime(t, want[name])); d.Abs() > time.Minute {
					t.Errorf("%s: Python %v, Go %v", name, want[name], got[name])
				}
			}
			if age := time.Since(must1(b.Get(t.Context(), theirs))(t).DateDone); age.Abs() > time.Minute {
				t.Errorf("Python's date_done is %v ago", age)
			}
		})
	}
}

func pythonTime(t testing.TB, column any) time.Time {
	t.Helper()
	typed, _ := column.(map[string]any)
	text, _ := typed["datetime"].(string)
	for _, layout := range []string{"2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05"} {
		if at, err := time.Parse(layout, text); err == nil {
			return at
		}
	}
	t.Fatalf("%v is no time", column)
	return time.Time{}
}

// A whole second has no fraction in Django.
func TestWholeSeconds(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		b := s.open(t)
		id := newID()
		at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		must(t, b.Store(t.Context(), &celeryproto.ResultMeta{TaskID: id, Status: "SUCCESS", DateDone: at}))
		if got := must1(b.Get(t.Context(), id))(t).DateDone; !got.Equal(at) {
			t.Errorf("read %v", got)
		}
		if got := ask[map[string]any](t, s, "read", map[string]any{"task_id": id})["date_done"]; got != "2026-01-02 03:04:05+00:00" {
			t.Errorf("Python reads %v", got)
		}
	})
}

func TestCleanup(t *testing.T) {
	t.Parallel()
	for _, kind := range dbtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := sharedSite(t, kind)
			b := s.open(t)
			old, fresh := newID(), newID()
			past := time.Now().Add(-1000 * time.Hour)
			must(t, b.Store(t.Context(), &celeryproto.ResultMeta{TaskID: old, Status: "SUCCESS", DateDone: past}))
			must(t, b.Store(t.Context(), &celeryproto.ResultMeta{TaskID: fresh, Status: "SUCCESS"}))
			must(t, b.Cleanup(t.Context(), 999*time.Hour))
			if _, err := b.Get(t.Context(), old); !errors.Is(err, celeryproto.ErrNoResult) {
				t.Errorf("old result: %v", err)
			}
			must1(b.Get(t.Context(), fresh))(t)
			must(t, b.Store(t.Context(), &celeryproto.ResultMeta{TaskID: old, Status: "SUCCESS", DateDone: past}))
			must(t, s.request("cleanup", map[string]any{"expires": 999 * 3600}, nil))
			if _, err := b.Get(t.Context(), old); !errors.Is(err, celeryproto.ErrNoResult) {
				t.Errorf("old result after Python's cleanup: %v", err)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		b := s.open(t)
		for _, m := range []celeryproto.ResultMeta{
			{Status: "SUCCESS"}, {TaskID: "x"}, {TaskID: "x", Status: "SUCCESS", Result: raw(`{`)},
			{TaskID: "x", Status: "SUCCESS", Children: raw(`[`)},
		} {
			err := b.Store(t.Context(), &m)
			if _, ok := errors.AsType[*celeryproto.EncodeError](err); !ok || djangoresults.Retryable(err) {
				t.Errorf("%+v: %v", m, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := b.Store(ctx, &celeryproto.ResultMeta{TaskID: newID(), Status: "SUCCESS"})
		if !errors.Is(err, context.Canceled) || djangoresults.Retryable(err) {
			t.Errorf("cancelled: %v", err)
		}
		must(t, b.Close())
		if err := b.Store(t.Context(), &celeryproto.ResultMeta{TaskID: newID(), Status: "SUCCESS"}); !errors.Is(err, djangoresults.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		if _, err := b.Wait(t.Context(), newID()); !errors.Is(err, djangoresults.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
}

// What a table has no place for in a traceback is escaped; the result is there.
func TestTracebackWithoutPlace(t *testing.T) {
	t.Parallel()
	s := sharedSite(t, dbtest.MariaDB)
	narrow := &site{db: dbtest.New(t, dbtest.MariaDB), zone: "UTC"}
	const table = "django_celery_results_taskresult"
	narrow.execute(t, "CREATE TABLE "+table+" LIKE "+s.db.Settings.Name+"."+table)
	narrow.execute(t, "ALTER TABLE "+table+" CONVERT TO CHARACTER SET utf8mb3")
	b := narrow.openWith(t, func(*djangoresults.Options) {})
	m := &celeryproto.ResultMeta{
		TaskID: "x", Status: "FAILURE", Result: raw(valueError), Traceback: "one é\n\ttwo 😀\x00", Extended: &celeryproto.ResultExtended{Name: "t"},
	}
	must(t, b.Store(t.Context(), m))
	if got := must1(b.Get(t.Context(), "x"))(t).Traceback; got != "one \\u00e9\n\ttwo \\U0001f600\ufffd" {
		t.Errorf("%q", got)
	}
	m.Extended.Name = "😀"
	if err := b.Store(t.Context(), m); err == nil || djangoresults.Retryable(err) {
		t.Errorf("a name without place: %v", err)
	}
}
