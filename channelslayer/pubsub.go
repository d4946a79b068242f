package channelslayer

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

var _ RedisLayer = (*PubSub)(nil)

// MaxBacklog is how many messages wait in this process for the Receive of one channel of a pub/sub layer; the oldest is dropped
// beyond that, and counted. Python has no bound.
const MaxBacklog = 10_000

// PubSub speaks the wire of channels_redis.pubsub.RedisPubSubChannelLayer. Nothing is kept in Redis: a message reaches whoever
// is subscribed when it is published. General channels are no queues: every receiver gets each message. Names are not checked,
// as in Python, and the default prefix is part of the names of specific channels.
//
// It is safe for concurrent use and needs no Redis to be opened. A lost subscription is made again; what is published meanwhile
// is lost.
type PubSub struct {
	cfg     Config
	ring    ring
	codec   codec
	dropLog rate.Sometimes

	subscribers []*subscriber // one for each server; they run from the first channel on
	running     sync.WaitGroup

	mu       sync.Mutex
	stop     context.CancelFunc             // ends the subscribers; nil while they do not run
	channels map[string]*localChannel       // of this process, by name
	groups   map[string]map[string]struct{} // members in this process, by the group's name in Redis
	closed   bool
}

// localChannel is a channel that this process receives from. PubSub.mu guards it.
type localChannel struct {
	waiters []chan delivery
	queue   []Message
}

// OpenPubSub checks cfg and returns a pub/sub layer. It does not connect; Ping does.
func OpenPubSub(cfg Config) (*PubSub, error) {
	cfg = cfg.withDefaults()
	if err := errors.Join(cfg.validateSupported(BackendPubSub), cfg.validateHosts()); err != nil {
		return nil, err
	}
	codec, err := cfg.codec(0, 0)
	if err != nil {
		return nil, err
	}
	ring, err := newRing(cfg)
	if err != nil {
		return nil, err
	}
	p := &PubSub{
		cfg: cfg, ring: ring, codec: codec, dropLog: newDropLog(),
		channels: map[string]*localChannel{}, groups: map[string]map[string]struct{}{},
	}
	for _, s := range ring {
		p.subscribers = append(p.subscribers, newSubscriber(s, cfg.Logger, &p.cfg.Observer, p.deliver))
	}
	return p, nil
}

// groupName is what a group's messages are published on (pubsub.py, _get_group_channel_name).
func (p *PubSub) groupName(group string) string { return p.cfg.Prefix + "__group__" + group }

// subscriberOf returns the one on the server of a name in Redis.
func (p *PubSub) subscriberOf(name string) *subscriber {
	return p.subscribers[ringIndex(name, len(p.subscribers))]
}

// Ping implements RedisLayer.
func (p *PubSub) Ping(ctx context.Context) error { return wrap("ping", p.ring.ping(ctx)) }

// Send implements Layer. It is no error when nobody listens. A message must not have the key __asgi_channel__, which Python's
// pub/sub layer would let pass.
func (p *PubSub) Send(ctx context.Context, channel string, m Message) error {
	_, err := p.publish(ctx, channel, m)
	return wrap("send", err)
}

// GroupSend implements Layer. It is no error when nobody listens. Observer.GroupSent gets the number of subscribed connections
// as keys.
func (p *PubSub) GroupSend(ctx context.Context, group string, m Message) error {
	n, err := p.publish(ctx, p.groupName(group), m)
	if err != nil {
		return wrap("group send", err)
	}
	p.cfg.Observer.groupSent(GroupSent{Members: n, Keys: n})
	return nil
}

func (p *PubSub) publish(ctx context.Context, name string, m Message) (int, error) {
	if _, reserved := m[channelKeyName]; reserved {
		return 0, ErrReservedKey
	}
	payload, err := p.codec.encode(m, "")
	if err != nil {
		return 0, err
	}
	n, err := p.ring.at(name).client.Publish(ctx, name, payload).Result()
	return int(n), err
}

// NewChannel implements Layer: "<layer's prefix><prefix><32 hex>", where "" means "specific.". This process receives on it from
// now on, until CloseChannel.
func (p *PubSub) NewChannel(ctx context.Context, prefix string) (string, error) {
	if prefix == "" {
		prefix = specificPrefix + "."
	}
	name := p.cfg.Prefix + prefix + newHex()
	if err := p.listen(ctx, name); err != nil {
		p.CloseChannel(name)
		return "", wrap("new channel", err)
	}
	return name, nil
}

// listen makes name a channel of this process and returns when Redis knows.
func (p *PubSub) listen(ctx context.Context, name string) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return ErrClosed
	}
	p.start(ctx)
	s := p.subscriberOf(name)
	if p.channels[name] == nil {
		p.channels[name] = &localChannel{}
		s.subscribe(name)
	}
	p.mu.Unlock()
	return s.wait(ctx, name)
}

// start lets the subscribers run, if they do not yet. p.mu is held.
func (p *PubSub) start(ctx context.Context) {
	if p.stop != nil {
		return
	}
	// They serve others than the one who started them, until Close.
	ctx, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, s := range p.subscribers {
		p.running.Go(func() { s.run(ctx) })
	}
}

// CloseChannel ends this process' interest in a channel, and its memberships. A Receive on it returns ErrClosed. Python does
// that when a receive is cancelled.
func (p *PubSub) CloseChannel(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closeChannel(name)
	for group, members := range p.groups {
		p.leave(group, members, name)
	}
}

