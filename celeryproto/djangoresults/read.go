package djangoresults

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

// mostIDs is how many IDs stand in one statement.
const mostIDs = 500

// taskRow is a row of the table of results.
type taskRow struct {
	id, status, contentType, encoding                                string
	result, done, traceback, meta, name, args, kwargs, worker, every sql.NullString
}

func (b *Backend) taskQuery() string {
	return "SELECT task_id, status, content_type, content_encoding, result, " + fill(b.d.dateText, "date_done") +
		", traceback, meta, task_name, task_args, task_kwargs, worker, periodic_task_name FROM " + taskTable
}

func (r *taskRow) scan(rows *sql.Rows) error {
	return rows.Scan(&r.id, &r.status, &r.contentType, &r.encoding, &r.result, &r.done, &r.traceback, &r.meta, &r.name, &r.args, &r.kwargs,
		&r.worker, &r.every)
}

// query runs a SELECT and hands each row to scan.
func (b *Backend) query(ctx context.Context, q queryer, query string, args []any, scan func(*sql.Rows) error) error {
	rows, err := q.QueryContext(ctx, b.d.bind(query), args...)
	if err != nil {
		return err
	}
	for rows.Next() {
		if err := scan(rows); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

// tasks reads the rows of some tasks; ready leaves out what is not final.
func (b *Backend) tasks(ctx context.Context, q queryer, ids []string, ready bool) ([]taskRow, error) {
	var found []taskRow
	for chunk := range chunks(ids) {
		query := b.taskQuery() + " WHERE task_id IN (" + list(len(chunk)) + ")"
		args := texts(chunk)
		if ready {
			query += " AND status IN (" + list(len(readyStates)) + ")"
			args = append(args, readyStates...)
		}
		err := b.query(ctx, q, query, args, func(rows *sql.Rows) error {
			var r taskRow
			err := r.scan(rows)
			found = append(found, r)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

var readyStates = []any{celeryproto.StatusSuccess, celeryproto.StatusFailure, celeryproto.StatusRevoked}

// chunks are IDs in portions for one statement each.
func chunks(ids []string) func(func([]string) bool) {
	return func(yield func([]string) bool) {
		for len(ids) > 0 {
			n := min(len(ids), mostIDs)
			if !yield(ids[:n]) {
				return
			}
			ids = ids[n:]
		}
	}
}

func texts(ids []string) []any {
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	return args
}

// meta is what the row says.
func (b *Backend) meta(r *taskRow) (*celeryproto.ResultMeta, error) {
	m := &celeryproto.ResultMeta{
		TaskID: r.id, Status: r.status, Traceback: r.traceback.String, Children: celeryproto.Raw("null"),
	}
	var err error
	if m.Result, err = b.content.decode(r.status, r.contentType, r.encoding, r.result.String); err != nil {
		return nil, err
	}
	if r.done.Valid {
		if m.DateDone, err = b.parseTime(r.done.String); err != nil {
			return nil, errors.New("date_done: " + quoted(r.done.String) + " is no time")
		}
	}
	meta, err := b.content.decode("", r.contentType, r.encoding, r.meta.String)
	if err != nil {
		return nil, err
	}
	if meta.Kind() == celeryproto.KindObject {
		if m.Extra, err = meta.Object(); err != nil {
			return nil, err
		}
		if children, ok := m.Extra.Get("children"); ok {
			m.Children = children
			m.Extra.Delete("children")
		}
	}
	if r.name.Valid || r.args.Valid || r.kwargs.Valid || r.worker.Valid {
		m.Extended = &celeryproto.ResultExtended{
			Name: r.name.String, Args: b.argument(r, r.args.String), Kwargs: b.argument(r, r.kwargs.String), Worker: r.worker.String,
		}
	}
	if r.every.Valid {
		m.Request = &celeryproto.ResultRequest{PeriodicTaskName: r.every.String}
	}
	return m, nil
}

// argument reads task_args or task_kwargs, mostly a text that Python's repr made. As in Python, what is no JSON is taken as it
// is.
func (b *Backend) argument(r *taskRow, text string) celeryproto.Raw {
	raw, err := b.content.decode("", r.contentType, r.encoding, text)
	if err != nil {
		return quote(text)
	}
	return raw
}

// Get reads a task's result: celeryproto.ErrNoResult when there is none (state PENDING). A STARTED or RETRY is a result too.
// Extended is there when the row has any of its columns; its arguments are what Python's repr made of them. The error can be a
// *celeryproto.DecodeError or *celeryproto.UnsupportedError.
func (b *Backend) Get(ctx context.Context, taskID string) (*celeryproto.ResultMeta, error) {
	var found []taskRow
	err := b.do(ctx, "get result", func(ctx context.Context) (err error) {
		found, err = b.tasks(ctx, b.db, []string{taskID}, false)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, celeryproto.ErrNoResult
	}
	m, err := b.meta(&found[0])
	return m, b.wrap("get result", err)
}

// Group reads the results that a group consists of; celeryproto.ErrNoResult when there are none.
func (b *Backend) Group(ctx context.Context, groupID string) (*celeryproto.ResultTree, error) {
	var contentType, encoding string
	var result sql.NullString
	err := b.do(ctx, "get group", func(ctx context.Context) error {
		return b.query(ctx, b.db, "SELECT content_type, content_encoding, result FROM "+groupTable+" WHERE group_id = ?", []any{groupID},
			func(rows *sql.Rows) error { return rows.Scan(&contentType, &encoding, &result) })
	})
	if err != nil {
		return nil, err
	}
	raw, err := b.content.decode("", contentType, encoding, result.String)
	if err != nil {
		return nil, b.wrap("get group", err)
	}
	if raw.IsNull() {
		return nil, celeryproto.ErrNoResult
	}
	tree, err := celeryproto.DecodeResultTree(raw)
	return tree, b.wrap("get group", err)
}

// Forget deletes results. What is not there is no error.
func (b *Backend) Forget(ctx context.Context, taskIDs ...string) error {
	return b.do(ctx, "forget result", func(ctx context.Context) error { return b.deleteAll(ctx, b.db, taskTable, "task_id", taskIDs) })
}

// ForgetGroup deletes what SaveGroup stored, not the results of the members.
func (b *Backend) ForgetGroup(ctx context.Context, groupID string) error {
	return b.do(ctx, "forget group", func(ctx context.Context) error {
		return b.deleteAll(ctx, b.db, groupTable, "group_id", []string{groupID})
	})
}

func (b *Backend) deleteAll(ctx context.Context, q queryer, table, key string, ids []string) error {
	for chunk := range chunks(ids) {
		query := "DELETE FROM " + table + " WHERE " + key + " IN (" + list(len(chunk)) + ")"
		if _, err := q.ExecContext(ctx, b.d.bind(query), texts(chunk)...); err != nil {
			return err
		}
	}
	return nil
}

// Cleanup deletes the results and groups that are older than expires, as Celery's task celery.backend_cleanup does once a day in
// a Python worker.
func (b *Backend) Cleanup(ctx context.Context, expires time.Duration) error {
	before := b.time(time.Now().Add(-expires))
	return b.do(ctx, "clean up", func(ctx context.Context) error {
		for _, table := range []string{taskTable, groupTable} {
			query := "DELETE FROM " + table + " WHERE date_done < ?"
			if _, err := b.db.ExecContext(ctx, b.d.bind(query), before); err != nil {
				return fmt.Errorf("%s: %w", table, err)
			}
		}
		return nil
	})
}
