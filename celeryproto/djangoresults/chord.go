package djangoresults

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/dfws/dfws/celeryproto"
)

// recountBelow is the number of parts that a chord has yet to return below which the counter is compared with the results that
// are there: about as many parts may have been counted twice.
const recountBelow = 8

// chordRow is a row of the table of chords. While it exists, its lock says who may change it.
type chordRow struct {
	id       int64
	subTasks string
	count    int64
}

// lockChord reads the row of a chord and keeps others from it until the transaction ends; nil when there is none.
func (b *Backend) lockChord(ctx context.Context, tx *sql.Tx, groupID string) (*chordRow, error) {
	var c *chordRow
	err := b.query(ctx, tx, "SELECT id, sub_tasks, count FROM "+chordTable+" WHERE group_id = ?"+b.d.lock, []any{groupID},
		func(rows *sql.Rows) error {
			c = &chordRow{}
			return rows.Scan(&c.id, &c.subTasks, &c.count)
		})
	return c, err
}

// header decodes the results of the header.
func (c *chordRow) header() ([]celeryproto.ResultTree, error) {
	raw := celeryproto.Raw(strings.TrimRight(c.subTasks, claimAlphabet))
	if err := celeryproto.CheckJSON(raw, celeryproto.JSONLimits{}); err != nil {
		return nil, &celeryproto.DecodeError{Part: celeryproto.PartResult, Field: "sub_tasks", Offset: -1, Err: err}
	}
	elements, err := raw.Array()
	if err != nil {
		return nil, &celeryproto.DecodeError{Part: celeryproto.PartResult, Field: "sub_tasks", Offset: -1, Err: err}
	}
	members := make([]celeryproto.ResultTree, len(elements))
	for i, element := range elements {
		tree, err := celeryproto.DecodeResultTree(element)
		if err != nil {
			return nil, err
		}
		members[i] = *tree
	}
	return members, nil
}

// encodeHeader writes the results of a header as apply_chord does.
func encodeHeader(members []celeryproto.ResultTree) string {
	out := []byte{'['}
	for i := range members {
		if i > 0 {
			out = append(out, ", "...)
		}
		out = members[i].Append(out)
	}
	return string(append(out, ']'))
}

// leaves are the tasks that a header consists of: each returns one part.
func leaves(members []celeryproto.ResultTree) []string {
	var ids []string
	for i := range members {
		ids = members[i].TaskIDs(ids)
	}
	return ids
}

// StartChord stores the header of a chord (apply_chord). That of set_chord_size changes nothing: the size of a header is known
// from its results.
func (b *Backend) StartChord(ctx context.Context, c celeryproto.ChordStart) error {
	if c.Header == nil {
		return nil
	}
	members := c.Header.Children
	query := b.d.bind("INSERT INTO " + chordTable + " (group_id, sub_tasks, count) VALUES (?, ?, ?)" + fill(b.d.keep, "group_id"))
	return b.do(ctx, "start chord", func(ctx context.Context) error {
		_, err := b.db.ExecContext(ctx, query, c.GroupID, encodeHeader(members), len(leaves(members)))
		return err
	})
}

// AddToChord makes the header of a chord one result larger. Python's backend has nothing like it. ErrNoChord when the chord is
// not there.
func (b *Backend) AddToChord(ctx context.Context, groupID string, r *celeryproto.ResultTree) error {
	return b.inTx(ctx, "add to chord", func(ctx context.Context, tx *sql.Tx) error {
		c, err := b.lockChord(ctx, tx, groupID)
		if err != nil {
			return err
		}
		if c == nil {
			return ErrNoChord
		}
		members, err := c.header()
		if err != nil {
			return err
		}
		for i := range members {
			if members[i].ID == r.ID { // the call is repeated
				return nil
			}
		}
		c.subTasks = encodeHeader(append(members, *r))
		c.count += int64(len(r.TaskIDs(nil)))
		return b.update(ctx, tx, c)
	})
}

