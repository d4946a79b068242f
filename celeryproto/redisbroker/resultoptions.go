package redisbroker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/internal/redisconn"
)

// backendName is a result_backend that is no URL: redis_host and its like say where Redis is.
const backendName = "redis"

// ignoredResultOptions change nothing here.
var ignoredResultOptions = []string{
	"retry_policy",                 // Store and its like go on until their context ends
	"additional_connection_errors", // classes of Python
}

// SetTransportOptions reads Celery's result_backend_transport_options from JSON into the options. A name it does not know is
// refused by name; null stands for the default. retry_policy and additional_connection_errors change nothing: storing a result
// goes on until its context ends.
func (o *ResultOptions) SetTransportOptions(b []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return fmt.Errorf("redisbroker: result_backend_transport_options: %w", err)
	}
	targets := map[string]any{
		"global_keyprefix":     &o.KeyPrefix,
		"result_chord_ordered": notBool(&o.ChordsUnordered),
		"master_name":          &o.MasterName,
		"sentinel_kwargs":      intoSentinel(&o.Sentinel),
		"min_other_sentinels":  &o.MinOtherSentinels,
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		target, known := targets[name]
		err := error(nil)
		switch value := fields[name]; {
		case string(value) == "null", slices.Contains(ignoredResultOptions, name):
		case !known:
			err = ErrUnsupported
		default:
			err = redisconn.DecodeOption(value, target)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("redisbroker: result_backend_transport_options: %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// connect reads the URL and prepares the connections.
func (o *ResultOptions) connect() (*servers, *redis.Options, error) {
	if err := o.validate(); err != nil {
		return nil, nil, err
	}
	rules := urlRules{
		backend: true, useTLS: o.UseTLS, host: o.Host, port: o.Port, username: o.Username, password: o.Password,
	}
	url := o.URL
	if url == "" || url == backendName {
		url = fmt.Sprintf("redis:///%d", o.DB)
	}
	ends, err := parseURLs(url, rules)
	if err != nil {
		return nil, nil, err
	}
	inURL := &ends[0].settings
	s, err := newServers(ends, redisconn.Options{
		ConnectTimeout: cmp.Or(inURL.connectTimeout, o.SocketConnectTimeout), SocketTimeout: cmp.Or(inURL.socketTimeout, o.SocketTimeout),
		Keepalive: o.SocketKeepalive, ClientName: cmp.Or(inURL.clientName, o.ClientName),
		MasterName: o.MasterName, Sentinel: o.Sentinel, MinOtherSentinels: o.MinOtherSentinels,
		Logger: o.Logger.With("backend", "results"), Switched: o.Observer.switched, Disconnected: o.Observer.sentinelLost,
	})
	if err != nil {
		return nil, nil, err
	}
	o.HealthCheckInterval = cmp.Or(inURL.healthCheck, o.HealthCheckInterval)
	dial := s.ClientOptions()
	dial.PoolSize = cmp.Or(inURL.maxConnections, o.MaxConnections)
	return s, &dial, nil
}

// validate names every fault.
func (o *ResultOptions) validate() error {
	var errs []error
	if o.CredentialProvider != "" {
		errs = append(errs, fmt.Errorf("redisbroker: redis_backend_credential_provider: %w", ErrUnsupported))
	}
	for _, limit := range []struct {
		name  string
		value time.Duration
	}{
		{"redis_socket_timeout", o.SocketTimeout}, {"redis_socket_connect_timeout", o.SocketConnectTimeout},
		{"redis_max_connections", time.Duration(o.MaxConnections)}, {"redis_db", time.Duration(o.DB)},
		{"redis_port", time.Duration(o.Port)}, {"min_other_sentinels", time.Duration(o.MinOtherSentinels)},
	} {
		if limit.value < 0 {
			errs = append(errs, fmt.Errorf("redisbroker: %s: is negative", limit.name))
		}
	}
	return errors.Join(append(errs, checkTLS("redis_backend_use_ssl", o.UseTLS), checkTLS("sentinel_kwargs", o.Sentinel.TLS))...)
}

// watchServers watches Sentinel, if there is one, until Close.
func (r *Results) watchServers() {
	if !r.servers.HasSentinels() {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.wg.Go(func() {
		<-r.stopC
		cancel()
	})
	r.servers.Watch(ctx)
}
