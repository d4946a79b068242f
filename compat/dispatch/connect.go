package dispatch

import (
	"fmt"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/channelslayer"
	"github.com/dfws/dfws/compat"
)

// brokerTransport reads the broker's transport options, which the store shares.
func brokerTransport(cfg *ServicesConfig) (redisbroker.TransportOptions, error) {
	text := cfg.Settings.Celery.BrokerTransportOptions
	if len(text) == 0 {
		return redisbroker.TransportOptions{}, nil
	}
	transport, err := redisbroker.ParseTransportOptions(text)
	if err != nil {
		return transport, fmt.Errorf("dispatch: broker: %w", err)
	}
	return transport, nil
}

// openBroker opens the site's broker.
func openBroker(cfg *ServicesConfig, transport redisbroker.TransportOptions) (*redisbroker.Broker, error) {
	c := &cfg.Settings.Celery
	tls, err := redisbroker.ParseTLSOptions(c.BrokerUseSSL)
	if err != nil {
		return nil, fmt.Errorf("dispatch: broker: broker_use_ssl: %w", err)
	}
	broker, err := redisbroker.Open(redisbroker.Options{
		URL: c.BrokerURL.Reveal(), UseTLS: tls, FailoverStrategy: c.BrokerFailoverStrategy.Name,
		TransportOptions: transport, OwnPrefix: cfg.Settings.DFWS.KeyPrefix,
		Logger: cfg.Logger, Observer: cfg.Observers.Broker,
	})
	if err != nil {
		return nil, fmt.Errorf("dispatch: broker: %w", err)
	}
	return broker, nil
}

// openLayer opens the site's channel layer.
func openLayer(cfg *ServicesConfig) (channelslayer.RedisLayer, error) {
	config, err := layerConfig(cfg)
	if err == nil {
		var layer channelslayer.RedisLayer
		if layer, err = channelslayer.OpenLayer(config); err == nil {
			return layer, nil
		}
	}
	return nil, fmt.Errorf("dispatch: channel layer: %w", err)
}

// layerConfig are the settings of the channel layer.
func layerConfig(cfg *ServicesConfig) (channelslayer.Config, error) {
	c := &cfg.Settings.ChannelLayer
	config := channelslayer.Config{
		Backend: c.Backend, Prefix: c.Prefix, Capacity: c.Capacity, SerializerFormat: c.SerializerFormat,
		Expiry: c.Expiry.Duration(), GroupExpiry: c.GroupExpiry.Duration(), RandomPrefixLength: c.RandomPrefixLength,
		Logger: cfg.Logger, Observer: cfg.Observers.Layer,
	}
	if c.RandomPrefixLength == 0 {
		config.RandomPrefixLength = channelslayer.NoRandomPrefix
	}
	for i, host := range c.Hosts {
		h, err := layerHost(&host)
		if err != nil {
			return config, fmt.Errorf("hosts: entry %d: %w", i+1, err)
		}
		config.Hosts = append(config.Hosts, h)
	}
	for _, rule := range c.ChannelCapacity {
		config.ChannelCapacity = append(config.ChannelCapacity, channelslayer.CapacityRule{Glob: rule.Pattern, Regexp: rule.Regexp, Capacity: rule.Capacity})
	}
	for _, key := range c.SymmetricEncryptionKeys {
		config.SymmetricEncryptionKeys = append(config.SymmetricEncryptionKeys, channelslayer.Secret(key))
	}
	return config, nil
}

// layerHost is one server of the layer.
func layerHost(h *compat.LayerHost) (channelslayer.Host, error) {
	host := channelslayer.Host{URL: h.URL.Reveal(), Sentinels: h.Sentinels, MasterName: h.MasterName}
	if len(h.SentinelKwargs) == 0 {
		return host, nil
	}
	var err error
	if host.Sentinel, err = channelslayer.ParseSentinelOptions(h.SentinelKwargs); err != nil {
		return host, fmt.Errorf("sentinel_kwargs: %w", err)
	}
	return host, nil
}

// neverExpires as ResultOptions.Expires stands for Python's None and 0: results stay until somebody deletes them.
const neverExpires = -1

// patientJoin stands for result_chord_join_timeout None, no limit: another worker takes a chord up after twice this time.
const patientJoin = time.Hour

// openRedisResults opens a result backend in Redis.
func openRedisResults(cfg *ServicesConfig) (*redisbroker.Results, error) {
	opts, err := redisResultOptions(&cfg.Settings.Celery)
	if err == nil {
		opts.Logger, opts.Observer = cfg.Logger, cfg.Observers.Broker
		var results *redisbroker.Results
		if results, err = redisbroker.OpenResults(opts); err == nil {
			return results, nil
		}
	}
	return nil, fmt.Errorf("dispatch: result backend: %w", err)
}

// redisResultOptions are the settings of a result backend in Redis.
func redisResultOptions(c *compat.Celery) (redisbroker.ResultOptions, error) {
	opts := redisbroker.ResultOptions{
		URL: c.ResultBackend.Reveal(), Expires: lifeOf(c.ResultExpires, neverExpires),
		FailureExpires: lifeOf(c.ResultFailureExpires, 0), ChordExpires: lifeOf(c.ResultChordExpires, 0), ChordJoinTimeout: patientJoin,
		ClientName: c.RedisClientName, CredentialProvider: c.RedisBackendCredentialProvider.Name,
	}
	if c.ResultChordJoinTimeout != nil {
		opts.ChordJoinTimeout = c.ResultChordJoinTimeout.Duration()
	}
	if t := c.RedisSocketTimeout; t != nil && *t != defaultRedisSocketTimeout {
		opts.SocketTimeout = t.Duration()
	}
	if t := c.RedisSocketConnectTimeout; t != nil {
		opts.SocketConnectTimeout = t.Duration()
	}
	if n := c.RedisMaxConnections; n != nil {
		opts.MaxConnections = *n
	}
	if t := c.RedisBackendHealthCheckInterval; t != nil {
		opts.HealthCheckInterval = t.Duration()
	}
	words := c.AcceptContent
	if c.ResultAcceptContent != nil {
		words = c.ResultAcceptContent
	}
	accept, err := celeryproto.ParseAccept(words)
	if err != nil {
		return opts, fmt.Errorf("accepted content: %w", err)
	}
	opts.Codec = celeryproto.ResultCodec{Serializer: c.ResultSerializer, Compression: c.ResultCompression, Accept: accept}
	if opts.UseTLS, err = redisbroker.ParseTLSOptions(c.RedisBackendUseSSL); err != nil {
		return opts, fmt.Errorf("redis_backend_use_ssl: %w", err)
	}
	if len(c.ResultBackendTransportOptions) > 0 {
		err = opts.SetTransportOptions(c.ResultBackendTransportOptions)
	}
	return opts, err
}

// defaultRedisSocketTimeout is Celery's. A site that does not change it gets ours, which notices a hanging Redis earlier.
const defaultRedisSocketTimeout = 120

// lifeOf is how long something is kept: none when nothing is said, without end for 0. Shorter ones than a second are a second.
func lifeOf(s *compat.Seconds, none time.Duration) time.Duration {
	switch {
	case s == nil:
		return none
	case *s <= 0:
		return neverExpires
	}
	return max(s.Duration(), time.Second)
}
