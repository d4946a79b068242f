package djangoresults_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/djangoresults"
	"github.com/dfws/dfws/integration/dbtest"
)

// The server is stopped, crashes and is started again: every error of that time is worth a new try, which then succeeds; who
// waits goes on waiting.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	for _, kind := range []dbtest.Kind{dbtest.PostgreSQL, dbtest.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			server := dbtest.Start(t, kind)
			s := startSite(t, server.Create(t), settings{UseTZ: true, TimeZone: "UTC"}, "UTC")
			must(t, s.request("migrate", nil, nil))
			b := s.open(t)
			id := newID()
			var wg sync.WaitGroup
			wg.Go(func() {
				if m, err := b.Wait(t.Context(), id); err != nil || m.Status != "SUCCESS" {
					t.Errorf("waiting: %+v, %v", m, err)
				}
			})
			c := newChord(t, s, b)
			c.startGo("a", "b")
			for _, stop := range []func(testing.TB){server.Stop, server.Crash} {
				must(t, b.Store(t.Context(), &celeryproto.ResultMeta{TaskID: id, Status: "STARTED"}))
				stop(t)
				for range 12 { // more than there are connections
					err := b.Store(t.Context(), &celeryproto.ResultMeta{TaskID: id, Status: "STARTED"})
					if err == nil || !djangoresults.Retryable(err) {
						t.Fatalf("%s is down: %v", kind, err)
					}
				}
				if _, err := b.ChordPart(t.Context(), celeryproto.ChordPart{GroupID: c.group}); !djangoresults.Retryable(err) {
					t.Errorf("chord part: %v", err)
				}
				server.StartAgain(t)
				persist(t, func() error {
					return b.Store(t.Context(), &celeryproto.ResultMeta{TaskID: c.id("a"), Status: "SUCCESS"})
				})
			}
			persist(t, func() error { return b.Store(t.Context(), &celeryproto.ResultMeta{TaskID: id, Status: "SUCCESS"}) })
			wg.Wait()
		})
	}
}

// persist is what a worker does: it goes on while the error is one that passes.
func persist(t testing.TB, write func() error) {
	t.Helper()
	var err error
	eventually(t, "the write succeeds", func() bool {
		err = write()
		if err != nil && !djangoresults.Retryable(err) {
			t.Fatal(err)
		}
		return err == nil
	})
}

// Another transaction is in the way for longer than anybody waits.
func TestLocked(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		var other *sql.DB
		b := s.openWith(t, func(o *djangoresults.Options) { o.Timeout = 200 * time.Millisecond })
		s.openWith(t, func(o *djangoresults.Options) { other = o.DB })
		c := newChord(t, s, b)
		c.startGo("a", "b")
		part := c.storeGo("a", "SUCCESS", "1")
		tx := must1(other.BeginTx(t.Context(), nil))(t)
		must1(tx.ExecContext(t.Context(), "UPDATE django_celery_results_chordcounter SET count = count WHERE group_id = '"+c.group+"'"))(t)
		_, err := b.ChordPart(t.Context(), part)
		if !djangoresults.Retryable(err) {
			t.Errorf("locked: %v", err)
		}
		must(t, tx.Rollback())
		persist(t, func() error {
			_, err := b.ChordPart(t.Context(), part)
			return err
		})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := b.Wait(ctx, newID()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waited too long: %v", err)
		}
	})
}

// Deadlocks pass by themselves.
func TestDeadlock(t *testing.T) {
	t.Parallel()
	for _, kind := range []dbtest.Kind{dbtest.PostgreSQL, dbtest.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := sharedSite(t, kind)
			var db *sql.DB
			var transient func(error) bool
			b := s.openWith(t, func(o *djangoresults.Options) { db, transient = o.DB, o.Transient })
			ids := []string{newID(), newID()}
			for _, id := range ids {
				must(t, b.Store(t.Context(), &celeryproto.ResultMeta{TaskID: id, Status: "SUCCESS"}))
			}
			update := func(tx *sql.Tx, id string) error {
				_, err := tx.ExecContext(t.Context(), "UPDATE django_celery_results_taskresult SET worker = 'x' WHERE task_id = '"+id+"'")
				return err
			}
			txs := [2]*sql.Tx{must1(db.BeginTx(t.Context(), nil))(t), must1(db.BeginTx(t.Context(), nil))(t)}
			must(t, update(txs[0], ids[0]))
			must(t, update(txs[1], ids[1]))
			var errs [2]error
			var wg sync.WaitGroup
			for i := range txs {
				wg.Go(func() {
					errs[i] = update(txs[i], ids[1-i])
					_ = txs[i].Rollback()
				})
			}
			wg.Wait()
			victim := errors.Join(errs[:]...)
			if victim == nil || !transient(victim) {
				t.Errorf("%v", victim)
			}
		})
	}
}

// Tables that are not there, or a file, are mistakes, found at the start.
func TestNotMigrated(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *dbtest.Database) {
		s := &site{db: d, zone: "UTC"}
		if d.Kind == dbtest.SQLite {
			must(t, os.WriteFile(d.Settings.Name, nil, 0o600))
		}
		b := s.openWith(t, func(*djangoresults.Options) {})
		if err := b.Check(t.Context()); err == nil || djangoresults.Retryable(err) {
			t.Errorf("no tables: %v", err)
		}
		err := b.Store(t.Context(), &celeryproto.ResultMeta{TaskID: "x", Status: "SUCCESS"})
		if err == nil || djangoresults.Retryable(err) {
			t.Errorf("no tables: %v", err)
		}
	})
}
