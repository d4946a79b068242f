package channelslayer

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// memberships is what a Receiver wants to be a member of, and what of that Redis may not know yet.
//
// Changes are written by group commit: while one pipeline is in flight, further changes collect in the next batch. What a batch
// writes for a group is decided when it is sent, from the state that is wanted then, and batches follow each other. So the last of a
// Join and a Leave that cross wins in Redis as it does here.
type memberships struct {
	mu        sync.Mutex
	joined    map[string]*membership // by group
	byChannel map[string]*membership // by GroupChannel
	next      *batch                 // collects changes
	dirty     map[string]struct{}    // groups whose last write failed
	flushing  bool                   // a flushLoop runs
	announced bool                   // the alive key and the entry in receivers were written
	closed    bool
}

type membership struct {
	group     string
	channel   string
	single    []string // {group}: what most messages are delivered to, made once
	confirmed bool     // written to Redis since it was joined
}

// batch is one round trip of membership changes. errs belongs to the flusher until done is closed.
type batch struct {
	groups map[string]struct{}
	done   chan struct{}
	err    error            // the round trip failed
	errs   map[string]error // Redis refused one group
}

func newBatch() *batch {
	return &batch{groups: map[string]struct{}{}, done: make(chan struct{})}
}

func newMemberships() memberships {
	return memberships{joined: map[string]*membership{}, byChannel: map[string]*membership{}, next: newBatch(), dirty: map[string]struct{}{}}
}

// maxPipeline bounds the groups written in one pipeline: Redis serves others in between.
const maxPipeline = 1000

// commandTimeout bounds one pipeline of the receiver's own upkeep.
const commandTimeout = 5 * time.Second

// groupsOf adds to groups the joined ones that channel names stand for. The result must not be changed: for one group it is shared.
func (ms *memberships) groupsOf(names channelNames, groups []string) []string {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	names.each(func(name string) {
		m, ok := ms.byChannel[name]
		switch {
		case !ok:
		case groups == nil:
			groups = m.single
		default:
			groups = append(groups[:len(groups):len(groups)], m.group)
		}
	})
	return groups
}

