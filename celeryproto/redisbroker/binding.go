package redisbroker

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode"

	"github.com/redis/go-redis/v9"
)

// Binding says that an exchange gives messages with a routing key to a queue. kombu keeps bindings in sets, one for each
// exchange, which publishers and restorers read.
type Binding struct {
	// Exchange with a name; the anonymous one has no bindings.
	Exchange string
	// RoutingKey of a direct exchange, or with Topic a pattern: words between dots, "*" for any word, "#" for any words.
	RoutingKey string
	// Queue without prefix and priority.
	Queue string
	// Topic says that the exchange has the type topic.
	Topic bool
	// Expires is the queue's x-expires; 0 for a queue that stays. The binding of an expiring queue must be renewed by its
	// consumer, or it may be swept an hour after it was made, or twice Expires if that is longer.
	Expires time.Duration
}

// Lives of bindings (kombu 5.7, transport/redis.py).
const (
	bindingExpiresFactor = 2                // BINDING_EXPIRES_FACTOR
	minBindingLife       = time.Hour        // MIN_BINDING_TTL
	sweepInterval        = time.Minute      // BINDING_SWEEP_INTERVAL
	sweepLimit           = 100              // Channel.sweep_bindings
	replyListLife        = 10 * time.Minute // ours; Python's list of a client that died stays for ever
)

// life is how long the binding stays without being renewed.
func (d *Binding) life() time.Duration {
	return max(d.Expires*bindingExpiresFactor, minBindingLife)
}

// refreshInterval is how often a consumer renews it.
func (d *Binding) refreshInterval() time.Duration { return d.life() / 3 }

func (d *Binding) member(k *keyspace) string {
	pattern := ""
	if d.Topic {
		pattern = topicPattern(d.RoutingKey)
	}
	return k.bindingMember(d.RoutingKey, pattern, d.Queue)
}

// topicPattern is the regular expression that kombu stores for a topic (TopicExchange.key_to_pattern, utils/text.py,
// escape_regex).
func topicPattern(routingKey string) string {
	var b strings.Builder
	b.WriteByte('^')
	for i, word := range strings.Split(routingKey, ".") {
		if i > 0 {
			b.WriteString(`\.`)
		}
		switch word {
		case "*":
			b.WriteString(`[^\.]+`)
			continue
		case "#":
			b.WriteString(`.*?`)
			continue
		}
		for _, c := range word {
			switch {
			case c == 0:
				b.WriteString(`\000`)
				continue
			case c != '#' && c != '*' && !unicode.IsLetter(c) && !unicode.IsNumber(c):
				b.WriteByte('\\')
			}
			b.WriteRune(c)
		}
	}
	b.WriteByte('$')
	return b.String()
}

// Bind writes bindings, as declaring and binding a queue does in Python. It may be repeated.
func (b *Broker) Bind(ctx context.Context, bindings ...Binding) error {
	for _, d := range bindings {
		if d.Exchange == "" || d.Queue == "" {
			return errors.New("redisbroker: bind: a binding without exchange or queue")
		}
	}
	if len(bindings) == 0 {
		return nil
	}
	err := b.bindOnce(ctx, bindings, bindScript.EvalSha)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		err = b.bindOnce(ctx, bindings, bindScript.Eval)
	}
	return opError("bind", err)
}

func (b *Broker) bindOnce(ctx context.Context, bindings []Binding,
	run func(ctx context.Context, c redis.Scripter, keys []string, args ...any) *redis.Cmd,
) error {
	cmds, err := b.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, d := range bindings {
			member := d.member(&b.keys)
			if d.Expires > 0 {
				keys := []string{b.keys.bindings(d.Exchange), b.keys.bindingDeadlines()}
				run(ctx, pipe, keys, member, d.Exchange, d.life().Milliseconds())
				continue
			}
			pipe.SAdd(ctx, b.keys.bindings(d.Exchange), member)
			pipe.SAdd(ctx, b.keys.permanentBindings(d.Exchange), member)
		}
		return nil
	})
	if errors.Is(err, redis.Nil) { // a script that returns nothing
		err = nil
	}
	for _, cmd := range cmds {
		if cmdErr := cmd.Err(); err == nil && cmdErr != nil && !errors.Is(cmdErr, redis.Nil) {
			err = cmdErr
		}
	}
	return err
}

// DeleteQueue removes a queue with what is in it, and its bindings.
func (b *Broker) DeleteQueue(ctx context.Context, queue string, bindings ...Binding) error {
	_, err := b.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, d := range bindings {
			member := d.member(&b.keys)
			pipe.SRem(ctx, b.keys.bindings(d.Exchange), member)
			pipe.SRem(ctx, b.keys.permanentBindings(d.Exchange), member)
		}
		for _, list := range b.keys.lists(queue) {
			pipe.Del(ctx, list)
		}
		return nil
	})
	return opError("delete queue", err)
}

// SweepBindings deletes up to 100 binding sets that nobody has renewed in time, and returns how many were overdue. In Python
// every consumer of an expiring queue does this once a minute; a Subscriber and a ReplyQueue do it too.
func (b *Broker) SweepBindings(ctx context.Context) (int, error) {
	keys := []string{b.keys.bindingDeadlines()}
	n, err := sweepScript.Run(ctx, b.client, keys, b.keys.bindings(""), b.keys.permanentBindings(""), sweepLimit).Int()
	return n, opError("sweep bindings", err)
}

// boundKeeper renews the bindings of expiring queues and sweeps those of others, as kombu does once a second in
// Channel.maybe_refresh_binding_expiry. Only one goroutine uses it.
type boundKeeper struct {
	b        *Broker
	bindings []Binding
	renewed  time.Time // zero: they must be written
	swept    time.Time
}

// tick does what is due. After an error the next call tries again.
func (k *boundKeeper) tick(ctx context.Context, now time.Time) error {
	if len(k.bindings) == 0 {
		return nil
	}
	interval, expiring := minBindingLife, false
	for _, d := range k.bindings {
		expiring = expiring || d.Expires > 0
		interval = min(interval, d.refreshInterval())
	}
	if k.renewed.IsZero() || expiring && now.Sub(k.renewed) >= interval {
		if err := k.b.Bind(ctx, k.bindings...); err != nil {
			return err
		}
		k.renewed = now
	}
	if expiring && now.Sub(k.swept) >= sweepInterval { // after renewing, so that it never sweeps its own
		if _, err := k.b.SweepBindings(ctx); err != nil {
			return err
		}
		k.swept = now
	}
	return nil
}

// remove deletes the queues, within stopTimeout after ctx has ended.
func (k *boundKeeper) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	var errs []error
	for _, d := range k.bindings {
		errs = append(errs, k.b.DeleteQueue(ctx, d.Queue, d))
	}
	return errors.Join(errs...)
}
