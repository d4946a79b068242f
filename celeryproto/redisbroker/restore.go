package redisbroker

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

const (
	// restorePage is how many overdue deliveries are listed, read and moved at a time.
	restorePage = 64
	// restoreBytes keeps the script that moves them short when they are large.
	restoreBytes = 4 << 20
)

// RestoreOverdue gives the deliveries of workers that died back to their queues, once: those whose score is older than the
// visibility timeout. It holds kombu's lock (unacked_mutex) meanwhile and does nothing when somebody else has it, unless that seems
// to have died with it. keep may
// exclude tags; nil keeps none. A Consumer calls this by itself.
//
// Newest first, to the head of the queue of the message's priority, marked as redelivered, in one atomic step that does
// nothing when the delivery was acked, restored or refreshed since it was listed. Messages of a named exchange go to the
// queues bound to it; where there is none, the deadletter_queue option or nothing happens: Python would drop the message.
func (b *Broker) RestoreOverdue(ctx context.Context, keep func(tag string) bool) error {
	token := uuid.NewString()
	args := redis.SetArgs{Mode: "NX", TTL: b.restoreLockTTL()}
	err := b.client.SetArgs(ctx, b.keys.mutex, token, args).Err()
	if errors.Is(err, redis.Nil) {
		var abandoned bool
		if abandoned, err = b.lockAbandoned(ctx); err == nil && !abandoned {
			return nil // somebody else is restoring
		}
	}
	if err != nil {
		return opError("restore: lock", err)
	}
	pages := func(ctx context.Context) error { // between pages the lock is prolonged, if it is ours
		ttl := b.restoreLockTTL().Milliseconds()
		return extendScript.Run(ctx, b.client, []string{b.keys.mutex}, token, ttl).Err()
	}
	err = errors.Join(
		b.restoreFrom(ctx, b.keys.unacked, b.keys.index, false, keep, pages),
		b.restoreFrom(ctx, b.keys.held(), b.keys.heldIndex(), true, keep, pages),
	)
	unlockCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.opts.SocketTimeout)
	defer cancel()
	return errors.Join(err, opError("restore: unlock", unlockScript.Run(unlockCtx, b.client, []string{b.keys.mutex}, token).Err()))
}

const (
	// restoreLockTTL is how long kombu's lock outlives a Go process that died with it, at most: a page takes milliseconds, and
	// the lock is prolonged for each. kombu's is five minutes, in which nothing is restored at all.
	restoreLockTTL = 10 * time.Second
	// lockPatience is how long somebody else's lock is respected. A restore of kombu takes a round trip or four for each delivery;
	// whoever holds the lock longer has most likely died with it. Restoring beside a living one is safe, since each delivery
	// moves in one step that looks whether it is still there; only the order in the queue may suffer.
	lockPatience = 15 * time.Second
)

func (b *Broker) restoreLockTTL() time.Duration {
	return min(restoreLockTTL, b.opts.UnackedMutexExpire)
}

// lockAbandoned tells whether the lock has had the same holder since long ago.
func (b *Broker) lockAbandoned(ctx context.Context) (bool, error) {
	holder, err := b.client.Get(ctx, b.keys.mutex).Result()
	if errors.Is(err, redis.Nil) {
		return false, nil // released meanwhile: the next look gets it
	}
	if err != nil {
		return false, err
	}
	b.lockMu.Lock()
	defer b.lockMu.Unlock()
	now := time.Now()
	if b.lockHolder != holder {
		b.lockHolder, b.lockSince = holder, now
		return false, nil
	}
	if now.Sub(b.lockSince) < lockPatience {
		return false, nil
	}
	b.logger.Warn("redisbroker: the restore lock seems to be that of a dead process, restoring all the same", "held", now.Sub(b.lockSince))
	return true, nil
}

