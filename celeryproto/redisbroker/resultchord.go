package redisbroker

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto"
)

// Of Celery's settings for chords (celery 5.7, app/defaults.py, backends/redis.py).
const (
	defaultChordJoinTimeout    = 3 * time.Second // result_chord_join_timeout
	defaultChordPublishTimeout = 21 * time.Second
	minChordClaim              = 5 * time.Second
	minChordDone               = 300 * time.Second
)

// Suffixes of the keys of a chord, behind that of its group (celery 5.7, backends/redis.py).
const (
	chordSize       = ".s"
	chordCorrection = ".t"
	chordParts      = ".j"
	chordCounted    = ".d"
	chordClaim      = ".c"
)

// claimTime is how long a worker's claim of a complete chord holds.
func (r *Results) claimTime() time.Duration {
	return max(minChordClaim, (2 * r.opts.ChordJoinTimeout).Truncate(time.Second))
}

// headerExpires is BaseKeyValueStoreBackend._chord_result_expires.
func (r *Results) headerExpires() int {
	chord, result := seconds(r.opts.ChordExpires), seconds(r.opts.Expires)
	if chord == 0 || result == 0 {
		return 0
	}
	return max(chord, result)
}

// StartChord prepares for the parts of a chord: the first call, with the header, before any of its messages, the second,
// with the size, before the last. Only a complex header is stored.
func (r *Results) StartChord(ctx context.Context, c celeryproto.ChordStart) error {
	if c.GroupID == "" {
		return errors.New("redisbroker: start chord: no group id")
	}
	ttl := time.Duration(seconds(r.opts.ChordExpires)) * time.Second
	key := r.GroupKey(c.GroupID)
	if c.Header == nil {
		return r.retried(ctx, "start chord", func(ctx context.Context) error {
			_, err := r.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
				pipe.Del(ctx, key+chordClaim)
				pipe.Set(ctx, key+chordSize, c.Size, ttl)
				return nil
			})
			return err
		})
	}
	if !c.Complex {
		return nil
	}
	value, err := r.encodeTree(c.Header)
	if err != nil {
		return fmt.Errorf("redisbroker: start chord: %w", err)
	}
	return r.retried(ctx, "start chord", func(ctx context.Context) error { return r.client.Set(ctx, key, value, ttl).Err() })
}

// AddToChord lets a chord wait for one part more, that of tree (Task.add_to_chord). Called again for the same task, it
// changes nothing.
func (r *Results) AddToChord(ctx context.Context, groupID string, tree *celeryproto.ResultTree) error {
	if groupID == "" || tree.ID == "" {
		return errors.New("redisbroker: add to chord: no group id or no task id")
	}
	key := r.GroupKey(groupID)
	return r.retried(ctx, "add to chord", func(ctx context.Context) error {
		keys := []string{key + chordCorrection, key + chordCounted}
		return chordAddScript.Run(ctx, r.client, keys, tree.ID, seconds(r.opts.ChordExpires)).Err()
	})
}

// ChordPart counts a part that a finished task returns. The chord is returned to whoever brings the last part, if it is not
// claimed by another worker: it must then send the body, after RenewChord, or take the failure path. nil means that there is
// nothing to do. A part that is returned twice counts once.
//
// The results of a complex header, and parts that cannot be read, are those of Celery: Chord.Complex with a failed part.
func (r *Results) ChordPart(ctx context.Context, p celeryproto.ChordPart) (*celeryproto.Chord, error) {
	if p.GroupID == "" || p.TaskID == "" {
		return nil, nil
	}
	part, err := r.encodePart(&p)
	if err != nil {
		return nil, fmt.Errorf("redisbroker: chord part: %w", err)
	}
	token, err := uuid.NewRandom()
	if err != nil {
		return nil, err
	}
	chord := &celeryproto.Chord{GroupID: p.GroupID, Token: hex.EncodeToString(token[:])}
	state, err := r.countPart(ctx, &p, part, chord.Token)
	if err != nil || !state.claimed {
		return nil, err
	}
	return chord, r.gatherChord(ctx, chord, state.total)
}

// encodePart is the element of .j: [1, "<task id>", "<state>", <result>].
func (r *Results) encodePart(p *celeryproto.ChordPart) ([]byte, error) {
	raw := celeryproto.AppendString([]byte("[1, "), p.TaskID)
	raw = celeryproto.AppendString(append(raw, ", "...), p.Status)
	raw = append(raw, ", "...)
	if len(p.Result) == 0 {
		raw = append(raw, "null"...)
	}
	return r.encodeValue(append(append(raw, p.Result...), ']'))
}

// decodePart reads an element of .j.
func (r *Results) decodePart(b []byte) (celeryproto.ChordPart, error) {
	var p celeryproto.ChordPart
	raw, err := r.decodeValue(b)
	if err != nil {
		return p, err
	}
	elements, err := raw.Array()
	if err == nil && len(elements) != 4 {
		err = errors.New("expected four elements, got " + strconv.Itoa(len(elements)))
	}
	if err == nil {
		p.TaskID, err = elements[1].Text()
	}
	if err == nil {
		p.Status, err = elements[2].Text()
	}
	if err != nil {
		return p, &celeryproto.DecodeError{Part: celeryproto.PartResult, Field: "chord part", Offset: -1, Err: err}
	}
	p.Result = elements[3]
	return p, nil
}

// chordState is what chord_part.lua tells.
type chordState struct {
	claimed bool
	total   int // parts expected
}

