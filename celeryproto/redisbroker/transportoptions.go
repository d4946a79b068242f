package redisbroker

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
)

// ignoredTransportOptions change nothing here: how Python connects and retries, and what only pub/sub uses.
var ignoredTransportOptions = map[string]bool{
	"fanout_prefix": true, "fanout_patterns": true, "polling_interval": true, "body_encoding": true,
	"socket_keepalive": true, "socket_keepalive_options": true, "retry_on_timeout": true, "health_check_interval": true,
	"reauth_check_interval": true, "max_retries": true, "interval_start": true, "interval_step": true,
	"interval_max": true, "errback": true, "callback": true, "confirm_publish": true, "sentinel_fanout_compat": true,
}

// ParseTransportOptions reads Celery's broker_transport_options from JSON. A name it does not know, or knows and does not
// support (Sentinel, ack_emulation false), is refused by name; null stands for the default.
func ParseTransportOptions(b []byte) (TransportOptions, error) {
	var t TransportOptions
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return t, fmt.Errorf("redisbroker: broker_transport_options: %w", err)
	}
	targets := map[string]any{
		"visibility_timeout": &t.VisibilityTimeout, "priority_steps": &t.PrioritySteps, "sep": &t.Sep,
		"queue_order_strategy": &t.QueueOrderStrategy, "global_keyprefix": &t.GlobalKeyPrefix,
		"unacked_key": &t.UnackedKey, "unacked_index_key": &t.UnackedIndexKey, "unacked_mutex_key": &t.UnackedMutexKey,
		"unacked_mutex_expire": &t.UnackedMutexExpire, "unacked_restore_limit": &t.UnackedRestoreLimit,
		"unacked_restore_interval": &t.UnackedRestoreInterval, "unacked_restore_throttle": &t.UnackedRestoreThrottle,
		"deadletter_queue": &t.DeadletterQueue, "socket_timeout": &t.SocketTimeout,
		"socket_connect_timeout": &t.SocketConnectTimeout, "client_name": &t.ClientName, "max_connections": &t.MaxConnections,
	}
	var errs []error
	for name, value := range fields {
		var err error
		target, known := targets[name]
		switch {
		case string(value) == "null" || ignoredTransportOptions[name]:
		case name == "ack_emulation":
			if string(value) != "true" {
				err = ErrUnsupported
			}
		case !known:
			err = ErrUnsupported
		default:
			err = decodeOption(value, target)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("redisbroker: broker_transport_options: %s: %w", name, err))
		}
	}
	return t, errors.Join(errs...)
}

func decodeOption(value json.RawMessage, target any) error {
	d, ok := target.(*time.Duration)
	if !ok {
		return json.Unmarshal(value, target)
	}
	var seconds float64
	if err := json.Unmarshal(value, &seconds); err != nil {
		return err
	}
	if math.Abs(seconds) > float64(math.MaxInt64)/float64(time.Second)/2 {
		return errors.New("out of range")
	}
	*d = time.Duration(seconds * float64(time.Second))
	return nil
}