// runRestore looks for overdue deliveries at once and then as often as kombu.
func (c *Consumer) runRestore(ctx context.Context) {
	interval := c.b.opts.UnackedRestoreInterval * time.Duration(c.b.opts.UnackedRestoreThrottle)
	var pause backoff
	outage := outageLog{logger: c.b.logger, what: "restoring overdue deliveries"}
	for {
		err := c.b.RestoreOverdue(ctx, c.holds)
		wait := interval
		if err != nil && ctx.Err() == nil {
			c.b.obs.disconnected("restore", err)
			outage.failed(err)
			wait = min(interval, pause.pause())
		} else {
			outage.worked()
			pause.reset()
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// holds reports whether a tag is one of our own: overdue only when we could not refresh it, and not abandoned.
func (c *Consumer) holds(tag string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for d := c.held.first; d != nil; d = d.next {
		if d.Tag == tag {
			return true
		}
	}
	return false
}

// overdue is a delivery that the restore loop found, and what is to be done with it.
type overdue struct {
	tag    string
	score  float64
	op     operation
	result RestoreResult
}

// restoreFrom works through one pair of keys, newest first.
func (b *Broker) restoreFrom(
	ctx context.Context, hash, index string, held bool, keep func(string) bool, nextPage func(context.Context) error,
) error {
	now, err := b.client.Time(ctx).Result()
	if err != nil {
		return opError("restore", err)
	}
	ceiling := string(formatScore(now.Add(-b.opts.VisibilityTimeout)))
	limit := b.opts.UnackedRestoreLimit
	left := 0 // listed and not removed: they come first on the next page
	for done := 0; limit == 0 || done < limit; {
		page := restorePage
		if limit > 0 {
			page = min(page, limit-done)
		}
		listed, err := b.client.ZRevRangeByScoreWithScores(ctx, index, &redis.ZRangeBy{
			Max: ceiling, Min: "0", Offset: int64(left), Count: int64(page),
		}).Result()
		if err != nil {
			return opError("restore: list", err)
		}
		moved, err := b.restorePage(ctx, hash, held, listed, keep)
		if err != nil {
			return err
		}
		left += len(listed) - moved
		done += len(listed)
		if len(listed) < page {
			return nil
		}
		if err := nextPage(ctx); err != nil {
			return opError("restore: lock", err)
		}
	}
	return nil
}

// restorePage handles one page and returns how many deliveries are no longer overdue.
func (b *Broker) restorePage(ctx context.Context, hash string, held bool, listed []redis.Z, keep func(string) bool) (int, error) {
	var batch []*overdue
	moved, size := 0, 0
	flush := func() error {
		n, err := b.settleForeign(ctx, held, batch)
		moved += n
		batch, size = nil, 0
		return err
	}
	for _, z := range listed {
		tag, _ := z.Member.(string)
		if keep != nil && keep(tag) {
			continue
		}
		o := &overdue{tag: tag, score: z.Score}
		if err := b.plan(ctx, hash, held, o); err != nil {
			return moved, err
		}
		if o.result == RestoreNoBinding {
			b.obs.restored(o.result)
			b.logger.Warn("redisbroker: overdue delivery stays unacked, no queue is bound to its exchange", "delivery_tag", tag)
			continue
		}
		if size += len(o.op.value); len(batch) > 0 && size > restoreBytes {
			if err := flush(); err != nil {
				return moved, err
			}
			size = len(o.op.value)
		}
		batch = append(batch, o)
	}
	return moved, flush()
}

// plan reads an overdue delivery and decides what is to be done.
func (b *Broker) plan(ctx context.Context, hash string, held bool, o *overdue) error {
	value, err := b.client.HGet(ctx, hash, o.tag).Bytes()
	if errors.Is(err, redis.Nil) {
		o.result, o.op = RestoreStale, operation{kind: opAck}
		return nil
	}
	if err != nil {
		return opError("restore: read", err)
	}
	o.result, o.op, err = b.restoreOperation(ctx, value, held)
	return err
}

// restoreOperation says where an entry goes and in which form.
func (b *Broker) restoreOperation(ctx context.Context, value []byte, held bool) (RestoreResult, operation, error) {
	if held {
		queue, raw, err := parseHeld(value)
		if err != nil {
			return b.unreadable(value, err)
		}
		raw = redelivered(raw)
		return RestoreDone, operation{kind: opRight, keys: []string{b.keys.queue(queue, priorityOf(raw))}, value: raw}, nil
	}
	e, err := parseEntry(value)
	if err != nil {
		return b.unreadable(value, err)
	}
	queues, err := b.lookup(ctx, e.exchange, e.routingKey)
	if err != nil || len(queues) == 0 {
		return RestoreNoBinding, operation{}, opError("restore", err)
	}
	op := operation{kind: opRight, value: redelivered(e.envelope)}
	for _, queue := range queues {
		op.keys = append(op.keys, b.keys.queue(queue, priorityOf(op.value)))
	}
	return RestoreDone, op, nil
}

// unreadable sends an entry to the dead letters. Left in place it would stop the restore of every Python worker.
func (b *Broker) unreadable(value []byte, cause error) (RestoreResult, operation, error) {
	letter, err := encodeDeadLetter("unacked entry not readable: "+cause.Error(), unreadableQueue, value)
	return RestoreUnreadable, operation{kind: opLeft, keys: []string{b.keys.dead(unreadableQueue)}, value: letter}, err
}

// settleForeign moves deliveries that are not ours, in one step, as far as their scores are still those listed. A consumer
// sees them all at once, so the order is kept. It returns how many are no longer overdue.
func (b *Broker) settleForeign(ctx context.Context, held bool, batch []*overdue) (int, error) {
	if len(batch) == 0 {
		return 0, nil
	}
	k := &b.keys
	keys := []string{k.unacked, k.index, k.held(), k.heldIndex()}
	inHeld := 0
	if held {
		inHeld = 1
	}
	args := []any{0, 0, 0, 0, 0} // nothing plain, no results
	for _, o := range batch {
		score := strconv.FormatFloat(o.score, 'f', -1, 64)
		args = append(args, o.op.kind, inHeld, o.tag, score, "", len(keys)+1, len(o.op.keys), o.op.value, 0)
		keys = append(keys, o.op.keys...)
	}
	replies, err := settleScript.Run(ctx, b.client, keys, args...).Slice()
	if err != nil {
		return 0, opError("restore", err)
	}
	if len(replies) != len(batch) {
		return 0, fmt.Errorf("redisbroker: settle script: %d replies to %d operations", len(replies), len(batch))
	}
	var errs []error
	for i, o := range batch {
		switch reply := replies[i].(type) {
		case int64:
			if reply == 0 {
				o.result = RestoreGone
			}
			b.obs.restored(o.result)
			b.logger.Info("redisbroker: overdue delivery", "delivery_tag", o.tag, "result", string(o.result))
		case string:
			errs = append(errs, opError("restore", replyError(reply)))
		default:
			errs = append(errs, fmt.Errorf("redisbroker: settle script: reply of type %T", reply))
		}
	}
	return len(batch) - len(errs), errors.Join(errs...)
}

// lookup finds the queues of an address, as Channel._lookup does for direct and topic exchanges: the anonymous exchange
// leads to the queue named by the routing key, a named one to the members of its binding set. Where there is none it is the
// deadletter_queue option.
func (b *Broker) lookup(ctx context.Context, exchange, routingKey string) ([]string, error) {
	queues, err := b.boundQueues(ctx, exchange, routingKey)
	if err != nil || len(queues) > 0 || b.opts.DeadletterQueue == "" {
		return queues, err
	}
	return []string{b.opts.DeadletterQueue}, nil
}

// boundQueues is lookup without the last resort.
func (b *Broker) boundQueues(ctx context.Context, exchange, routingKey string) ([]string, error) {
	if exchange == "" {
		if routingKey == "" {
			return nil, nil
		}
		return []string{routingKey}, nil
	}
	members, err := b.client.SMembers(ctx, b.keys.bindings(exchange)).Result()
	if err != nil {
		return nil, fmt.Errorf("bindings: %w", err)
	}
	var queues []string
	for _, member := range members {
		parts := strings.Split(member, b.keys.sep)
		if len(parts) == 3 && parts[2] != "" && matches(parts[0], parts[1], routingKey) && !slices.Contains(queues, parts[2]) {
			queues = append(queues, parts[2])
		}
	}
	slices.Sort(queues)
	return queues, nil
}

// matches compares a routing key with a binding: a topic's pattern is a regular expression that kombu anchors at the start.
func matches(bound, pattern, routingKey string) bool {
	if pattern == "" {
		return bound == routingKey
	}
	re, err := regexp.Compile(`\A(?:` + pattern + `)`)
	return err == nil && re.MatchString(routingKey)
}
