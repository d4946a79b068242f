package channelslayer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Defaults of a ReceiverConfig.
const (
	DefaultKeyPrefix     = "dfws:"
	DefaultAliveTTL      = 30 * time.Second
	DefaultProbeInterval = time.Second
	DefaultMaxBatch      = 512
	DefaultStopTimeout   = 5 * time.Second
)

// ReceiverConfig configures one Receiver. The zero value is good for production.
type ReceiverConfig struct {
	// Name is kept in Redis for people who look at the keys ("gateway web-1:8000"). It may be empty.
	Name string
	// KeyPrefix starts the keys that are not the layer's; "" means "dfws:". They must not start with the layer's prefix, whose flush() would delete
	// them. All receivers of a site must agree: they look after each other.
	KeyPrefix string
	// AliveTTL is how long after its last sign of life a receiver counts as dead and the others remove its memberships; 0 means 30 s. The sign is renewed
	// three times as often. At least 100 ms.
	AliveTTL time.Duration
	// ProbeInterval is how often the receiver makes sure that its memberships were not flushed; 0 means 1 s. At least 10 ms.
	ProbeInterval time.Duration
	// MaxBatch bounds how many messages one round trip takes; 0 means 512.
	MaxBatch int
	// StopTimeout bounds the clean-up when Run's context ends; 0 means 5 s.
	StopTimeout time.Duration
}

func (c ReceiverConfig) withDefaults() ReceiverConfig {
	if c.KeyPrefix == "" {
		c.KeyPrefix = DefaultKeyPrefix
	}
	if c.AliveTTL == 0 {
		c.AliveTTL = DefaultAliveTTL
	}
	if c.ProbeInterval == 0 {
		c.ProbeInterval = DefaultProbeInterval
	}
	if c.MaxBatch == 0 {
		c.MaxBatch = DefaultMaxBatch
	}
	if c.StopTimeout == 0 {
		c.StopTimeout = DefaultStopTimeout
	}
	return c
}

func (c ReceiverConfig) validate(layerPrefix string) error {
	var faults []error
	if own := newOwnKeys(c.KeyPrefix, layerPrefix).prefix; strings.HasPrefix(own, layerPrefix) {
		faults = append(faults, fmt.Errorf("channelslayer: receiver: keys %q start with the layer's prefix %q, whose flush would delete them: choose another KeyPrefix", own+"…", layerPrefix))
	}
	if c.AliveTTL < 100*time.Millisecond {
		faults = append(faults, fmt.Errorf("channelslayer: receiver: AliveTTL %v is below 100ms", c.AliveTTL))
	}
	if c.ProbeInterval < 10*time.Millisecond {
		faults = append(faults, fmt.Errorf("channelslayer: receiver: ProbeInterval %v is below 10ms", c.ProbeInterval))
	}
	if c.MaxBatch < 1 {
		faults = append(faults, fmt.Errorf("channelslayer: receiver: MaxBatch %d is below 1", c.MaxBatch))
	}
	if c.StopTimeout < 0 {
		faults = append(faults, fmt.Errorf("channelslayer: receiver: StopTimeout %v is negative", c.StopTimeout))
	}
	return errors.Join(faults...)
}

// Receiver is one receiving process with any number of listeners: it costs one key in Redis and one member per group, whatever
// the number of listeners behind a group. Its caller fans out.
//
// Join and Leave work before and while Run runs; after Run they return ErrClosed.
type Receiver struct {
	core    *Core
	cfg     ReceiverConfig
	id      string // P, the client prefix
	name    string // "specific.P!"
	key     string // the one Redis key
	own     ownKeys
	wake    string // a member of key that is no message: it ends a blocking pop at the stop
	shards  []*shardReceiver
	started atomic.Bool
}

// shardReceiver is a Receiver's part on one server of the layer: the groups that have their members there, and what arrives there. Each
// server can be flushed or away on its own, so each has its own signs of life.
type shardReceiver struct {
	*Receiver
	shard  *shard
	client *redis.Client // blocking pops only, one connection

	connects     atomic.Int64  // connections that client has made
	reconnectedC chan struct{} // sent to by client's OnConnect, received by maintain; room for one: more say no more
	noBatchPop   bool          // owned by the goroutine that reads: BZMPOP is not to be had

	members  memberships
	flushers sync.WaitGroup // goroutines of flushLoop
}

