package channelslayer

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"
)

var _ RedisLayer = (*Core)(nil)

// Core speaks the wire of channels_redis.core.RedisChannelLayer. It is safe for concurrent use and needs no Redis to be opened:
// each call fails or succeeds by itself, and the first one after an outage works again.
type Core struct {
	cfg          Config
	keys         layerKeys
	codec        codec
	capacities   capacities
	ring         ring
	clientPrefix string // 32 hex digits: uuid4().hex of the layer object in Python
	inbox        *inbox
	sendTurn     atomic.Uint64 // whose turn it is to get the message of a general channel
	now          func() time.Time
	dropLog      rate.Sometimes // whoever writes junk can write much of it

	closeOnce sync.Once
	closeErr  error
}

// Open checks cfg and returns a core layer. It does not connect; Ping does.
func Open(cfg Config) (*Core, error) {
	cfg = cfg.withDefaults()
	capacities, capErr := newCapacities(cfg.Capacity, cfg.ChannelCapacity)
	if err := errors.Join(cfg.validate(BackendCore), capErr); err != nil {
		return nil, err
	}
	codec, err := cfg.codec(cfg.RandomPrefixLength, cfg.Expiry+fernetGrace)
	if err != nil {
		return nil, err
	}
	ring, err := newRing(cfg)
	if err != nil {
		return nil, err
	}
	c := &Core{
		cfg:          cfg,
		keys:         layerKeys{prefix: cfg.Prefix},
		codec:        codec,
		capacities:   capacities,
		ring:         ring,
		clientPrefix: newHex(),
		now:          time.Now,
		dropLog:      newDropLog(),
	}
	c.inbox = newInbox(c)
	return c, nil
}

// newHex is Python's uuid.uuid4().hex.
func newHex() string {
	id := uuid.New()
	return hex.EncodeToString(id[:])
}

// Ping returns nil when every server of the layer answers.
func (c *Core) Ping(ctx context.Context) error { return wrap("ping", c.ring.ping(ctx)) }

// ClientPrefix returns the part that all specific channels of this layer share.
func (c *Core) ClientPrefix() string { return c.clientPrefix }

// NewChannel implements Layer: "<prefix>.<32 hex>!<32 hex>", where "" means "specific". There is nothing that could fail.
func (c *Core) NewChannel(_ context.Context, prefix string) (string, error) {
	if prefix == "" {
		prefix = specificPrefix
	}
	return prefix + "." + c.clientPrefix + "!" + newHex(), nil
}

// Send implements Layer. It returns ErrChannelFull when the channel's key holds its capacity of messages, and ErrReservedKey for
// a message with the key __asgi_channel__.
func (c *Core) Send(ctx context.Context, channel string, m Message) error {
	if err := CheckChannelName(channel); err != nil {
		return err
	}
	if _, reserved := m[channelKeyName]; reserved {
		return ErrReservedKey
	}
	name := ""
	if strings.Contains(channel, "!") {
		name = channel
	}
	bytes, err := c.codec.encode(m, name)
	if err != nil {
		return err
	}
	now := c.now()
	sent, err := sendScript.Run(ctx, c.serverOf(channel).client, []string{c.keys.channel(channel)},
		scoreText(now), now.Unix()-wholeSeconds(c.cfg.Expiry), wholeSeconds(c.cfg.Expiry), c.capacities.of(channel), bytes).Int()
	if err != nil {
		return wrap("send", err)
	}
	if sent == 0 {
		c.cfg.Observer.channelFull()
		return ErrChannelFull
	}
	return nil
}

// serverOf returns where a message of Send goes. A specific channel is on the server of its name up to the "!", where its process receives; Python's
// send hashes the whole name, and with several hosts most of its messages arrive nowhere (channels_redis 2.2 to 4.3).
func (c *Core) serverOf(channel string) *shard {
	if strings.Contains(channel, "!") {
		return c.ring.at(nonLocalName(channel))
	}
	return c.ring[(c.sendTurn.Add(1)-1)%uint64(len(c.ring))]
}

// GroupAdd implements Layer. A membership lasts for GroupExpiry: whoever stays longer must call it again. A Receiver does that by itself.
func (c *Core) GroupAdd(ctx context.Context, group, channel string) error {
	if err := errors.Join(CheckGroupName(group), CheckChannelName(channel)); err != nil {
		return err
	}
	_, err := c.ring.at(group).client.Pipelined(ctx, func(p redis.Pipeliner) error {
		c.pipeGroupAdd(ctx, p, group, channel)
		return nil
	})
	return wrap("group add", err)
}

func (c *Core) pipeGroupAdd(ctx context.Context, p redis.Pipeliner, group, channel string) {
	key := c.keys.group(group)
	p.ZAdd(ctx, key, redis.Z{Score: score(c.now()), Member: channel})
	p.Expire(ctx, key, c.cfg.GroupExpiry)
}

// GroupDiscard implements Layer.
func (c *Core) GroupDiscard(ctx context.Context, group, channel string) error {
	if err := errors.Join(CheckGroupName(group), CheckChannelName(channel)); err != nil {
		return err
	}
	return wrap("group discard", c.ring.at(group).client.ZRem(ctx, c.keys.group(group), channel).Err())
}

// Flush deletes every key that starts with the layer's prefix: all messages and groups of all processes. It is for tests.
func (c *Core) Flush(ctx context.Context) error {
	return wrap("flush", c.ring.each(ctx, func(ctx context.Context, s *shard) error {
		return flushScript.Run(ctx, s.client, nil, escapeGlob(c.cfg.Prefix)+"*").Err()
	}))
}

// Close implements Layer. Receivers must have returned from Run before: they use this layer's connections.
func (c *Core) Close() error {
	c.closeOnce.Do(func() {
		c.inbox.close()
		c.closeErr = c.ring.close()
	})
	return c.closeErr
}

// score is Python's time.time(): Unix seconds as a float64.
func score(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }

func scoreText(t time.Time) string { return strconv.FormatFloat(score(t), 'f', -1, 64) }

func wholeSeconds(d time.Duration) int64 { return int64(d / time.Second) }

// escapeGlob makes s match itself only in Redis' KEYS. Python does not escape; the two agree for every prefix without glob characters.
func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(s)
}

// wrap names the operation once, at this package's boundary.
func wrap(operation string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, redis.ErrClosed) {
		return ErrClosed
	}
	return fmt.Errorf("channelslayer: %s: %w", operation, err)
}
