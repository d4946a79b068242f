package dispatch

import (
	"fmt"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/channelslayer"
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
	broker, err := redisbroker.Open(redisbroker.Options{
		URL: cfg.Settings.Celery.BrokerURL.Reveal(), TransportOptions: transport, OwnPrefix: cfg.Settings.DFWS.KeyPrefix,
		Logger: cfg.Logger, Observer: cfg.Observers.Broker,
	})
	if err != nil {
		return nil, fmt.Errorf("dispatch: broker: %w", err)
	}
	return broker, nil
}

// openLayer opens the site's channel layer.
func openLayer(cfg *ServicesConfig) (*channelslayer.Core, error) {
	c := &cfg.Settings.ChannelLayer
	config := channelslayer.Config{
		Backend: c.Backend, Prefix: c.Prefix, Capacity: c.Capacity, SerializerFormat: c.SerializerFormat,
		Expiry: c.Expiry.Duration(), GroupExpiry: c.GroupExpiry.Duration(), RandomPrefixLength: c.RandomPrefixLength,
		Logger: cfg.Logger, Observer: cfg.Observers.Layer,
	}
	if c.RandomPrefixLength == 0 {
		config.RandomPrefixLength = channelslayer.NoRandomPrefix
	}
	for _, host := range c.Hosts {
		config.Hosts = append(config.Hosts, channelslayer.Host{URL: host.URL.Reveal()})
	}
	for _, rule := range c.ChannelCapacity {
		config.ChannelCapacity = append(config.ChannelCapacity, channelslayer.CapacityRule{Glob: rule.Pattern, Capacity: rule.Capacity})
	}
	for _, key := range c.SymmetricEncryptionKeys {
		config.SymmetricEncryptionKeys = append(config.SymmetricEncryptionKeys, channelslayer.Secret(key))
	}
	layer, err := channelslayer.Open(config)
	if err != nil {
		return nil, fmt.Errorf("dispatch: channel layer: %w", err)
	}
	return layer, nil
}

// neverExpires as ResultOptions.Expires stands for Python's None and 0: results stay until somebody deletes them.
const neverExpires = -1

// openRedisResults opens a result backend in Redis.
func openRedisResults(cfg *ServicesConfig) (*redisbroker.Results, error) {
	c := &cfg.Settings.Celery
	opts := redisbroker.ResultOptions{
		URL: c.ResultBackend.Reveal(), Expires: neverExpires, Logger: cfg.Logger, Observer: cfg.Observers.Broker,
	}
	accept, err := celeryproto.ParseAccept(c.AcceptContent)
	if err != nil {
		return nil, fmt.Errorf("dispatch: result backend: accept_content: %w", err)
	}
	opts.Codec = celeryproto.ResultCodec{Serializer: c.ResultSerializer, Accept: accept}
	if c.ResultExpires != nil && *c.ResultExpires > 0 {
		opts.Expires = max(c.ResultExpires.Duration(), time.Second)
	}
	if len(c.ResultBackendTransportOptions) > 0 {
		if err := opts.SetTransportOptions(c.ResultBackendTransportOptions); err != nil {
			return nil, fmt.Errorf("dispatch: result backend: %w", err)
		}
	}
	results, err := redisbroker.OpenResults(opts)
	if err != nil {
		return nil, fmt.Errorf("dispatch: result backend: %w", err)
	}
	return results, nil
}
