package djangonative

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/dfws/dfws/celeryproto/djangoresults"
	"github.com/dfws/dfws/compat/djangostate"
)

// recheckBatch is how many rows one query asks for.
const recheckBatch = 500

// Recheck tells which of these identities Django would not accept any more: their session is gone, or their user has another password, other
// flags, or none. It needs one query per 500 users and, except with signed cookies, as many for their sessions. An error means that nothing
// is known.
func (r *Reader) Recheck(ctx context.Context, known []djangostate.Known) (stale []bool, err error) {
	stale = make([]bool, len(known))
	if r.users == nil {
		return stale, nil
	}
	rows, err := r.users.loadAll(ctx, known)
	if err != nil {
		return nil, fmt.Errorf("djangonative: users: %w", err)
	}
	living, err := r.livingSessions(ctx, known)
	if err != nil {
		return nil, fmt.Errorf("djangonative: sessions: %w", err)
	}
	for i, k := range known {
		u := rows[k.UserID]
		stale[i] = u == nil || u.stamp() != k.Stamp || !living[k.Session]
	}
	return stale, nil
}

// livingSessions returns those of the sessions that are still there.
func (r *Reader) livingSessions(ctx context.Context, known []djangostate.Known) (map[string]bool, error) {
	living := make(map[string]bool, len(known))
	if table, ok := r.sessions.(*tableSessions); ok {
		return living, table.addLiving(ctx, living, known)
	}
	for _, k := range known {
		if _, asked := living[k.Session]; asked {
			continue
		}
		session, err := r.sessions.load(ctx, k.Session)
		if err != nil && !errors.Is(err, errNone) {
			return nil, err
		}
		living[k.Session] = err == nil && session.UserID != ""
	}
	return living, nil
}

// addLiving asks for many sessions at once.
func (s *tableSessions) addLiving(ctx context.Context, living map[string]bool, known []djangostate.Known) error {
	keys := make([]any, 0, len(known))
	seen := make(map[string]bool, len(known))
	for _, k := range known {
		if !seen[k.Session] {
			seen[k.Session] = true
			keys = append(keys, k.Session)
		}
	}
	d := s.database
	for len(keys) > 0 {
		batch := keys[:min(len(keys), recheckBatch)]
		keys = keys[len(batch):]
		query := fmt.Sprintf("SELECT %s FROM %s WHERE %s > %s AND %s IN (%s)", d.quote("session_key"), d.quote(s.table),
			d.quote("expire_date"), d.mark(1), d.quote("session_key"), d.marks(2, len(batch), ""))
		args := append([]any{d.moment(s.now())}, batch...)
		err := d.each(ctx, query, args, func(rows *sql.Rows) error {
			var key string
			err := rows.Scan(&key)
			living[key] = true
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// marks are n parameters from the first one on; cast is a type or "".
func (d *database) marks(first, n int, cast string) string {
	marks := make([]string, n)
	for i := range marks {
		marks[i] = d.mark(first + i)
		if cast != "" {
			marks[i] = "CAST(" + marks[i] + " AS " + cast + ")"
		}
	}
	return strings.Join(marks, ", ")
}

// each calls scan for each row of a query.
func (d *database) each(ctx context.Context, query string, args []any, scan func(*sql.Rows) error) (err error) {
	rows, err := d.db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// loadAll returns the rows of these users by their primary key as text.
func (u *users) loadAll(ctx context.Context, known []djangostate.Known) (map[string]*user, error) {
	found := make(map[string]*user, len(known))
	parameters := make(map[string]any, len(known))
	var order []string
	for _, k := range known {
		if _, asked := parameters[k.UserID]; asked {
			continue
		}
		if id, parameter, ok := u.key(k.UserID); ok && id == k.UserID {
			parameters[id] = parameter
			order = append(order, id)
		}
	}
	for len(order) > 0 {
		batch := order[:min(len(order), recheckBatch)]
		order = order[len(batch):]
		if err := u.loadBatch(ctx, batch, parameters, found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (u *users) loadBatch(ctx context.Context, ids []string, parameters map[string]any, found map[string]*user) error {
	row, d := &u.auth.User, u.database
	cast := ""
	if row.PK.Kind == "uuid" && d.vendor == djangoresults.PostgreSQL {
		cast = "uuid"
	}
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = parameters[id]
	}
	query := fmt.Sprintf("SELECT %s, %s FROM %s WHERE %s IN (%s)", d.quote(row.PK.Column), u.columns, d.quote(row.Table),
		d.quote(row.PK.Column), d.marks(1, len(ids), cast))
	return d.each(ctx, query, args, func(rows *sql.Rows) error {
		var pk string
		next := &user{}
		if err := rows.Scan(&pk, &next.username, &next.password, &next.active, &next.staff, &next.superuser); err != nil {
			return err
		}
		id, _, ok := u.key(pk)
		if !ok {
			return fmt.Errorf("%w: a primary key", djangostate.ErrMalformed)
		}
		found[id] = next
		return nil
	})
}