func (b *Backend) update(ctx context.Context, tx *sql.Tx, c *chordRow) error {
	_, err := tx.ExecContext(ctx, b.d.bind("UPDATE "+chordTable+" SET sub_tasks = ?, count = ? WHERE id = ?"), c.subTasks, c.count, c.id)
	return err
}

// ChordPart counts the end of a header's task, whose result must have been stored. It returns the chord to the one caller that
// has to send the body, with a claim that lasts Options.ChordClaim; nil to all others, and when there is no such chord.
// ErrChordHeld, which is retryable, says that the chord is complete and that another process has the claim.
func (b *Backend) ChordPart(ctx context.Context, p celeryproto.ChordPart) (*celeryproto.Chord, error) {
	const op = "chord part"
	var members []celeryproto.ResultTree
	var held claim
	err := b.inTx(ctx, op, func(ctx context.Context, tx *sql.Tx) (err error) {
		members, held, err = b.count(ctx, tx, p.GroupID)
		return err
	})
	if err != nil || held == (claim{}) {
		return nil, err
	}
	chord := &celeryproto.Chord{GroupID: p.GroupID, Token: held.token(), Plain: true}
	for i := range members {
		chord.Complex = chord.Complex || members[i].IsGroup
	}
	err = b.do(ctx, op, func(ctx context.Context) (err error) {
		chord.Results, err = b.join(ctx, p.GroupID, members)
		return err
	})
	if err != nil {
		return nil, err // the claim ends by itself
	}
	return chord, nil
}

// count counts one part. A claim that is not zero says that the chord is complete and the caller's.
func (b *Backend) count(ctx context.Context, tx *sql.Tx, groupID string) (members []celeryproto.ResultTree, held claim, err error) {
	c, err := b.lockChord(ctx, tx, groupID)
	if err != nil {
		return nil, claim{}, err
	}
	if c == nil {
		b.log.WarnContext(ctx, "chord is not there: it was completed, or never started", "group", groupID)
		return nil, claim{}, nil
	}
	was, claimed := claimOf(c.subTasks)
	rest := c.count - 1
	if !claimed && rest >= recountBelow {
		c.count = rest
		return nil, claim{}, b.update(ctx, tx, c)
	}
	now, err := b.seconds(ctx, tx)
	if err != nil {
		return nil, claim{}, err
	}
	if claimed && was.until > now {
		return nil, claim{}, ErrChordHeld
	}
	if members, err = c.header(); err != nil {
		return nil, claim{}, err
	}
	if !claimed {
		unready, err := b.unready(ctx, tx, leaves(members))
		if err != nil {
			return nil, claim{}, err
		}
		if rest = max(rest, unready); rest > 0 {
			c.count = rest
			return nil, claim{}, b.update(ctx, tx, c)
		}
	}
	held = newClaim(now + b.claimSeconds())
	c.subTasks, c.count = encodeHeader(members)+held.text(), 1
	return members, held, b.update(ctx, tx, c)
}

