package channelslayer

import (
	"context"
	"errors"
	"hash/crc32"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/dfws/dfws/internal/redisconn"
)

// MaxHosts bounds the servers of a layer. It is against mistakes: each one costs a Receiver two connections and a goroutine or two.
const MaxHosts = 64

// ring is the servers of a layer in the order of the option hosts.
//
// What is looked for where (channels_redis 4.3, core.py and pubsub.py): a group's members on the server of the group's name;
// messages that group_send delivers, and that Python receives on a specific channel, on the server of the name up to the "!";
// messages of Python's send to a specific channel on the server of the whole name, where no Python process looks for them;
// general channels on all in turn. The pub/sub layer takes the whole name in Redis, with its prefix.
type ring []*shard

// at returns the server of a name.
func (r ring) at(name string) *shard { return r[ringIndex(name, len(r))] }

// ringSlots is the number of slots that the servers of a ring share (utils.py, _consistent_hash).
const ringSlots = 4096

// ringIndex is _consistent_hash of channels_redis 2.2 to 4.3, with its arithmetic of floats.
func ringIndex(name string, size int) int {
	if size == 1 {
		return 0
	}
	slot := crc32.ChecksumIEEE([]byte(name)) % ringSlots
	return int(float64(slot) / (ringSlots / float64(size)))
}

// each calls f for every server, side by side, and joins the errors.
func (r ring) each(ctx context.Context, f func(context.Context, *shard) error) error {
	if len(r) == 1 {
		return f(ctx, r[0])
	}
	errs := make([]error, len(r))
	var g errgroup.Group
	for i, s := range r {
		g.Go(func() error {
			errs[i] = f(ctx, s)
			return nil
		})
	}
	_ = g.Wait() // its functions return nil
	return errors.Join(errs...)
}

// close gives back the connections.
func (r ring) close() error {
	var errs []error
	for _, s := range r {
		errs = append(errs, s.client.Close())
	}
	return errors.Join(errs...)
}

// shard is one server of a layer; behind Sentinels, whichever is the master.
type shard struct {
	servers *redisconn.Servers
	client  *redis.Client // everything that does not block
}

func newRing(cfg Config) (ring, error) {
	var errs []error
	r := make(ring, len(cfg.Hosts))
	for i, h := range cfg.Hosts {
		servers, err := h.servers(cfg.Logger)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r[i] = &shard{servers: servers}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, s := range r {
		s.client = redis.NewClient(s.options())
	}
	return r, nil
}

// options are for a client of this server.
func (s *shard) options() *redis.Options {
	o := s.servers.ClientOptions()
	o.PipelinePoolSize = -1 // pipelines use the pool of everything else
	return &o
}

// blockingOptions are for a client that only does blocking pops: its time-outs belong to the command, not to a context.
func (s *shard) blockingOptions() *redis.Options {
	o := s.options()
	o.ContextTimeoutEnabled = false
	return o
}

func (r ring) ping(ctx context.Context) error {
	return r.each(ctx, func(ctx context.Context, s *shard) error { return s.client.Ping(ctx).Err() })
}
