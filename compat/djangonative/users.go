package djangonative

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/djangoresults"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/djangostate"
)

// user is a row of the table of users.
type user struct {
	id       string          // the primary key as Python prints it
	pk       celeryproto.Raw // the same as kombu's JSON has it
	username string
	password string

	active, staff, superuser bool
}

func (u *user) stamp() string { return djangostate.Stamp(u.password, u.active, u.staff, u.superuser) }

// users are the rows of AUTH_USER_MODEL.
type users struct {
	database *database
	auth     *compat.NativeAuth
	backends map[string]bool // path → whether users may be inactive
	keys     []djangostate.Key
	columns  string
}

func newUsers(auth *compat.NativeAuth, d *database) (*users, error) {
	u := &users{database: d, auth: auth, backends: map[string]bool{}}
	for _, b := range auth.Backends {
		u.backends[b.Path] = b.Inactive
	}
	var err error
	if u.keys, err = parseKeys(auth.HashKeys); err != nil {
		return nil, fmt.Errorf("djangonative: native.auth.hash_keys: %w", err)
	}
	row := &auth.User
	columns := []string{d.quote(row.Username), d.quote(row.Password)}
	for _, flag := range []compat.NativeFlag{row.IsActive, row.IsStaff, row.IsSuperuser} {
		columns = append(columns, d.flag(flag))
	}
	u.columns = strings.Join(columns, ", ")
	return u, nil
}

// flag is a column, or a constant in its place.
func (d *database) flag(f compat.NativeFlag) string {
	switch {
	case f.Column != "":
		return d.quote(f.Column)
	case f.Value:
		return "1 = 1"
	default:
		return "1 = 0"
	}
}

func parseKeys(texts []compat.Secret) ([]djangostate.Key, error) {
	keys := make([]djangostate.Key, len(texts))
	for i, text := range texts {
		var err error
		if keys[i], err = djangostate.ParseKey(text.Reveal()); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// of returns the user of a session by the rules of django.contrib.auth.get_user; nil for nobody.
func (u *users) of(ctx context.Context, s *djangostate.Session) (*user, error) {
	inactive, known := u.backends[s.Backend]
	if s.UserID == "" || !known {
		return nil, nil
	}
	id, parameter, ok := u.key(s.UserID)
	if !ok {
		return nil, nil
	}
	found, err := u.load(ctx, id, parameter)
	if err != nil {
		return nil, err
	}
	if found == nil || !found.active && !inactive || !djangostate.VerifyAuthHash(s.AuthHash, found.password, u.keys...) {
		return nil, nil
	}
	return found, nil
}

// key reads a primary key; false for what none can be.
func (u *users) key(text string) (id string, parameter any, ok bool) {
	switch u.auth.User.PK.Kind {
	case "int":
		n, err := strconv.ParseInt(text, 10, 64)
		return strconv.FormatInt(n, 10), n, err == nil
	case "uuid":
		parsed, err := uuid.Parse(text)
		if err != nil {
			return "", nil, false
		}
		if u.database.vendor == djangoresults.PostgreSQL {
			return parsed.String(), parsed.String(), true
		}
		return parsed.String(), hexOf(parsed), true // char(32); MariaDB's type uuid reads that, too
	default:
		return text, text, true
	}
}

func hexOf(id uuid.UUID) string { return strings.ReplaceAll(id.String(), "-", "") }

// load returns the row of a user, nil if there is none.
func (u *users) load(ctx context.Context, id string, parameter any) (*user, error) {
	row, d := &u.auth.User, u.database
	mark := d.mark(1)
	if row.PK.Kind == "uuid" && d.vendor == djangoresults.PostgreSQL {
		mark = "CAST(" + mark + " AS uuid)"
	}
	query := fmt.Sprintf("SELECT %s FROM %s WHERE %s = %s", u.columns, d.quote(row.Table), d.quote(row.PK.Column), mark)
	found := &user{id: id, pk: u.json(id)}
	err := d.db.QueryRowContext(ctx, query, parameter).Scan(&found.username, &found.password, &found.active, &found.staff, &found.superuser)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return found, err
}

// json is a primary key as kombu writes it (kombu 5.7, utils/json.py).
func (u *users) json(id string) celeryproto.Raw {
	switch u.auth.User.PK.Kind {
	case "int":
		return celeryproto.Raw(id)
	case "uuid":
		return celeryproto.Raw(`{"__type__": "uuid", "__value__": {"hex": "` + strings.ReplaceAll(id, "-", "") + `"}}`)
	default:
		return celeryproto.Raw(celeryproto.AppendString(nil, id))
	}
}
