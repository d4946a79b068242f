package channelslayer

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"
)

var _ Layer = (*Core)(nil)

// Core speaks the wire of channels_redis.core.RedisChannelLayer. It is safe for concurrent use and needs no Redis to be opened:
// each call fails or succeeds by itself, and the first one after an outage works again.
type Core struct {
	cfg          Config
	keys         layerKeys
	codec        codec
	capacities   capacities
	options      *redis.Options
	client       *redis.Client // everything that does not block
	clientPrefix string        // 32 hex digits: uuid4().hex of the layer object in Python
	inbox        *inbox
	now          func() time.Time
	dropLog      rate.Sometimes // whoever writes junk can write much of it

	closeOnce sync.Once
	closeErr  error
}

// Open checks cfg and returns a layer. It does not connect; Ping does.
func Open(cfg Config) (*Core, error) {
	cfg = cfg.withDefaults()
	capacities, capErr := newCapacities(cfg.Capacity, cfg.ChannelCapacity)
	if err := errors.Join(cfg.validate(), capErr); err != nil {
		return nil, err
	}
	options, err := cfg.Hosts[0].options()
	if err != nil {
		return nil, err
	}
	c := &Core{
		cfg:          cfg,
		keys:         layerKeys{prefix: cfg.Prefix},
		codec:        codec{randomLength: cfg.RandomPrefixLength},
		capacities:   capacities,
		options:      options,
		client:       redis.NewClient(clone(options)),
		clientPrefix: newHex(),
		now:          time.Now,
		dropLog:      rate.Sometimes{First: 10, Interval: time.Second},
	}
	c.inbox = newInbox(c)
	return c, nil
}

// clone copies options: a client writes its defaults into the one it is given.
func clone(o *redis.Options) *redis.Options {
	c := *o
	return &c
}

// newHex is Python's uuid.uuid4().hex.
func newHex() string {
	id := uuid.New()
	return hex.EncodeToString(id[:])
}

// Ping returns nil when Redis answers.
func (c *Core) Ping(ctx context.Context) error {
	return wrap("ping", c.client.Ping(ctx).Err())
}

// ClientPrefix returns the part that all specific channels of this layer share.
func (c *Core) ClientPrefix() string { return c.clientPrefix }

// NewChannel returns a new specific channel name of this layer: "<prefix>.<32 hex>!<32 hex>". prefix "" means "specific".
func (c *Core) NewChannel(prefix string) string {
	if prefix == "" {
		prefix = specificPrefix
	}
	return prefix + "." + c.clientPrefix + "!" + newHex()
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
	sent, err := sendScript.Run(ctx, c.client, []string{c.keys.channel(channel)},
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

// GroupSend implements Layer. A process that is over its capacity does not get the message: as in Python that is no error, but it is logged and
// counted (Observer.GroupSent).
func (c *Core) GroupSend(ctx context.Context, group string, m Message) error {
	if err := CheckGroupName(group); err != nil {
		return err
	}
	head, err := c.codec.encodeOpen(m)
	if err != nil {
		return err
	}
	reply, err := groupSendScript.Run(ctx, c.client, []string{c.keys.group(group)}, c.groupSendArgs(head)...).Int64Slice()
	if err != nil {
		return wrap("group send", err)
	}
	if len(reply) != 4 {
		return fmt.Errorf("channelslayer: group send: reply has %d elements, want 4", len(reply))
	}
	sent := GroupSent{Members: int(reply[0]), Keys: int(reply[1]), OverCapacity: int(reply[2]), Rejected: int(reply[3])}
	c.cfg.Observer.groupSent(sent)
	if sent.OverCapacity > 0 || sent.Rejected > 0 {
		c.cfg.Logger.InfoContext(ctx, "channels over capacity", slog.String("group", group), slog.Int("over_capacity", sent.OverCapacity),
			slog.Int("rejected", sent.Rejected), slog.Int("members", sent.Members))
	}
	return nil
}

func (c *Core) groupSendArgs(head string) []any {
	now := c.now()
	args := make([]any, 0, 7+2*len(c.capacities.rules))
	args = append(args, scoreText(now), now.Unix()-wholeSeconds(c.cfg.GroupExpiry), now.Unix()-wholeSeconds(c.cfg.Expiry),
		wholeSeconds(c.cfg.Expiry), c.cfg.Prefix, head, c.capacities.fallback)
	for _, rule := range c.capacities.rules {
		args = append(args, rule.lua, rule.capacity)
	}
	return args
}

// GroupAdd implements Layer. A membership lasts for GroupExpiry: whoever stays longer must call it again. A Receiver does that by itself.
func (c *Core) GroupAdd(ctx context.Context, group, channel string) error {
	if err := errors.Join(CheckGroupName(group), CheckChannelName(channel)); err != nil {
		return err
	}
	_, err := c.client.Pipelined(ctx, func(p redis.Pipeliner) error {
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
	return wrap("group discard", c.client.ZRem(ctx, c.keys.group(group), channel).Err())
}

// Flush deletes every key that starts with the layer's prefix: all messages and groups of all processes. It is for tests.
func (c *Core) Flush(ctx context.Context) error {
	return wrap("flush", flushScript.Run(ctx, c.client, nil, escapeGlob(c.cfg.Prefix)+"*").Err())
}

// Close implements Layer. Receivers must have returned from Run before: they use this layer's connections.
func (c *Core) Close() error {
	c.closeOnce.Do(func() {
		c.inbox.close()
		c.closeErr = c.client.Close()
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
