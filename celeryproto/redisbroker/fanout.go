package redisbroker

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// FanoutMessage is an envelope for everybody who listens to a fanout exchange: remote control, events, broadcast tasks.
type FanoutMessage struct {
	// Exchange and RoutingKey are the address; the envelope's properties.delivery_info should say the same.
	Exchange, RoutingKey string
	// Envelope is the JSON, see celeryproto.Envelope.
	Envelope []byte
}

// PublishFanout publishes messages to the subscribers of their exchanges, in one round trip, in order. Nothing is stored: who does
// not listen just now misses them.
//
// It tries again as Publish does, so a subscriber may get a message twice; a Subscriber, and Python with sentinel_fanout_compat,
// drops the second one by its delivery tag.
func (b *Broker) PublishFanout(ctx context.Context, msgs ...FanoutMessage) error {
	if len(msgs) == 0 {
		return nil
	}
	_, err := b.publishFanout(ctx, msgs)
	return err
}

// Broadcast is PublishFanout for one message, and returns how many subscribers got it, beside those that listen at a replica.
func (b *Broker) Broadcast(ctx context.Context, m FanoutMessage) (subscribers int, err error) {
	return b.publishFanout(ctx, []FanoutMessage{m})
}

// publishFanout returns the most subscribers that any of the messages had.
func (b *Broker) publishFanout(ctx context.Context, msgs []FanoutMessage) (subscribers int, err error) {
	err = b.insist(ctx, func() (err error) {
		subscribers, err = b.publishFanoutOnce(ctx, msgs)
		return err
	})
	err = opError("publish fanout", err)
	for _, m := range msgs {
		b.obs.broadcast(m.Exchange, 1, err)
	}
	return subscribers, err
}

func (b *Broker) publishFanoutOnce(ctx context.Context, msgs []FanoutMessage) (subscribers int, err error) {
	start := time.Now()
	prefixes := b.fanoutPrefixes(b.servers.DB())
	cmds, err := b.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, m := range msgs {
			for _, prefix := range prefixes {
				pipe.Publish(ctx, b.fanoutChannel(prefix, m.Exchange, m.RoutingKey), m.Envelope)
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	b.obs.roundTrip("publish fanout", len(msgs), start)
	for _, cmd := range cmds {
		if n, ok := cmd.(*redis.IntCmd); ok {
			subscribers = max(subscribers, int(n.Val()))
		}
	}
	return subscribers, nil
}

// fanoutPrefixes are what channels begin with in a database: the current form, and with sentinel_fanout_compat the one of kombu
// before 5.4.
func (b *Broker) fanoutPrefixes(db int) []string {
	o := &b.opts.TransportOptions
	if o.NoFanoutPrefix {
		return []string{o.GlobalKeyPrefix}
	}
	prefixes := []string{o.GlobalKeyPrefix + strings.ReplaceAll(o.FanoutPrefix, dbPlaceholder, strconv.Itoa(db))}
	if legacy := o.GlobalKeyPrefix + o.FanoutPrefix; o.SentinelFanoutCompat && b.servers.HasSentinels() && legacy != prefixes[0] {
		prefixes = append(prefixes, legacy)
	}
	return prefixes
}

// fanoutChannel is Channel._get_publish_topic.
func (b *Broker) fanoutChannel(prefix, exchange, routingKey string) string {
	if routingKey == "" || b.opts.NoFanoutPatterns {
		return prefix + exchange
	}
	return prefix + exchange + "/" + routingKey
}

// fanoutPattern is what a queue subscribes to by PSUBSCRIBE: in its routing key "#" is "*", and Redis' other wildcards are what
// they are, as in kombu. In the rest nothing is a wildcard.
func (b *Broker) fanoutPattern(prefix string, q *FanoutQueue) string {
	return b.fanoutChannel(escapeGlob(prefix), escapeGlob(q.Exchange), q.glob())
}

// glob is the queue's routing key as a pattern of Redis.
func (q *FanoutQueue) glob() string { return strings.ReplaceAll(q.RoutingKey, "#", "*") }

func escapeGlob(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(`*?[]\`, s[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// matchGlob is Redis' stringmatchlen (src/util.c), for subscribers that must look at each message themselves.
func matchGlob(pattern, s string) bool {
	star, mark := -1, 0 // where to go back to: behind the last star, and how much it has taken
	p, i := 0, 0
	for i < len(s) {
		n, ok := 0, false
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p+1, i
			p++
			continue
		case p < len(pattern):
			n, ok = matchOne(pattern[p:], s[i])
		}
		switch {
		case ok:
			p += n
			i++
		case star >= 0:
			mark++
			p, i = star, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// matchOne compares one byte with the beginning of a pattern that is no star, and says how long that is.
func matchOne(pattern string, c byte) (length int, ok bool) {
	switch {
	case pattern[0] == '?':
		return 1, true
	case pattern[0] == '[':
		return matchClass(pattern, c)
	case pattern[0] == '\\' && len(pattern) > 1:
		return 2, pattern[1] == c
	default:
		return 1, pattern[0] == c
	}
}

// matchClass reads "[abc]", "[^a-z]"; one that is not closed ends with the pattern.
func matchClass(pattern string, c byte) (length int, ok bool) {
	i, not := 1, false
	if i < len(pattern) && pattern[i] == '^' {
		i, not = i+1, true
	}
	for ; i < len(pattern) && pattern[i] != ']'; i++ {
		switch {
		case pattern[i] == '\\' && i+1 < len(pattern):
			i++
			ok = ok || pattern[i] == c
		case i+2 < len(pattern) && pattern[i+1] == '-':
			low, high := min(pattern[i], pattern[i+2]), max(pattern[i], pattern[i+2])
			ok = ok || low <= c && c <= high
			i += 2
		default:
			ok = ok || pattern[i] == c
		}
	}
	return min(i+1, len(pattern)), ok != not
}
