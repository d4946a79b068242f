package channelslayer

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
)

// sentinelGroup names a group of the layer that only its receiver knows. As long as it is there, nothing has flushed the layer since the
// memberships were last written: it is written before them. (An empty group cannot be told from a flushed one by itself.)
func sentinelGroup(id string) string { return "dfws.receiver." + id }

func (r *Receiver) sentinelKey() string { return r.core.keys.group(sentinelGroup(r.id)) }

// upkeep is the state of maintain, owned by its goroutine.
type upkeep struct {
	cause      RefreshCause // why a refresh is due; "" when none is
	nextFresh  time.Time    // the scheduled refresh
	nextAlive  time.Time    // the next sign of life and sweep
	sweepAfter time.Time    // before that, others that share our outage could look dead
	failing    bool         // the last tick failed, which was logged
}

// maintain keeps alive what the receiver has in Redis until ctx ends. Trouble is logged once and tried again at each tick.
func (r *shardReceiver) maintain(ctx context.Context) {
	u := upkeep{cause: RefreshScheduled, sweepAfter: time.Now().Add(r.cfg.AliveTTL)}
	ticker := time.NewTicker(r.cfg.ProbeInterval)
	defer ticker.Stop()
	for {
		err := r.tick(ctx, &u)
		if err != nil && !u.failing && ctx.Err() == nil {
			r.core.cfg.Logger.WarnContext(ctx, "receiver: upkeep", slog.Any("err", err))
		}
		u.failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-r.reconnectedC:
			r.core.cfg.Observer.reconnected()
			u.cause = RefreshReconnected
			u.sweepAfter = time.Now().Add(r.cfg.AliveTTL)
		}
	}
}

// tick does what is due.
func (r *shardReceiver) tick(ctx context.Context, u *upkeep) error {
	now := time.Now()
	if u.cause == "" && !now.Before(u.nextFresh) {
		u.cause = RefreshScheduled
	}
	if u.cause == "" {
		lost, err := r.isLost(ctx)
		if err != nil {
			return err
		}
		if lost {
			u.cause = RefreshLost
		}
	}
	if u.cause != "" {
		if err := r.refreshAll(ctx, u.cause); err != nil {
			return err
		}
		u.cause = ""
		u.nextFresh = now.Add(r.core.cfg.GroupExpiry / 3)
		u.nextAlive = now.Add(r.cfg.AliveTTL / 3)
	}
	if err := r.retryDirty(ctx); err != nil {
		return err
	}
	if now.Before(u.nextAlive) {
		return nil
	}
	u.nextAlive = now.Add(r.cfg.AliveTTL / 3)
	return r.signOfLife(ctx, now.After(u.sweepAfter))
}

// isLost reports that the layer was flushed, or that others took this receiver for dead.
func (r *shardReceiver) isLost(ctx context.Context) (bool, error) {
	n, err := r.shard.client.Exists(ctx, r.sentinelKey()).Result()
	return n == 0, wrap("receiver: probe", err)
}

// refreshAll writes everything again, the sentinel first: if the layer is flushed meanwhile, the sentinel is missing.
func (r *shardReceiver) refreshAll(ctx context.Context, cause RefreshCause) error {
	_, err := r.shard.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		r.pipeAnnounce(ctx, p)
		r.core.pipeGroupAdd(ctx, p, sentinelGroup(r.id), r.name)
		return nil
	})
	if err != nil {
		return wrap("receiver: announce", err)
	}
	n, err := r.refresh(ctx)
	if err != nil {
		return wrap("receiver: refresh", err)
	}
	r.core.cfg.Observer.refreshed(cause, n)
	r.core.cfg.Logger.DebugContext(ctx, "memberships refreshed", slog.String("cause", string(cause)), slog.Int("groups", n))
	return nil
}

// pipeAnnounce tells the other receivers that this one lives.
func (r *shardReceiver) pipeAnnounce(ctx context.Context, p redis.Pipeliner) {
	p.Set(ctx, r.own.alive(r.id), r.cfg.Name, r.cfg.AliveTTL)
	p.SAdd(ctx, r.own.receivers(), r.id)
}

// signOfLife renews the alive key and, when it is this receiver's turn, looks for dead ones.
func (r *shardReceiver) signOfLife(ctx context.Context, sweep bool) error {
	_, err := r.shard.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		r.pipeAnnounce(ctx, p)
		return nil
	})
	if err != nil || !sweep {
		return wrap("receiver: alive", err)
	}
	mine, err := r.shard.client.SetNX(ctx, r.own.sweeping(), r.id, r.cfg.AliveTTL/4).Result()
	if err != nil || !mine {
		return wrap("receiver: sweep", err)
	}
	return wrap("receiver: sweep", r.sweep(ctx))
}

// sweep removes what receivers left behind that show no sign of life.
func (r *shardReceiver) sweep(ctx context.Context) error {
	ids, err := r.shard.client.SMembers(ctx, r.own.receivers()).Result()
	if err != nil {
		return err
	}
	p := r.shard.client.Pipeline()
	alive := make([]*redis.IntCmd, len(ids))
	for i, id := range ids {
		alive[i] = p.Exists(ctx, r.own.alive(id))
	}
	if _, err := p.Exec(ctx); err != nil {
		return err
	}
	var faults []error
	for i, id := range ids {
		if id != r.id && alive[i].Val() == 0 {
			faults = append(faults, r.sweepOne(ctx, id))
		}
	}
	return errors.Join(faults...)
}

// sweepBatch is how many groups of a dead receiver are read at a time.
const sweepBatch = 1000

// sweepOne removes the memberships of a dead receiver, then its keys, its sentinel last: if it lives after all (it was cut off for longer than
// AliveTTL), it finds the sentinel gone and joins again, whatever it wrote meanwhile. Two that sweep the same one do no harm.
func (r *shardReceiver) sweepOne(ctx context.Context, id string) error {
	dead := &Receiver{core: r.core, id: id, name: specificPrefix + "." + id + "!"}
	removed, cursor := 0, uint64(0)
	for {
		groups, next, err := r.shard.client.SScan(ctx, r.own.groups(id), cursor, "", sweepBatch).Result()
		if err != nil {
			return err
		}
		n, err := r.removeMembers(ctx, dead, groups)
		if err != nil {
			return err
		}
		removed += n
		if cursor = next; cursor == 0 {
			break
		}
	}
	_, err := r.shard.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Del(ctx, r.core.keys.channel(dead.name), r.own.groups(id))
		p.SRem(ctx, r.own.receivers(), id)
		p.Del(ctx, dead.sentinelKey())
		return nil
	})
	if err != nil {
		return err
	}
	r.core.cfg.Observer.swept(removed)
	r.core.cfg.Logger.WarnContext(ctx, "dead receiver swept", slog.String("client_prefix", id), slog.Int("groups", removed))
	return nil
}

func (r *shardReceiver) removeMembers(ctx context.Context, dead *Receiver, groups []string) (int, error) {
	if len(groups) == 0 {
		return 0, nil
	}
	removed := 0
	cmds, err := r.shard.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, g := range groups {
			p.ZRem(ctx, r.core.keys.group(g), dead.GroupChannel(g))
		}
		return nil
	})
	for _, cmd := range cmds {
		if n, ok := cmd.(*redis.IntCmd); ok {
			removed += int(n.Val())
		}
	}
	if err != nil && isWrongType(err) {
		err = nil // a group that is no group any more has no members to remove
	}
	return removed, err
}
