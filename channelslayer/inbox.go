package channelslayer

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/dfws/dfws/internal/redisconn"
)

// popBlock is how long a blocking pop waits in Redis. A pop is never cancelled in flight: an element that Redis has given out and nobody
// reads is lost. So this also bounds how long Close waits.
const popBlock = time.Second

// inbox serves Receive. As in Python there is one reader for each key, and the messages of a specific key are given to the
// channels named in __asgi_channel__. With several hosts there is one for each of them: general channels are on all in turn, and messages that
// Python's send puts on another server than Python's receive looks at arrive here, too. Readers exist only while somebody waits.
type inbox struct {
	core    *Core
	clients []*redis.Client // one for each server, blocking pops only
	reader  sync.WaitGroup

	mu     sync.Mutex
	closed bool
	done   chan struct{} // closed by close
	keys   map[string]*keyInbox
}

// keyInbox is what this process knows of one Redis key. Its fields are guarded by inbox.mu.
type keyInbox struct {
	key     string
	name    string // channel name without local part
	reading []bool // by server: a reader is there
	failing []bool // by server: it could not be asked the last time
	waiting int
	waiters map[string][]chan delivery
	buffers map[string][]buffered
	swept   time.Time
}

// delivery ends one Receive. Each waiter's chan has room for the one that it gets: the reader never blocks on it.
type delivery struct {
	message Message
	err     error
}

type buffered struct {
	message Message
	at      time.Time
}

func newInbox(c *Core) *inbox {
	in := &inbox{core: c, done: make(chan struct{}), keys: map[string]*keyInbox{}}
	for _, s := range c.ring {
		in.clients = append(in.clients, redis.NewClient(s.blockingOptions()))
	}
	return in
}

func (in *inbox) newKey(name string) *keyInbox {
	return &keyInbox{
		key: in.core.keys.channel(name), name: name, reading: make([]bool, len(in.clients)), failing: make([]bool, len(in.clients)),
		waiters: map[string][]chan delivery{}, buffers: map[string][]buffered{},
	}
}

// Receive implements Layer. For a general channel any process may take the message; for a specific channel, which must be one of this
// layer's, messages for other channels of the layer are kept for their own Receive: up to Capacity each, the oldest is dropped beyond that, and
// nothing is kept longer than Expiry. A Receive that ends by its ctx loses no message: a general channel's goes back to Redis.
// Bytes that cannot be decoded are dropped and counted, and the wait goes on.
func (c *Core) Receive(ctx context.Context, channel string) (Message, error) {
	if err := CheckChannelName(channel); err != nil {
		return nil, err
	}
	name := nonLocalName(channel)
	if name != channel && !strings.HasSuffix(name, "."+c.clientPrefix+"!") {
		return nil, ErrWrongClientPrefix
	}
	return c.inbox.receive(ctx, name, channel)
}

func (in *inbox) receive(ctx context.Context, name, channel string) (Message, error) {
	in.mu.Lock()
	if in.closed {
		in.mu.Unlock()
		return nil, ErrClosed
	}
	k := in.keys[name]
	if k == nil {
		k = in.newKey(name)
		in.keys[name] = k
	}
	if m, ok := k.takeBuffered(channel); ok {
		in.mu.Unlock()
		return m, nil
	}
	wait := make(chan delivery, 1)
	k.waiters[channel] = append(k.waiters[channel], wait)
	k.waiting++
	for i, reading := range k.reading {
		if !reading {
			k.reading[i] = true
			in.reader.Go(func() { in.read(context.WithoutCancel(ctx), k, i) })
		}
	}
	in.mu.Unlock()

	select {
	case d := <-wait:
		return d.message, d.err
	case <-in.done:
	case <-ctx.Done():
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	k.removeWaiter(channel, wait)
	select {
	case d := <-wait: // it came at the same moment: taken is taken
		return d.message, d.err
	default:
	}
	if in.closed {
		return nil, ErrClosed
	}
	return nil, context.Cause(ctx)
}

func (k *keyInbox) takeBuffered(channel string) (Message, bool) {
	queue := k.buffers[channel]
	if len(queue) == 0 {
		return nil, false
	}
	m := queue[0].message
	if len(queue) == 1 {
		delete(k.buffers, channel)
	} else {
		k.buffers[channel] = queue[1:]
	}
	return m, true
}

func (k *keyInbox) removeWaiter(channel string, wait chan delivery) {
	list := k.waiters[channel]
	for i, w := range list {
		if w == wait {
			k.setWaiters(channel, append(list[:i:i], list[i+1:]...))
			k.waiting--
			return
		}
	}
}

func (k *keyInbox) setWaiters(channel string, list []chan delivery) {
	if len(list) == 0 {
		delete(k.waiters, channel)
		return
	}
	k.waiters[channel] = list
}

// read pops from one server while somebody waits on the key. ctx is not cancelled: it serves others than the one who started it.
func (in *inbox) read(ctx context.Context, k *keyInbox, server int) {
	client := in.clients[server]
	var pause redisconn.Backoff
	for {
		in.mu.Lock()
		if k.waiting == 0 || in.closed {
			k.reading[server] = false
			if len(k.buffers) == 0 && !slices.Contains(k.reading, true) {
				delete(in.keys, k.name)
			}
			in.mu.Unlock()
			return
		}
		in.mu.Unlock()

		z, err := client.BZPopMin(ctx, popBlock, k.key).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			if in.failed(k, server, wrap("receive", err)) {
				in.sleep(pause.Pause()) // the others are there
			}
			continue
		}
		in.succeeded(k, server)
		pause.Reset()
		if err != nil {
			continue
		}
		member, _ := z.Member.(string)
		if giveBack := in.dispatch(k, member, z.Score); giveBack {
			if err := client.ZAdd(ctx, k.key, z.Z).Err(); err != nil {
				in.core.cfg.Logger.Warn("message lost: its receiver left and Redis did not take it back", slog.String("channel", k.name), slog.Any("err", err))
			}
		}
	}
}

