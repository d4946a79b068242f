package djangoresults

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dfws/dfws/celeryproto"
)

// queryer is a database or a transaction.
type queryer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// column is a value to write.
type column struct {
	name  string
	value any
	sql   string // instead of value: what the database computes
}

// put writes the row of a key: it changes the one that is there, or inserts one with the columns of born besides. The insert
// comes second, since each try of one takes a number from a sequence that ends at 2,147,483,647.
func (b *Backend) put(ctx context.Context, q queryer, table string, key column, columns, born []column) error {
	var set []string
	var args []any
	for _, c := range columns {
		set = append(set, c.name+" = "+c.placeholder())
		args = c.arg(args)
	}
	query := "UPDATE " + table + " SET " + strings.Join(set, ", ") + " WHERE " + key.name + " = ?"
	result, err := q.ExecContext(ctx, b.d.bind(query), append(args, key.value)...)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n > 0 {
		return err
	}
	var names, values, update []string
	args = nil
	for _, c := range append(append([]column{key}, columns...), born...) {
		names, values = append(names, c.name), append(values, c.placeholder())
		args = c.arg(args)
	}
	for _, c := range columns {
		update = append(update, c.name+" = "+fill(b.d.incoming, c.name))
	}
	query = "INSERT INTO " + table + " (" + strings.Join(names, ", ") + ") VALUES (" + strings.Join(values, ", ") + ")" +
		fill(b.d.conflict, key.name) + strings.Join(update, ", ")
	_, err = q.ExecContext(ctx, b.d.bind(query), args...)
	return err
}

func (c column) placeholder() string {
	if c.sql != "" {
		return c.sql
	}
	return "?"
}

func (c column) arg(args []any) []any {
	if c.sql != "" {
		return args
	}
	return append(args, c.value)
}

// null is a text as a parameter, NULL when empty.
func null(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// plain is a text for people as every database takes it: PostgreSQL has no place for a zero byte.
func plain(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\ufffd"), "\x00", "\ufffd")
}

// Store stores a result. The one that was there before is gone, whatever its state, as with django-celery-results. A traceback
// with characters that the database has no place for is stored with escapes, rather than not at all.
func (b *Backend) Store(ctx context.Context, m *celeryproto.ResultMeta) error {
	err := b.store(ctx, m)
	if err == nil || Retryable(err) || ctx.Err() != nil || m.Extended == nil {
		return err
	}
	if escaped := escape(m.Traceback); escaped != m.Traceback {
		simple := *m
		simple.Traceback = escaped
		return b.store(ctx, &simple)
	}
	return err
}

// escape writes what is not ASCII as Python does in literals.
func escape(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r < utf8.RuneSelf:
			b.WriteRune(r)
		case r <= math.MaxUint16:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}

func (b *Backend) store(ctx context.Context, m *celeryproto.ResultMeta) error {
	columns, err := b.taskColumns(m)
	if err != nil {
		return &Error{Op: "store result", Err: err}
	}
	done := m.DateDone
	if done.IsZero() {
		done = time.Now()
	}
	columns = append(columns, column{name: "date_done", value: b.time(done)})
	if m.Status == celeryproto.StatusStarted {
		columns = append(columns, column{name: "date_started", sql: b.d.now})
	}
	err = b.do(ctx, "store result", func(ctx context.Context) error {
		return b.put(ctx, b.db, taskTable, column{name: "task_id", value: m.TaskID}, columns,
			[]column{{name: "date_created", value: b.time(done)}})
	})
	if err == nil && celeryproto.IsReady(m.Status) {
		b.arrived(m.TaskID)
	}
	return err
}

// taskColumns are the columns of a result but for its times (backends/database.py, _store_result).
func (b *Backend) taskColumns(m *celeryproto.ResultMeta) ([]column, error) {
	if m.TaskID == "" {
		return nil, &celeryproto.EncodeError{Path: "task_id", Err: celeryproto.ErrMissing}
	}
	if m.Status == "" {
		return nil, &celeryproto.EncodeError{Path: "status", Err: celeryproto.ErrMissing}
	}
	result, contentType, encoding, err := b.content.encode(m.Status, m.Result)
	if err != nil {
		return nil, err
	}
	var members celeryproto.Members
	if m.Request != nil && m.Request.Meta != nil {
		if members, err = m.Request.Meta.Object(); err != nil {
			return nil, &celeryproto.EncodeError{Path: "meta", Err: err}
		}
	}
	children := m.Children
	if len(children) == 0 {
		children = celeryproto.Raw("[]")
	}
	members.Set("children", children)
	meta, _, _, err := b.content.encode("", members.Append(nil))
	if err != nil {
		return nil, err
	}
	columns := []column{
		{name: "status", value: m.Status}, {name: "content_type", value: contentType}, {name: "content_encoding", value: encoding},
		{name: "result", value: result}, {name: "meta", value: meta},
	}
	extended, err := b.extendedColumns(m)
	return append(columns, extended...), err
}

// extendedColumns are those that are empty without result_extended (backends/database.py, _get_extended_properties).
func (b *Backend) extendedColumns(m *celeryproto.ResultMeta) ([]column, error) {
	values := map[string]any{}
	if x := m.Extended; x != nil {
		request := m.Request
		if request == nil {
			request = &celeryproto.ResultRequest{}
		}
		for name, part := range map[string]struct {
			repr  string
			value celeryproto.Raw
		}{"task_args": {request.ArgsRepr, x.Args}, "task_kwargs": {request.KwargsRepr, x.Kwargs}} {
			if part.repr != "" {
				part.value = quote(part.repr)
			}
			if part.value.IsNull() {
				continue
			}
			text, _, _, err := b.content.encode("", part.value)
			if err != nil {
				return nil, err
			}
			values[name] = text
		}
		values["task_name"], values["periodic_task_name"] = null(x.Name), null(request.PeriodicTaskName)
		values["worker"], values["traceback"] = null(x.Worker), null(plain(m.Traceback))
	}
	names := []string{"traceback", "periodic_task_name", "task_name", "task_args", "task_kwargs", "worker"}
	columns := make([]column, len(names))
	for i, name := range names {
		columns[i] = column{name: name, value: values[name]}
	}
	return columns, nil
}

// SaveGroup stores the results that a group consists of.
func (b *Backend) SaveGroup(ctx context.Context, group *celeryproto.ResultTree) error {
	text, contentType, encoding, err := b.content.encode("", group.Raw())
	if err != nil {
		return &Error{Op: "save group", Err: err}
	}
	now := b.time(time.Now())
	return b.do(ctx, "save group", func(ctx context.Context) error {
		return b.put(ctx, b.db, groupTable, column{name: "group_id", value: group.ID}, []column{
			{name: "content_type", value: contentType}, {name: "content_encoding", value: encoding}, {name: "result", value: text},
			{name: "date_done", value: now},
		}, []column{{name: "date_created", value: now}})
	})
}