// unready counts the tasks without a final result.
func (b *Backend) unready(ctx context.Context, q queryer, ids []string) (int64, error) {
	unready := make(map[string]struct{}, len(ids))
	for _, id := range ids {
		unready[id] = struct{}{}
	}
	for chunk := range chunks(ids) {
		query := "SELECT task_id FROM " + taskTable + " WHERE task_id IN (" + list(len(chunk)) + ") AND status IN (" + list(len(readyStates)) + ")"
		err := b.query(ctx, q, query, append(texts(chunk), readyStates...), func(rows *sql.Rows) error {
			var id string
			err := rows.Scan(&id)
			delete(unready, id)
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return int64(len(unready)), nil
}

// join reads the results of a header, as GroupResult.join does.
func (b *Backend) join(ctx context.Context, groupID string, members []celeryproto.ResultTree) ([]celeryproto.ChordPart, error) {
	found, err := b.tasks(ctx, b.db, leaves(members), false)
	if err != nil {
		return nil, err
	}
	rows := make(map[string]*taskRow, len(found))
	for i := range found {
		rows[found[i].id] = &found[i]
	}
	parts := make([]celeryproto.ChordPart, len(members))
	for i := range members {
		parts[i] = b.part(rows, &members[i])
		parts[i].GroupID, parts[i].Index = groupID, &i
	}
	return parts, nil
}

// part is one member's result: for a group, an array of its members' or the first failure among them.
func (b *Backend) part(rows map[string]*taskRow, t *celeryproto.ResultTree) celeryproto.ChordPart {
	p := celeryproto.ChordPart{TaskID: t.ID, Status: celeryproto.StatusSuccess}
	if t.IsGroup {
		array := []byte{'['}
		for i := range t.Children {
			member := b.part(rows, &t.Children[i])
			if member.Failed() {
				p.Status, p.Result = member.Status, member.Result
				return p
			}
			if i > 0 {
				array = append(array, ", "...)
			}
			array = append(array, member.Result...)
		}
		p.Result = append(array, ']')
		return p
	}
	failed := func(module, class, text string) celeryproto.ChordPart {
		p.Status = celeryproto.StatusFailure
		p.Result, _ = celeryproto.NewException(module, class, text).Raw() // its parts are texts: it cannot fail
		return p
	}
	row := rows[t.ID]
	if row == nil || !celeryproto.IsReady(row.status) { // deleted or run again since it was counted
		return failed("celery.exceptions", "TimeoutError", "The operation timed out.")
	}
	m, err := b.meta(row)
	if _, unsupported := errors.AsType[*celeryproto.UnsupportedError](err); unsupported {
		return failed("kombu.exceptions", "ContentDisallowed", err.Error())
	}
	if err != nil {
		return failed("kombu.exceptions", "DecodeError", err.Error())
	}
	if p.Status, p.Result = m.Status, m.Result; len(p.Result) == 0 {
		p.Result = celeryproto.Raw("null")
	}
	return p
}

// RenewChord keeps the caller's chord for another Options.ChordClaim; false when it is somebody else's by now.
func (b *Backend) RenewChord(ctx context.Context, chord *celeryproto.Chord) (bool, error) {
	var ours bool
	err := b.inTx(ctx, "renew chord", func(ctx context.Context, tx *sql.Tx) error {
		c, held, err := b.lockClaimed(ctx, tx, chord)
		if err != nil || c == nil {
			return err
		}
		now, err := b.seconds(ctx, tx)
		if err != nil {
			return err
		}
		ours = true
		held.until = now + b.claimSeconds()
		c.subTasks = strings.TrimRight(c.subTasks, claimAlphabet) + held.text()
		return b.update(ctx, tx, c)
	})
	return ours && err == nil, err
}

// FinishChord ends a chord whose body was sent. One that is somebody else's by now is left alone.
func (b *Backend) FinishChord(ctx context.Context, chord *celeryproto.Chord) error {
	return b.inTx(ctx, "finish chord", func(ctx context.Context, tx *sql.Tx) error {
		c, _, err := b.lockClaimed(ctx, tx, chord)
		if err != nil || c == nil {
			return err
		}
		_, err = tx.ExecContext(ctx, b.d.bind("DELETE FROM "+chordTable+" WHERE id = ?"), c.id)
		return err
	})
}

// FailChord ends a chord whose header failed, once those who wait for the body know.
func (b *Backend) FailChord(ctx context.Context, chord *celeryproto.Chord) error {
	return b.FinishChord(ctx, chord)
}

// lockClaimed is lockChord for the holder of a claim; nil when somebody else has the chord, or had it.
func (b *Backend) lockClaimed(ctx context.Context, tx *sql.Tx, chord *celeryproto.Chord) (*chordRow, claim, error) {
	c, err := b.lockChord(ctx, tx, chord.GroupID)
	if err != nil || c == nil {
		return nil, claim{}, err
	}
	held, ok := claimOf(c.subTasks)
	if !ok || held.token() != chord.Token {
		return nil, claim{}, nil
	}
	return c, held, nil
}

// seconds is the database's clock, which all processes share.
func (b *Backend) seconds(ctx context.Context, q queryer) (now int64, err error) {
	err = b.query(ctx, q, "SELECT "+b.d.seconds, nil, func(rows *sql.Rows) error { return rows.Scan(&now) })
	return now, err
}
