package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/worker"
)

// callTasks are those that tell what they know of their own call, self.request in Python.
func (s suite) callTasks() {
	s.task("ids", func(_ context.Context, call *worker.TaskCall, i celeryproto.Raw) ([]any, error) {
		return idsOf(call, i), nil
	}, "i")
	s.task("collect_ids", func(_ context.Context, call *worker.TaskCall, res, i celeryproto.Raw) ([]any, error) {
		return []any{res, idsOf(call, i)}, nil
	}, "res", "i")
	s.task("return_priority", func(_ context.Context, call *worker.TaskCall, _ ...celeryproto.Raw) (string, error) {
		return fmt.Sprintf("Priority: %d", call.Task.Properties.Priority), nil
	})
	s.task("return_request_eta", func(_ context.Context, call *worker.TaskCall) (any, error) {
		if call.Task.ETA == nil {
			return nil, nil
		}
		return celeryproto.FormatISOTime(*call.Task.ETA), nil
	})
	s.task("return_properties", func(_ context.Context, call *worker.TaskCall) (celeryproto.Raw, error) {
		return propertiesOf(&call.Task.Properties)
	})
	s.task("return_request_time_limits", timeLimits)
	s.taskWith("task_with_declared_time_limits", worker.TaskOptions{TimeLimit: time.Minute, SoftTimeLimit: 45 * time.Second}, timeLimits)
	// Its soft limit is longer than its limit, so that Python's producers refuse to send it: it never runs.
	s.task("soft_time_limit_must_exceed_time_limit", func(context.Context) error { return nil })
}

func idsOf(call *worker.TaskCall, i celeryproto.Raw) []any {
	return []any{orNone(call.Task.RootID), orNone(call.Task.ParentID), i}
}

// propertiesOf is the dict that kombu makes of a message's properties.
func propertiesOf(p *celeryproto.Properties) (celeryproto.Raw, error) {
	members := celeryproto.Members{}
	for _, property := range []struct {
		name  string
		value any
	}{
		{"correlation_id", p.CorrelationID},
		{"reply_to", p.ReplyTo},
		{"delivery_mode", p.DeliveryMode},
		{"delivery_info", map[string]any{"exchange": p.DeliveryInfo.Exchange, "routing_key": p.DeliveryInfo.RoutingKey}},
		{"priority", p.Priority},
		{"body_encoding", p.BodyEncoding},
		{"delivery_tag", p.DeliveryTag},
	} {
		raw, err := celeryproto.EncodeValue(property.value)
		if err != nil {
			return nil, err
		}
		members = append(members, celeryproto.Member{Key: property.name, Value: raw})
	}
	return append(members, p.Extra...).Append(nil), nil
}

// timeLimits returns the limits of the call, None for none.
func timeLimits(_ context.Context, call *worker.TaskCall) (map[string]any, error) {
	hard, soft := call.TimeLimits()
	limits := map[string]any{"time_limit": nil, "soft_time_limit": nil}
	if hard > 0 {
		limits["time_limit"] = hard.Seconds()
	}
	if soft > 0 {
		limits["soft_time_limit"] = soft.Seconds()
	}
	return limits, nil
}
