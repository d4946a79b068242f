package worker

import (
	"errors"
	"fmt"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
	"github.com/dfws/dfws/celeryproto/redisbroker"
)

// router finds the queue of a message.
type router struct {
	defaultQueue string
}

// address completes a message of a canvas.
func (r *router) address(send *canvas.Send, t *celeryproto.Task) (redisbroker.Message, error) {
	queue := send.Queue()
	if exchange, given := send.Options.Get("exchange"); given && !exchange.IsNull() && queue == "" {
		if text, err := exchange.Text(); err != nil || text != "" {
			return redisbroker.Message{}, fmt.Errorf("worker: send %q: %w", t.Name, errExchange)
		}
		if key, given := send.Options.Get("routing_key"); given {
			queue, _ = key.Text()
		}
	}
	if queue == "" {
		queue = r.defaultQueue
	}
	t.SetQueue(queue)
	envelope, err := t.Append(nil)
	if err != nil {
		return redisbroker.Message{}, fmt.Errorf("worker: send %q: %w", t.Name, err)
	}
	return redisbroker.Message{Queue: queue, Priority: t.Properties.Priority, Envelope: envelope}, nil
}

var errExchange = errors.New("named exchanges are not supported")
