package dispatch

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/channelslayer"
)

// openBroker opens the site's broker.
func openBroker(cfg *ServicesConfig) (*redisbroker.Broker, error) {
	c := &cfg.Settings.Celery
	opts := redisbroker.Options{
		URL: c.BrokerURL.Reveal(), OwnPrefix: cfg.Settings.DFWS.KeyPrefix, Logger: cfg.Logger, Observer: cfg.Observers.Broker,
	}
	if len(c.BrokerTransportOptions) > 0 {
		transport, err := redisbroker.ParseTransportOptions(c.BrokerTransportOptions)
		if err != nil {
			return nil, fmt.Errorf("dispatch: broker: %w", err)
		}
		opts.TransportOptions = transport
	}
	broker, err := redisbroker.Open(opts)
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
	if c.ResultExpires != nil && *c.ResultExpires > 0 {
		opts.Expires = max(c.ResultExpires.Duration(), time.Second)
	}
	if len(c.ResultBackendTransportOptions) > 0 {
		var transport struct {
			GlobalKeyPrefix string `json:"global_keyprefix"`
		}
		if err := json.Unmarshal(c.ResultBackendTransportOptions, &transport); err != nil {
			return nil, errors.New("dispatch: result backend: result_backend_transport_options: global_keyprefix is not a text")
		}
		opts.KeyPrefix = transport.GlobalKeyPrefix
	}
	results, err := redisbroker.OpenResults(opts)
	if err != nil {
		return nil, fmt.Errorf("dispatch: result backend: %w", err)
	}
	return results, nil
}
