package redisbroker

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/dfws/dfws/internal/redisconn"
)

// ignoredTransportOptions change nothing here.
var ignoredTransportOptions = []string{
	"ack_emulation",    // deliveries are always recorded: that takes nothing from Python, and loses nothing
	"retry_on_timeout", // each operation knows what may be sent twice, and repeats that
	// Connecting goes on until the caller's context ends, or as long as the operation's own rules say.
	"max_retries", "interval_start", "interval_step", "interval_max", "errback", "callback",
	"reauth_check_interval", // for credential providers, which are refused
	"confirm_publish",       // not for Redis
}

// ParseTransportOptions reads Celery's broker_transport_options from JSON. A name it does not know is refused by name, as is
// credential_provider; null stands for the default.
//
// Accepted, and without effect: ack_emulation (a delivery is always recorded), retry_on_timeout, max_retries, interval_start,
// interval_step, interval_max, errback and callback (each operation has its own rules for trying again, see its
// documentation), reauth_check_interval (no credential provider), confirm_publish (not for Redis).
func ParseTransportOptions(b []byte) (TransportOptions, error) {
	var t TransportOptions
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return t, fmt.Errorf("redisbroker: broker_transport_options: %w", err)
	}
	targets := t.targets()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		var err error
		target, known := targets[name]
		switch value := fields[name]; {
		case string(value) == "null" || slices.Contains(ignoredTransportOptions, name):
		case !known:
			err = ErrUnsupported
		default:
			err = redisconn.DecodeOption(value, target)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("redisbroker: broker_transport_options: %s: %w", name, err))
		}
	}
	return t, errors.Join(errs...)
}

// targets are where the values go, by name: a pointer, or a function that takes the JSON.
func (t *TransportOptions) targets() map[string]any {
	return map[string]any{
		"visibility_timeout": &t.VisibilityTimeout, "priority_steps": &t.PrioritySteps, "sep": &t.Sep,
		"queue_order_strategy": &t.QueueOrderStrategy, "global_keyprefix": &t.GlobalKeyPrefix,
		"unacked_key": &t.UnackedKey, "unacked_index_key": &t.UnackedIndexKey, "unacked_mutex_key": &t.UnackedMutexKey,
		"unacked_mutex_expire": &t.UnackedMutexExpire, "unacked_restore_limit": &t.UnackedRestoreLimit,
		"unacked_restore_interval": &t.UnackedRestoreInterval, "unacked_restore_throttle": &t.UnackedRestoreThrottle,
		"deadletter_queue": &t.DeadletterQueue, "socket_timeout": &t.SocketTimeout,
		"socket_connect_timeout": &t.SocketConnectTimeout, "client_name": &t.ClientName, "max_connections": &t.MaxConnections,
		"polling_interval": &t.PollingInterval, "body_encoding": &t.BodyEncoding,
		"fanout_prefix": t.setFanoutPrefix, "fanout_patterns": notBool(&t.NoFanoutPatterns),
		"socket_keepalive": notBool(&t.SocketKeepalive.Off), "socket_keepalive_options": t.setKeepalive,
		"health_check_interval": t.setHealthCheck,
		"master_name":           &t.MasterName, "min_other_sentinels": &t.MinOtherSentinels,
		"sentinel_fanout_compat": isBool(&t.SentinelFanoutCompat), "sentinel_kwargs": intoSentinel(&t.Sentinel),
	}
}

// setFanoutPrefix: true, false or a text.
func (t *TransportOptions) setFanoutPrefix(value json.RawMessage) error {
	if json.Unmarshal(value, &t.FanoutPrefix) == nil {
		t.NoFanoutPrefix = t.FanoutPrefix == ""
		return nil
	}
	return notBool(&t.NoFanoutPrefix)(value)
}

func (t *TransportOptions) setHealthCheck(value json.RawMessage) error {
	err := redisconn.DecodeOption(value, &t.HealthCheckInterval)
	if err == nil && t.HealthCheckInterval <= 0 {
		t.HealthCheckInterval = -1 // none
	}
	return err
}

// keepaliveNames are the keys of socket_keepalive_options: Python's socket constants by name, and by their numbers on Linux and
// on macOS.
var keepaliveNames = map[string]string{
	"TCP_KEEPIDLE": "idle", "4": "idle", "TCP_KEEPALIVE": "idle", "16": "idle",
	"TCP_KEEPINTVL": "interval", "5": "interval", "257": "interval",
	"TCP_KEEPCNT": "count", "6": "count", "258": "count",
}

// setKeepalive reads socket_keepalive_options.
func (t *TransportOptions) setKeepalive(value json.RawMessage) error {
	k := &t.SocketKeepalive
	var fields map[string]float64
	if err := redisconn.DecodeOption(value, &fields); err != nil {
		return err
	}
	for name, n := range fields {
		if n < 0 || n > math.MaxInt16 {
			return fmt.Errorf("%s: must be from 0 to %d", name, math.MaxInt16) // as in Linux
		}
		switch keepaliveNames[name] {
		case "idle":
			k.Idle = time.Duration(n * float64(time.Second))
		case "interval":
			k.Interval = time.Duration(n * float64(time.Second))
		case "count":
			k.Count = int(n)
		default:
			return fmt.Errorf("%s: %w", name, ErrUnsupported)
		}
	}
	return nil
}

// isBool and notBool set a flag to what an option says, or to the opposite.
func isBool(flag *bool) func(json.RawMessage) error {
	return func(value json.RawMessage) (err error) {
		*flag, err = redisconn.DecodeBool(value)
		return err
	}
}

func notBool(flag *bool) func(json.RawMessage) error {
	return func(value json.RawMessage) error {
		v, err := redisconn.DecodeBool(value)
		*flag = err == nil && !v
		return err
	}
}

func intoSentinel(o *SentinelOptions) func(json.RawMessage) error {
	return func(value json.RawMessage) (err error) {
		*o, err = redisconn.ParseSentinelOptions(value)
		return err
	}
}
