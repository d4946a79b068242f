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

// restorePage is how many overdue deliveries are listed at a time.
const restorePage = 200

// RestoreOverdue gives the deliveries of workers that died back to their queues, once: those whose score is older than the
// visibility timeout. It holds kombu's lock (unacked_mutex) meanwhile and does nothing when somebody else has it. keep may
// exclude tags; nil keeps none. A Consumer calls this by itself.
//
// Newest first, to the head of the queue of the message's priority, marked as redelivered, in one atomic step that does
// nothing when the delivery was acked, restored or refreshed since it was listed. Messages of a named exchange go to the
// queues bound to it; where there is none, the deadletter_queue option or nothing happens: Python would drop the message.
func (b *Broker) RestoreOverdue(ctx context.Context, keep func(tag string) bool) error {
	token := uuid.NewString()
	args := redis.SetArgs{Mode: "NX", TTL: b.opts.UnackedMutexExpire}
	err := b.client.SetArgs(ctx, b.keys.mutex, token, args).Err()
	if errors.Is(err, redis.Nil) {
		return nil // somebody else is restoring
	}
	if err != nil {
		return opError("restore: lock", err)
	}
	err = errors.Join(
		b.restoreFrom(ctx, b.keys.unacked, b.keys.index, false, keep),
		b.restoreFrom(ctx, b.keys.held(), b.keys.heldIndex(), true, keep),
	)
	unlockCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.opts.SocketTimeout)
	defer cancel()
	return errors.Join(err, opError("restore: unlock", unlockScript.Run(unlockCtx, b.client, []string{b.keys.mutex}, token).Err()))
}

// runRestore looks for overdue deliveries at once and then as often as kombu.
func (c *Consumer) runRestore(ctx context.Context) {
	interval := c.b.opts.UnackedRestoreInterval * time.Duration(c.b.opts.UnackedRestoreThrottle)
	var pause backoff
	for {
		err := c.b.RestoreOverdue(ctx, c.holds)
		wait := interval
		if err != nil && ctx.Err() == nil {
			c.b.obs.disconnected("restore", err)
			c.b.logger.Warn("redisbroker: restore", "err", err)
			wait = min(interval, pause.pause())
		} else {
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
	for d := range c.held {
		if d.Tag == tag {
			return true
		}
	}
	return false
}

// restoreFrom works through one pair of keys, newest first.
func (b *Broker) restoreFrom(ctx context.Context, hash, index string, held bool, keep func(string) bool) error {
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
		overdue, err := b.client.ZRevRangeByScoreWithScores(ctx, index, &redis.ZRangeBy{
			Max: ceiling, Min: "0", Offset: int64(left), Count: int64(page),
		}).Result()
		if err != nil {
			return opError("restore: list", err)
		}
		for _, z := range overdue {
			tag, _ := z.Member.(string)
			result := RestoreResult("")
			if keep == nil || !keep(tag) {
				if result, err = b.restoreOne(ctx, hash, tag, z.Score, held); err != nil {
					return err
				}
				b.obs.restored(result)
			}
			if result == "" || result == RestoreNoBinding {
				left++
			}
		}
		done += len(overdue)
		if len(overdue) < page {
			return nil
		}
	}
	return nil
}

func (b *Broker) restoreOne(ctx context.Context, hash, tag string, score float64, held bool) (RestoreResult, error) {
	value, err := b.client.HGet(ctx, hash, tag).Bytes()
	stale := errors.Is(err, redis.Nil)
	if err != nil && !stale {
		return "", opError("restore: read", err)
	}
	result, op := RestoreStale, operation{kind: opAck}
	if !stale {
		if result, op, err = b.restoreOperation(ctx, value, held); err != nil {
			return "", err
		}
		if result == RestoreNoBinding {
			b.logger.Warn("redisbroker: overdue delivery stays unacked, no queue is bound to its exchange", "delivery_tag", tag)
			return result, nil
		}
	}
	moved, err := b.settleForeign(ctx, tag, score, held, op)
	if err != nil {
		return "", err
	}
	if !moved {
		return RestoreGone, nil
	}
	b.logger.Info("redisbroker: overdue delivery", "delivery_tag", tag, "result", string(result))
	return result, nil
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
		return RestoreNoBinding, operation{}, err
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

// settleForeign performs an operation on a delivery that is not ours, if its score is still the one listed.
func (b *Broker) settleForeign(ctx context.Context, tag string, score float64, held bool, op operation) (bool, error) {
	k := &b.keys
	keys := append([]string{k.unacked, k.index, k.held(), k.heldIndex()}, op.keys...)
	inHeld := 0
	if held {
		inHeld = 1
	}
	text := strconv.FormatFloat(score, 'f', -1, 64)
	reply, err := settleScript.Run(ctx, b.client, keys, op.kind, inHeld, tag, text, "", 1, len(op.keys), op.value).Slice()
	if err != nil {
		return false, opError("restore", err)
	}
	if len(reply) != 1 {
		return false, fmt.Errorf("redisbroker: settle script: %d replies to one operation", len(reply))
	}
	switch r := reply[0].(type) {
	case int64:
		return r == 1, nil
	case string:
		return false, opError("restore", replyError(r))
	default:
		return false, fmt.Errorf("redisbroker: settle script: reply of type %T", r)
	}
}

// lookup finds the queues of an address, as Channel._lookup does for direct and topic exchanges: the anonymous exchange
// leads to the queue named by the routing key, a named one to the members of its binding set.
func (b *Broker) lookup(ctx context.Context, exchange, routingKey string) ([]string, error) {
	if exchange == "" {
		if routingKey == "" {
			return b.fallbackQueue(), nil
		}
		return []string{routingKey}, nil
	}
	members, err := b.client.SMembers(ctx, b.keys.bindings(exchange)).Result()
	if err != nil {
		return nil, opError("restore: bindings", err)
	}
	var queues []string
	for _, member := range members {
		parts := strings.Split(member, b.keys.sep)
		if len(parts) == 3 && parts[2] != "" && matches(parts[0], parts[1], routingKey) && !slices.Contains(queues, parts[2]) {
			queues = append(queues, parts[2])
		}
	}
	if len(queues) == 0 {
		return b.fallbackQueue(), nil
	}
	slices.Sort(queues)
	return queues, nil
}

func (b *Broker) fallbackQueue() []string {
	if b.opts.DeadletterQueue == "" {
		return nil
	}
	return []string{b.opts.DeadletterQueue}
}

// matches compares a routing key with a binding: a topic's pattern is a regular expression that kombu anchors at the start.
func matches(bound, pattern, routingKey string) bool {
	if pattern == "" {
		return bound == routingKey
	}
	re, err := regexp.Compile(`\A(?:` + pattern + `)`)
	return err == nil && re.MatchString(routingKey)
}