// closeChannel is the part without the memberships. p.mu is held.
func (p *PubSub) closeChannel(name string) {
	channel := p.channels[name]
	if channel == nil {
		return
	}
	for _, w := range channel.waiters {
		w <- delivery{err: ErrClosed}
	}
	delete(p.channels, name)
	p.subscriberOf(name).unsubscribe(name)
}

// leave ends one membership. p.mu is held.
func (p *PubSub) leave(group string, members map[string]struct{}, channel string) {
	if _, ok := members[channel]; !ok {
		return
	}
	if delete(members, channel); len(members) == 0 {
		delete(p.groups, group)
		p.subscriberOf(group).unsubscribe(group)
	}
}

// GroupAdd implements Layer. It returns ErrUnknownChannel unless channel is one that this process receives on, since the
// membership is kept here and not in Redis.
func (p *PubSub) GroupAdd(ctx context.Context, group, channel string) error {
	name := p.groupName(group)
	s := p.subscriberOf(name)
	p.mu.Lock()
	if p.channels[channel] == nil {
		p.mu.Unlock()
		return ErrUnknownChannel
	}
	members := p.groups[name]
	if members == nil {
		members = map[string]struct{}{}
		p.groups[name] = members
		s.subscribe(name)
	}
	members[channel] = struct{}{}
	p.mu.Unlock()
	return wrap("group add", s.wait(ctx, name))
}

// GroupDiscard implements Layer.
func (p *PubSub) GroupDiscard(_ context.Context, group, channel string) error {
	name := p.groupName(group)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leave(name, p.groups[name], channel)
	return nil
}

// Receive implements Layer. The first one on a channel that NewChannel did not make subscribes to it; what was published before
// is lost. It stays subscribed when ctx ends, so that the next Receive misses nothing. Bytes that cannot be decoded are dropped
// and counted, and the wait goes on, where Python's consumers end.
func (p *PubSub) Receive(ctx context.Context, channel string) (Message, error) {
	if m, ok := p.takeQueued(channel); ok {
		return m, nil
	}
	if err := p.listen(ctx, channel); err != nil {
		return nil, wrap("receive", err)
	}
	p.mu.Lock()
	c := p.channels[channel]
	if c == nil {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	if m, ok := c.take(); ok {
		p.mu.Unlock()
		return m, nil
	}
	w := make(chan delivery, 1)
	c.waiters = append(c.waiters, w)
	p.mu.Unlock()
	select {
	case d := <-w:
		return d.message, d.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c.removeWaiter(w)
	select {
	case d := <-w: // it came at the same moment: taken is taken
		return d.message, d.err
	default:
		return nil, context.Cause(ctx)
	}
}

// takeQueued returns what waits in this process, whether Redis is there or not.
func (p *PubSub) takeQueued(channel string) (Message, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.channels[channel]
	if c == nil {
		return nil, false
	}
	return c.take()
}

func (c *localChannel) take() (Message, bool) {
	if len(c.queue) == 0 {
		return nil, false
	}
	m := c.queue[0]
	c.queue[0] = nil
	c.queue = c.queue[1:]
	return m, true
}

func (c *localChannel) removeWaiter(w chan delivery) {
	for i, other := range c.waiters {
		if other == w {
			c.waiters = append(c.waiters[:i:i], c.waiters[i+1:]...)
			return
		}
	}
}

// deliver hands a published message to the channels of this process that it is for. The subscribers call it.
func (p *PubSub) deliver(name, payload string) {
	r, _, err := p.codec.decode(payload, score(time.Now()))
	if err == nil {
		_, err = r.Map()
	}
	if err != nil {
		p.drop(err)
		return
	}
	p.cfg.Observer.received(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.channels[name]; c != nil {
		p.hand(c, &r)
		return
	}
	for channel := range p.groups[name] {
		if c := p.channels[channel]; c != nil {
			p.hand(c, &r)
		}
	}
}

// hand gives a message of its own to one channel. p.mu is held.
func (p *PubSub) hand(c *localChannel, r *Received) {
	m, err := r.Map()
	if err != nil { // it went well a moment ago
		p.drop(err)
		return
	}
	if len(c.waiters) > 0 {
		c.waiters[0] <- delivery{message: m}
		c.waiters = c.waiters[1:]
		return
	}
	if len(c.queue) >= MaxBacklog {
		c.queue = c.queue[1:]
		p.cfg.Observer.dropped(DropBufferFull, 1)
	}
	c.queue = append(c.queue, m)
}

func (p *PubSub) drop(err error) { dropMessage(&p.cfg, &p.dropLog, err) }

// Flush implements RedisLayer: this process forgets its channels and groups; a Receive ends with ErrClosed. There is nothing in
// Redis.
func (p *PubSub) Flush(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name := range p.channels {
		p.closeChannel(name)
	}
	for group := range p.groups {
		p.subscriberOf(group).unsubscribe(group)
	}
	clear(p.groups)
	return nil
}

// Close implements Layer. Receivers must have returned from Run before.
func (p *PubSub) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	for name := range p.channels {
		p.closeChannel(name)
	}
	if p.stop != nil {
		p.stop()
	}
	p.mu.Unlock()
	p.running.Wait()
	return p.ring.close()
}

// NewGroupReceiver implements RedisLayer.
func (p *PubSub) NewGroupReceiver(cfg ReceiverConfig) (GroupReceiver, error) {
	return p.NewReceiver(cfg)
}