// failed notes that a server could not be asked. When no other one can be either, it ends every Receive on the key: as in Python, whoever
// waits learns that Redis is away. Otherwise it reports true: the messages of the others arrive.
func (in *inbox) failed(k *keyInbox, server int, err error) (othersWork bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	before := k.failing[server]
	k.failing[server] = true
	if slices.Contains(k.failing, false) {
		if !before { // one outage, one line
			in.core.cfg.Logger.Warn("channel cannot be received from on one server", slog.String("channel", k.name), slog.Any("err", err))
		}
		return true
	}
	for channel, list := range k.waiters {
		for _, w := range list {
			w <- delivery{err: err}
		}
		delete(k.waiters, channel)
	}
	k.waiting = 0
	return false
}

func (in *inbox) succeeded(k *keyInbox, server int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	k.failing[server] = false
}

// sleep pauses, not longer than the layer is open.
func (in *inbox) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-in.done:
	}
}

// dispatch gives one message to those it is for. It reports true when the message came from a general channel and nobody waits any more.
func (in *inbox) dispatch(k *keyInbox, member string, score float64) (giveBack bool) {
	r, names, err := in.core.codec.decode(member, score)
	var m Message
	if err == nil {
		m, err = r.Map()
	}
	if err != nil {
		in.core.drop(err)
		return false
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.sweepBuffers(k)
	if !strings.HasSuffix(k.name, "!") { // general: Python ignores the list, too
		return !k.hand(k.name, m)
	}
	if !names.present {
		in.core.cfg.Observer.dropped(DropNoChannel, 1)
		return false
	}
	names.each(func(channel string) {
		if !k.hand(channel, m) {
			in.buffer(k, channel, m)
		}
	})
	return false
}

func (k *keyInbox) hand(channel string, m Message) bool {
	list := k.waiters[channel]
	if len(list) == 0 {
		return false
	}
	list[0] <- delivery{message: m}
	k.setWaiters(channel, list[1:])
	k.waiting--
	return true
}

func (in *inbox) buffer(k *keyInbox, channel string, m Message) {
	queue := k.buffers[channel]
	if len(queue) >= in.core.cfg.Capacity {
		queue = queue[1:]
		in.core.cfg.Observer.dropped(DropBufferFull, 1)
	}
	k.buffers[strings.Clone(channel)] = append(queue, buffered{message: m, at: in.core.now()})
}

// sweepBuffers forgets what nobody fetched for Expiry. Python keeps it until the process ends.
func (in *inbox) sweepBuffers(k *keyInbox) {
	now := in.core.now()
	if now.Sub(k.swept) < in.core.cfg.Expiry {
		return
	}
	k.swept = now
	for channel, queue := range k.buffers {
		old := 0
		for old < len(queue) && now.Sub(queue[old].at) > in.core.cfg.Expiry {
			old++
		}
		if old == 0 {
			continue
		}
		in.core.cfg.Observer.dropped(DropExpired, old)
		if k.buffers[channel] = queue[old:]; old == len(queue) {
			delete(k.buffers, channel)
		}
	}
}

// newDropLog lets through what is logged of dropped messages: whoever writes junk can write much of it.
func newDropLog() rate.Sometimes { return rate.Sometimes{First: 10, Interval: time.Second} }

// drop counts bytes that are no message, and logs a sample of them.
func (c *Core) drop(err error) { dropMessage(&c.cfg, &c.dropLog, err) }

func dropMessage(cfg *Config, sample *rate.Sometimes, err error) {
	reason := DropUndecodable
	if d, ok := errors.AsType[*DecodeError](err); ok {
		reason = d.Reason
	}
	cfg.Observer.dropped(reason, 1)
	sample.Do(func() { cfg.Logger.Warn("message dropped", slog.Any("err", err)) })
}

// close ends every Receive and waits for the pops in flight.
func (in *inbox) close() {
	in.mu.Lock()
	in.closed = true
	close(in.done)
	in.mu.Unlock()
	in.reader.Wait()
	for _, client := range in.clients {
		if err := client.Close(); err != nil {
			in.core.cfg.Logger.Debug("close", slog.Any("err", err))
		}
	}
}
