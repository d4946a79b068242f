package channelslayer

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/redis/go-redis/v9"
)

// stop leaves all groups on all servers, since what is sent to a group of one may arrive on another, then delivers what had arrived.
func (r *Receiver) stop(ctx context.Context, deliver func([]string, *Received)) error {
	left := r.eachShard(func(s *shardReceiver) error { return s.leaveGroups(ctx) })
	cleared := r.eachShard(func(s *shardReceiver) error {
		if err := s.drain(ctx, deliver); err != nil {
			return err
		}
		if left != nil {
			return nil // the others sweep by what is forgotten here
		}
		return s.forget(ctx)
	})
	closed := r.eachShard(func(s *shardReceiver) error { return s.client.Close() })
	return errors.Join(wrap("receiver stop", errors.Join(left, cleared)), closed)
}

// leaveGroups ends the memberships on this server, so that nobody sends any more.
func (r *shardReceiver) leaveGroups(ctx context.Context) error {
	ms := &r.members
	ms.mu.Lock()
	ms.closed = true
	groups := make([]string, 0, len(ms.joined)+len(ms.dirty))
	for g := range ms.joined {
		groups = append(groups, g)
	}
	for g := range ms.dirty {
		groups = append(groups, g)
	}
	ms.mu.Unlock()
	r.flushers.Wait()

	for chunk := range slices.Chunk(groups, maxPipeline) {
		_, err := r.shard.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, g := range chunk {
				p.ZRem(ctx, r.core.keys.group(g), r.GroupChannel(g))
			}
			return nil
		})
		if err != nil && !isWrongType(err) {
			return err
		}
	}
	r.core.cfg.Logger.DebugContext(ctx, "receiver left", slog.Int("groups", len(groups)))
	return nil
}

// drain delivers what had arrived on this server before the groups were left.
func (r *shardReceiver) drain(ctx context.Context, deliver func([]string, *Received)) error {
	for {
		batch, err := r.shard.client.ZPopMin(ctx, r.key, int64(r.cfg.MaxBatch)).Result()
		if err != nil {
			return err
		}
		r.handleAll(batch, deliver)
		if len(batch) < r.cfg.MaxBatch {
			return nil
		}
	}
}

// forget deletes what is left of this receiver on this server.
func (r *shardReceiver) forget(ctx context.Context) error {
	_, err := r.shard.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Del(ctx, r.key, r.sentinelKey(), r.own.groups(r.id), r.own.alive(r.id))
		p.SRem(ctx, r.own.receivers(), r.id)
		return nil
	})
	return err
}