// NewReceiver returns a receiver with a fresh client prefix. It does not connect. Its Run must have returned before the layer is closed.
func (c *Core) NewReceiver(cfg ReceiverConfig) (*Receiver, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(c.cfg.Prefix); err != nil {
		return nil, err
	}
	id := newHex()
	r := &Receiver{
		core: c,
		cfg:  cfg,
		id:   id,
		name: specificPrefix + "." + id + "!",
		own:  newOwnKeys(cfg.KeyPrefix, c.cfg.Prefix),
		wake: "wake " + rand.Text(),
	}
	r.key = c.keys.channel(r.name)
	for _, s := range c.ring {
		r.shards = append(r.shards, newShardReceiver(r, s))
	}
	return r, nil
}

func newShardReceiver(r *Receiver, s *shard) *shardReceiver {
	part := &shardReceiver{Receiver: r, shard: s, reconnectedC: make(chan struct{}, 1), members: newMemberships()}
	options := s.blockingOptions()
	options.PoolSize, options.MaxActiveConns = 1, 1
	options.OnConnect = func(context.Context, *redis.Conn) error {
		if part.connects.Add(1) > 1 {
			select {
			case part.reconnectedC <- struct{}{}:
			default:
			}
		}
		return nil
	}
	part.client = redis.NewClient(options)
	return part
}

// Joined returns the number of groups that are joined now.
func (r *Receiver) Joined() int {
	n := 0
	for _, s := range r.shards {
		s.members.mu.Lock()
		n += len(s.members.joined)
		s.members.mu.Unlock()
	}
	return n
}

// ClientPrefix returns P, which names this receiver in Redis.
func (r *Receiver) ClientPrefix() string { return r.id }

// GroupChannel returns the channel name that stands for group in this process: "specific.<P>!" and the SHA-256 of the group's name in base64url
// without padding, 85 characters. A message does not tell its group, so the name must, and a df_websockets group name itself would be too long.
// Whoever sends to this name reaches the listeners of the group in this process only.
func (r *Receiver) GroupChannel(group string) string {
	sum := sha256.Sum256([]byte(group))
	return r.name + base64.RawURLEncoding.EncodeToString(sum[:])
}

// Run receives until ctx ends. It calls deliver for one message after the other, in the order of each server, with the joined groups that the
// message is for; deliver must not wait for a listener: while it does, the key fills up and senders drop. Both arguments may be kept;
// groups must not be changed.
//
// Redis being away is no error: Run tries again, and afterwards writes all memberships anew. When ctx ends it leaves all groups, delivers what
// had arrived, deletes its keys and returns nil, or the error that kept it from cleaning up (then the others sweep).
func (r *Receiver) Run(ctx context.Context, deliver func(groups []string, m *Received)) error {
	if r.started.Swap(true) {
		return ErrRunning
	}
	log := r.core.cfg.Logger.With(slog.String("client_prefix", r.id))
	log.InfoContext(ctx, "receiver starts", slog.String("key", r.key), slog.Int("hosts", len(r.shards)))
	if len(r.shards) > 1 {
		deliver = oneAtATime(deliver)
	}
	_ = r.eachShard(func(s *shardReceiver) error { // its functions return nil
		s.run(ctx, deliver)
		return nil
	})

	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.StopTimeout)
	defer cancel()
	err := r.stop(stopping, deliver)
	log.InfoContext(ctx, "receiver stopped", slog.Any("err", err))
	return err
}

// oneAtATime lets the readers of several servers take turns.
func oneAtATime(deliver func([]string, *Received)) func([]string, *Received) {
	var mu sync.Mutex
	return func(groups []string, m *Received) {
		mu.Lock()
		defer mu.Unlock()
		deliver(groups, m)
	}
}

