package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/channelslayer"
)

// The message of the channel layer that carries a call of a signal where the workers are Channels' (df_websockets 1.2,
// tasks.call_task, consumers.BackgroundConsumer.process_signal).
const (
	LayerCallType = "process.signal"
	LayerCallArgs = "args"
)

// LayerPublisher puts calls of signals on channels of the layer, named like the queues, as df_websockets means to do with
// WEBSOCKET_WORKERS = "channels". Channels' own workers (manage.py worker) and Go workers of such a site read them.
type LayerPublisher struct {
	Layer interface {
		Send(ctx context.Context, channel string, m channelslayer.Message) error
	}
}

// Publish sends the calls of a Plan one after the other. channelslayer.ErrChannelFull when a queue's workers are too far
// behind: those before it were sent.
func (p *LayerPublisher) Publish(ctx context.Context, calls ...redisbroker.Message) error {
	for _, call := range calls {
		m, err := LayerCall(call.Envelope)
		if err != nil {
			return err
		}
		if err := p.Layer.Send(ctx, call.Queue, m); err != nil {
			return fmt.Errorf("dispatch: channel %q: %w", call.Queue, err)
		}
	}
	return nil
}

// LayerCall is the message for a call whose seven arguments are a JSON list.
func LayerCall(args []byte) (channelslayer.Message, error) {
	d := json.NewDecoder(strings.NewReader(string(args)))
	d.UseNumber()
	var list []any
	if err := d.Decode(&list); err != nil {
		return nil, errors.New("dispatch: layer call: the arguments are no JSON list")
	}
	for i, v := range list {
		list[i] = layerValue(v)
	}
	return channelslayer.Message{"type": LayerCallType, LayerCallArgs: list}, nil
}

// layerValue gives numbers the types that a layer's message has. An integer of more than 64 bits is refused by msgpack, in
// Python, too.
func layerValue(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		if n, ok := new(big.Int).SetString(v.String(), 10); ok {
			if n.IsUint64() {
				return n.Uint64()
			}
			return n
		}
		f, _ := v.Float64() // what is too large is infinite, as in Python
		return f
	case []any:
		for i, e := range v {
			v[i] = layerValue(e)
		}
	case map[string]any:
		for k, e := range v {
			v[k] = layerValue(e)
		}
	}
	return v
}