// Join makes this process a member of groups and returns when Redis knows, so that a message sent afterwards arrives. It is idempotent and
// costs nothing for a group that is joined. Calls at the same time share a round trip.
//
// After an error the groups are joined all the same, and Run writes them when it can: call Leave to give up.
func (r *Receiver) Join(ctx context.Context, groups ...string) error {
	var faults []error
	for _, g := range groups {
		faults = append(faults, CheckGroupName(g))
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	return wrap("join", r.change(ctx, groups, (*shardReceiver).want))
}

// Leave ends memberships and returns when Redis knows. Groups that are not joined are ignored. After an error messages may still
// come to Redis for this process, where they are dropped, until Run could write the change.
func (r *Receiver) Leave(ctx context.Context, groups ...string) error {
	return wrap("leave", r.change(ctx, groups, (*shardReceiver).unwant))
}

// want notes a membership; it reports whether Redis must be told. ms.mu is held.
func (r *shardReceiver) want(group string) bool {
	ms := &r.members
	m, ok := ms.joined[group]
	if !ok {
		group = strings.Clone(group)
		m = &membership{group: group, channel: r.GroupChannel(group), single: []string{group}}
		ms.joined[group] = m
		ms.byChannel[m.channel] = m
	}
	return !m.confirmed
}

// unwant forgets a membership; it reports whether Redis must be told. ms.mu is held.
func (r *shardReceiver) unwant(group string) bool {
	ms := &r.members
	m, ok := ms.joined[group]
	if !ok {
		return false
	}
	delete(ms.joined, group)
	delete(ms.byChannel, m.channel)
	return true
}

// change applies one change to groups and waits until Redis knows, on every server that has one of them.
func (r *Receiver) change(ctx context.Context, groups []string, apply func(s *shardReceiver, group string) bool) error {
	if len(r.shards) == 1 {
		return r.shards[0].change(ctx, groups, apply)
	}
	byServer := make(map[*shardReceiver][]string, len(r.shards))
	for _, g := range groups {
		s := r.shards[ringIndex(g, len(r.shards))]
		byServer[s] = append(byServer[s], g)
	}
	return r.eachShard(func(s *shardReceiver) error { return s.change(ctx, byServer[s], apply) })
}

// change applies one change to groups of this server and waits until its batch was written.
func (r *shardReceiver) change(ctx context.Context, groups []string, apply func(s *shardReceiver, group string) bool) error {
	ms := &r.members
	ms.mu.Lock()
	if ms.closed {
		ms.mu.Unlock()
		return ErrClosed
	}
	b, mine := ms.next, groups[:0:0]
	for _, g := range groups {
		if apply(r, g) {
			b.groups[g] = struct{}{}
			mine = append(mine, g)
		}
	}
	if len(mine) == 0 {
		ms.mu.Unlock()
		return nil
	}
	r.startFlush(ctx)
	ms.mu.Unlock()
	return b.wait(ctx, mine)
}

func (b *batch) wait(ctx context.Context, groups []string) error {
	select {
	case <-b.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if b.err != nil {
		return b.err
	}
	var faults []error
	for _, g := range groups {
		faults = append(faults, b.errs[g])
	}
	return errors.Join(faults...)
}

// startFlush makes sure that somebody writes the next batch. ms.mu is held.
func (r *shardReceiver) startFlush(ctx context.Context) {
	if !r.members.flushing {
		r.members.flushing = true
		r.flushers.Go(func() { r.flushLoop(context.WithoutCancel(ctx)) })
	}
}

// flushLoop writes batches until there is nothing more to write. Its commands have their own time limit: the callers whose changes
// it carries come and go.
func (r *shardReceiver) flushLoop(ctx context.Context) {
	ms := &r.members
	for {
		ms.mu.Lock()
		if len(ms.next.groups) == 0 {
			ms.flushing = false
			ms.mu.Unlock()
			return
		}
		b := ms.next
		ms.next = newBatch()
		wanted := make(map[string]*membership, len(b.groups))
		for g := range b.groups {
			wanted[g] = ms.joined[g]
		}
		announce := !ms.announced
		ms.mu.Unlock()

		b.errs, b.err = r.write(ctx, wanted, announce)

		ms.mu.Lock()
		ms.settle(b, wanted)
		ms.mu.Unlock()
		close(b.done)
	}
}

// settle notes what became of a batch. ms.mu is held.
func (ms *memberships) settle(b *batch, wanted map[string]*membership) {
	ms.announced = ms.announced || b.err == nil
	for g, m := range wanted {
		if b.err != nil || b.errs[g] != nil {
			ms.dirty[g] = struct{}{}
			continue
		}
		delete(ms.dirty, g)
		if m != nil {
			m.confirmed = true
		}
	}
}

// write brings Redis to the wanted state of some groups: nil means not a member.
func (r *shardReceiver) write(ctx context.Context, wanted map[string]*membership, announce bool) (map[string]error, error) {
	groups := make([]string, 0, len(wanted))
	for g := range wanted {
		groups = append(groups, g)
	}
	errs := map[string]error{}
	for chunk := range slices.Chunk(groups, maxPipeline) {
		if err := r.writeChunk(ctx, chunk, wanted, announce, errs); err != nil {
			return nil, err
		}
		announce = false
	}
	return errs, nil
}

// writeChunk is one pipelined round trip. The list of joined groups outside the layer is written before the memberships and shortened
// after them: whatever a crash leaves in a group is in the list.
func (r *shardReceiver) writeChunk(ctx context.Context, groups []string, wanted map[string]*membership, announce bool, errs map[string]error) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	p := r.shard.client.Pipeline()
	if announce {
		r.pipeAnnounce(ctx, p)
	}
	var in, out []any
	for _, g := range groups {
		if wanted[g] != nil {
			in = append(in, g)
		} else {
			out = append(out, g)
		}
	}
	if len(in) > 0 {
		p.SAdd(ctx, r.own.groups(r.id), in...)
		p.Expire(ctx, r.own.groups(r.id), r.ownTTL())
	}
	firsts := make(map[string]redis.Cmder, len(groups))
	for _, g := range groups {
		key := r.core.keys.group(g)
		if m := wanted[g]; m != nil {
			firsts[g] = p.ZAdd(ctx, key, redis.Z{Score: score(r.core.now()), Member: m.channel})
			p.Expire(ctx, key, r.core.cfg.GroupExpiry)
		} else {
			firsts[g] = p.ZRem(ctx, key, r.GroupChannel(g))
		}
	}
	if len(out) > 0 {
		p.SRem(ctx, r.own.groups(r.id), out...)
	}
	_, err := p.Exec(ctx)
	if err == nil {
		return nil
	}
	return sortErrors(err, firsts, wanted, errs)
}

// sortErrors tells a pipeline that failed as a whole from groups that Redis refused one by one: a key of another type cannot be joined,
// and there is nothing to leave.
func sortErrors(whole error, firsts map[string]redis.Cmder, wanted map[string]*membership, errs map[string]error) error {
	found := false
	for g, cmd := range firsts {
		err := cmd.Err()
		if err == nil {
			continue
		}
		if !isWrongType(err) {
			return whole
		}
		found = true
		if wanted[g] != nil {
			errs[g] = err
		}
	}
	if found {
		return nil
	}
	return whole
}

// isWrongType recognizes the answer of a key that is no sorted set.
func isWrongType(err error) bool { return strings.HasPrefix(err.Error(), "WRONGTYPE") }

// ownTTL outlives every membership that the list of groups tells of.
func (r *shardReceiver) ownTTL() time.Duration { return r.core.cfg.GroupExpiry + time.Hour }

// refresh writes all memberships again: one pipeline after the other, together with whatever changes meanwhile.
func (r *shardReceiver) refresh(ctx context.Context) (int, error) {
	ms := &r.members
	ms.mu.Lock()
	groups := make([]string, 0, len(ms.joined))
	for g := range ms.joined {
		groups = append(groups, g)
	}
	ms.mu.Unlock()
	for chunk := range slices.Chunk(groups, maxPipeline) {
		ms.mu.Lock()
		b := ms.next
		for _, g := range chunk {
			b.groups[g] = struct{}{}
		}
		r.startFlush(ctx)
		ms.mu.Unlock()
		if err := b.wait(ctx, nil); err != nil {
			return 0, err
		}
	}
	return len(groups), nil
}

// retryDirty writes again what failed before.
func (r *shardReceiver) retryDirty(ctx context.Context) error {
	ms := &r.members
	ms.mu.Lock()
	if len(ms.dirty) == 0 {
		ms.mu.Unlock()
		return nil
	}
	b, groups := ms.next, make([]string, 0, len(ms.dirty))
	for g := range ms.dirty {
		b.groups[g] = struct{}{}
		groups = append(groups, g)
	}
	r.startFlush(ctx)
	ms.mu.Unlock()
	return b.wait(ctx, groups)
}