// eachShard calls f for every server, side by side, and joins the errors.
func (r *Receiver) eachShard(f func(*shardReceiver) error) error {
	if len(r.shards) == 1 {
		return f(r.shards[0])
	}
	errs := make([]error, len(r.shards))
	var wg sync.WaitGroup
	for i, s := range r.shards {
		wg.Go(func() { errs[i] = f(s) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// run receives from one server until ctx ends.
func (r *shardReceiver) run(ctx context.Context, deliver func([]string, *Received)) {
	var wg sync.WaitGroup
	readDone := make(chan struct{}) // closed when the reader has returned
	wg.Go(func() { r.maintain(ctx) })
	wg.Go(func() { r.shard.servers.Watch(ctx) })
	wg.Go(func() {
		<-ctx.Done()
		r.interrupt(ctx, readDone)
	})
	r.read(ctx, deliver)
	close(readDone)
	wg.Wait()
}

// interrupt ends the pop in flight without cancelling it: it puts something into the key. When Redis hangs and the pop does not
// end by itself, the connection is closed.
func (r *shardReceiver) interrupt(ctx context.Context, readDone <-chan struct{}) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.StopTimeout)
	defer cancel()
	// The score puts it before every message. A failure only costs the rest of popBlock.
	_, err := r.shard.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.ZAdd(ctx, r.key, redis.Z{Score: 0, Member: r.wake})
		p.Expire(ctx, r.key, r.core.cfg.Expiry)
		return nil
	})
	if err != nil {
		r.core.cfg.Logger.DebugContext(ctx, "wake", slog.Any("err", err))
	}
	select {
	case <-readDone:
	case <-ctx.Done():
		if err := r.client.Close(); err != nil {
			r.core.cfg.Logger.DebugContext(ctx, "close", slog.Any("err", err))
		}
	}
}

// Pauses between attempts while Redis is away.
const (
	firstPause = 50 * time.Millisecond
	maxPause   = time.Second
)

// read takes messages until ctx ends.
func (r *shardReceiver) read(ctx context.Context, deliver func([]string, *Received)) {
	pause := firstPause
	for ctx.Err() == nil {
		batch, err := r.pop(context.WithoutCancel(ctx))
		r.handleAll(batch, deliver)
		if err == nil {
			if pause != firstPause {
				r.core.cfg.Logger.InfoContext(ctx, "receiver: Redis is back")
			}
			pause = firstPause
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if pause == firstPause { // one outage, one line
			r.core.cfg.Logger.WarnContext(ctx, "receiver: Redis is away", slog.Any("err", err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
}

// pop waits for messages, at most popBlock, and takes up to MaxBatch. One round trip from Redis 7 on.
func (r *shardReceiver) pop(ctx context.Context) ([]redis.Z, error) {
	if !r.noBatchPop {
		_, batch, err := r.client.BZMPop(ctx, popBlock, "min", int64(r.cfg.MaxBatch), r.key).Result()
		switch {
		case errors.Is(err, redis.Nil):
			return nil, nil
		case err != nil && isUnknownCommand(err):
			r.noBatchPop = true
		default:
			return batch, err
		}
	}
	first, err := r.client.BZPopMin(ctx, popBlock, r.key).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	batch := []redis.Z{first.Z}
	if r.cfg.MaxBatch == 1 {
		return batch, nil
	}
	rest, err := r.client.ZPopMin(ctx, r.key, int64(r.cfg.MaxBatch-1)).Result()
	return append(batch, rest...), err
}

// isUnknownCommand recognizes servers before Redis 7 and accounts that may not use BZMPOP.
func isUnknownCommand(err error) bool {
	text := err.Error()
	return strings.HasPrefix(text, "ERR unknown command") || strings.HasPrefix(text, "NOPERM")
}

func (r *shardReceiver) handleAll(batch []redis.Z, deliver func([]string, *Received)) {
	if len(batch) == 0 {
		return
	}
	r.core.cfg.Observer.received(len(batch))
	for _, z := range batch {
		member, _ := z.Member.(string)
		r.handle(member, z.Score, deliver)
	}
}

func (r *shardReceiver) handle(member string, score float64, deliver func([]string, *Received)) {
	if member == r.wake {
		return
	}
	m, names, err := r.core.codec.decode(member, score)
	switch {
	case err != nil:
		r.core.drop(err)
		return
	case !names.present:
		r.core.cfg.Observer.dropped(DropNoChannel, 1)
		return
	}
	groups := r.groupsOf(names)
	if len(groups) == 0 {
		r.core.cfg.Observer.dropped(DropUnknownChannel, 1)
		return
	}
	deliver(groups, &m)
}

// groupsOf maps channel names to joined groups. What arrives on one server may be for groups of another.
func (r *Receiver) groupsOf(names channelNames) (groups []string) {
	for _, s := range r.shards {
		groups = s.members.groupsOf(names, groups)
	}
	return groups
}

// NewGroupReceiver implements RedisLayer.
func (c *Core) NewGroupReceiver(cfg ReceiverConfig) (GroupReceiver, error) {
	r, err := c.NewReceiver(cfg)
	if err != nil {
		return nil, err // not a nil *Receiver in an interface
	}
	return r, nil
}
