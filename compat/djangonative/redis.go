package djangonative

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/channelslayer"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/djangostate"
)

const (
	// redisTimeout bounds one command.
	redisTimeout = 3 * time.Second
	// redisPool is the number of connections to one server.
	redisPool = 8
	// maxListedTopics bounds a list of topics.
	maxListedTopics = 10_000
)

// redisClient connects to a server whose URL is in redis-py's form.
func redisClient(url compat.Secret) (*redis.Client, error) {
	o, err := channelslayer.ClientOptions(channelslayer.Host{URL: url.Reveal()})
	if err != nil {
		return nil, err
	}
	o.PoolSize, o.MaxRetries = redisPool, 1
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = redisTimeout, redisTimeout, redisTimeout, redisTimeout
	return redis.NewClient(o), nil
}

// redisCache is Django's RedisCache, or that of django-redis. Only the first server is read: it is the one that is written to, others are
// replicas, which may lag behind.
type redisCache struct {
	client *redis.Client
	cache  compat.Cache
	codec  djangostate.CacheCodec
}

func openRedisCache(c compat.Cache) (cache, error) {
	client, err := redisClient(c.Servers[0])
	if err != nil {
		return nil, err
	}
	return &redisCache{client, c, djangostate.CacheCodec{Serializer: c.Serializer, Compressor: c.Compressor}}, nil
}

func (c *redisCache) get(ctx context.Context, key string) (celeryproto.Raw, error) {
	// A range bounds what is read, whatever is stored there; it is empty for a missing key. One byte more than is allowed is refused.
	data, err := c.client.GetRange(ctx, fullKey(&c.cache, key), 0, djangostate.DefaultMaxCacheValue).Bytes()
	switch {
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return nil, fmt.Errorf("%w: the key holds no text", djangostate.ErrMalformed)
	case err != nil:
		return nil, err
	case len(data) == 0:
		return nil, errNone
	}
	return c.codec.Decode(data)
}

func (c *redisCache) close() error { return c.client.Close() }

// listedTopics are those of df_websockets 0.9 and 0.10: a list, whose items start with the prefix, too.
type listedTopics struct {
	client *redis.Client
	prefix string
}

func (t *listedTopics) topics(ctx context.Context, windowKey string) ([]string, error) {
	topics, err := t.client.LRange(ctx, t.prefix+windowKey, 0, maxListedTopics).Result()
	switch {
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return nil, fmt.Errorf("%w: the key holds no list", djangostate.ErrMalformed)
	case err != nil:
		return nil, err
	case len(topics) > maxListedTopics:
		return nil, errors.New("too many topics")
	}
	return topics, nil
}

func (t *listedTopics) close() error { return t.client.Close() }