func (r *Results) countPart(ctx context.Context, p *celeryproto.ChordPart, part []byte, token string) (chordState, error) {
	key := r.GroupKey(p.GroupID)
	keys := []string{
		key + chordParts, key + chordCorrection, key + chordSize, key + chordCounted, key, key + chordClaim,
	}
	ordered, score := 1, "+inf"
	if r.opts.ChordsUnordered {
		ordered = 0
	}
	if p.Index != nil {
		score = strconv.Itoa(*p.Index)
	}
	var reply []any
	err := r.retried(ctx, "chord part", func(ctx context.Context) error {
		var err error
		reply, err = chordPartScript.Run(ctx, r.client, keys, p.TaskID, part, ordered, score, seconds(r.opts.ChordExpires),
			r.headerExpires(), seconds(r.claimTime()), token).Slice()
		return err
	})
	if err != nil {
		return chordState{}, err
	}
	if len(reply) != 4 {
		return chordState{}, fmt.Errorf("redisbroker: chord part: %d values from the script", len(reply))
	}
	claimed, _ := reply[3].(int64)
	total, _ := reply[0].(int64) // equal to what is expected when it is claimed
	return chordState{claimed: claimed == 1, total: int(total)}, nil
}

// gatherChord reads the results of a chord that this process has claimed.
func (r *Results) gatherChord(ctx context.Context, chord *celeryproto.Chord, total int) error {
	tree, err := r.chordHeader(ctx, chord.GroupID)
	if err != nil {
		return r.failedJoin(chord, err)
	}
	if tree != nil {
		return r.joinChord(ctx, chord, tree)
	}
	var parts []string
	key := r.GroupKey(chord.GroupID) + chordParts
	err = r.retried(ctx, "chord parts", func(ctx context.Context) error {
		var err error
		if r.opts.ChordsUnordered {
			parts, err = r.client.LRange(ctx, key, 0, int64(total)).Result()
		} else {
			parts, err = r.client.ZRange(ctx, key, 0, -1).Result()
		}
		return err
	})
	if err != nil {
		return err
	}
	chord.Results = make([]celeryproto.ChordPart, len(parts))
	for i, part := range parts {
		p, err := r.decodePart([]byte(part))
		if err != nil {
			return r.failedJoin(chord, err)
		}
		p.GroupID = chord.GroupID
		chord.Results[i] = p
	}
	return nil
}

// chordHeader is the stored header of a complex chord, nil for others.
func (r *Results) chordHeader(ctx context.Context, groupID string) (*celeryproto.ResultTree, error) {
	var tree *celeryproto.ResultTree
	err := r.retried(ctx, "chord header", func(ctx context.Context) error {
		b, err := r.client.Get(ctx, r.GroupKey(groupID)).Bytes()
		if errors.Is(err, redis.Nil) {
			return nil
		}
		if err == nil {
			tree, err = r.decodeTree(b)
		}
		return err
	})
	return tree, err
}

// failedJoin makes a chord of which something cannot be read one that has failed, as in Celery: else nobody would ever end
// it. Trouble with Redis stays an error.
func (r *Results) failedJoin(chord *celeryproto.Chord, err error) error {
	_, undecodable := errors.AsType[*celeryproto.DecodeError](err)
	_, unsupported := errors.AsType[*celeryproto.UnsupportedError](err)
	if !undecodable && !unsupported {
		return err
	}
	exc, encodeErr := celeryproto.NewException("kombu.exceptions", "DecodeError", err.Error()).Raw()
	if encodeErr != nil {
		return encodeErr
	}
	chord.Complex = true
	chord.Results = []celeryproto.ChordPart{{GroupID: chord.GroupID, Status: celeryproto.StatusFailure, Result: exc}}
	return nil
}

// RenewChord prolongs the claim for the time that sending the body may take. It is false when another worker has claimed
// the chord meanwhile: then the body must not be sent.
func (r *Results) RenewChord(ctx context.Context, c *celeryproto.Chord) (bool, error) {
	key := r.GroupKey(c.GroupID)
	var renewed int
	err := r.retried(ctx, "renew chord", func(ctx context.Context) error {
		var err error
		renewed, err = chordExtendScript.Run(ctx, r.client, []string{key + chordClaim, key + chordSize}, c.Token,
			seconds(max(r.claimTime(), r.opts.ChordPublishTimeout))).Int()
		return err
	})
	return renewed == 1, err
}

// FinishChord removes the chord after its body was sent. For some minutes it is remembered as done, for parts that come
// late.
func (r *Results) FinishChord(ctx context.Context, c *celeryproto.Chord) error {
	key := r.GroupKey(c.GroupID)
	keys := []string{key + chordClaim, key + chordParts, key + chordCorrection, key + chordSize, key + chordCounted}
	var finished int
	err := r.retried(ctx, "finish chord", func(ctx context.Context) error {
		var err error
		finished, err = chordFinishScript.Run(ctx, r.client, keys, c.Token, seconds(max(2*r.claimTime(), minChordDone))).Int()
		return err
	})
	if err == nil && finished == 0 {
		// As in Celery, its keys are left to expire.
		r.opts.Logger.Warn("redisbroker: claim of a chord was lost before it was finished", "group", c.GroupID)
	}
	return err
}

// FailChord makes sure that nobody else ends the chord after the failure path was taken. The parts expire.
func (r *Results) FailChord(ctx context.Context, c *celeryproto.Chord) error {
	key := r.GroupKey(c.GroupID) + chordSize
	return r.retried(ctx, "fail chord", func(ctx context.Context) error { return r.client.Del(ctx, key).Err() })
}
