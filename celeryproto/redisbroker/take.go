package redisbroker

import (
	"context"
	"fmt"
	"strconv"
	"time"
	"unsafe"

	"github.com/dfws/dfws/celeryproto"
)

// takenFields are the values for each message in the reply of take.lua.
const takenFields = 4

// takeBatch takes up to n messages. After an error whose reply was lost, the next call repeats the same take, whose number
// lets Redis give the same messages again instead of others: none is stranded in the unacked set. Queues that rest are left
// out; a take that is repeated names the queues it named before, since the reply refers to them.
func (c *Consumer) takeBatch(ctx context.Context, n int) ([]*Delivery, error) {
	start := time.Now()
	if !c.unclear {
		if c.taking = c.rests.awake(c.cycle, start); len(c.taking) == 0 {
			return nil, nil
		}
		c.take++
	}
	k := &c.b.keys
	order := k.takeOrder(c.taking)
	keys := append([]string{k.unacked, k.index, k.held(), k.heldIndex(), k.take(c.id)}, order...)
	rotate := 0
	if c.b.opts.QueueOrderStrategy == OrderRoundRobin {
		rotate = 1
	}
	ttl := max(int(c.b.opts.VisibilityTimeout/time.Second), 1)
	prefix := c.id + "-" + strconv.FormatInt(c.take, 10) + "-"
	args := []any{n, c.take, ttl, rotate, prefix}
	for _, queue := range c.taking {
		args = append(args, celeryproto.AppendString(nil, queue))
	}
	// Never cut off in flight; the socket timeout bounds it.
	c.unclear = true
	reply, err := takeScript.Run(context.WithoutCancel(ctx), c.b.client, keys, args...).Slice()
	if err != nil {
		return nil, opError("take", err)
	}
	if len(reply)%takenFields != 0 {
		return nil, fmt.Errorf("redisbroker: take script: %d values", len(reply))
	}
	c.unclear = false
	if len(reply) == 0 {
		return nil, nil
	}
	deliveries, err := c.deliveries(reply, order)
	c.b.obs.roundTrip("take", len(deliveries), start)
	return deliveries, err
}

// deliveries reads the reply of take.lua.
func (c *Consumer) deliveries(reply []any, order []string) ([]*Delivery, error) {
	cycle := c.taking
	deliveries := make([]*Delivery, 0, len(reply)/takenFields)
	for ; len(reply) > 0; reply = reply[takenFields:] {
		key, ok1 := reply[0].(int64)
		tag, ok2 := reply[1].(string)
		score, ok3 := reply[2].(string)
		raw, ok4 := reply[3].(string)
		held := key < 0
		if held {
			key = -1 - key
		}
		if !(ok1 && ok2 && ok3 && ok4) || int(key) >= len(order) {
			return nil, fmt.Errorf("redisbroker: take script: unexpected reply")
		}
		c.taken++
		d := &Delivery{
			Queue: cycle[int(key)%len(cycle)], Tag: tag, Raw: bytesOf(raw),
			c: c, key: order[key], order: c.taken, score: score, held: held,
		}
		deliveries = append(deliveries, d)
		if c.b.opts.QueueOrderStrategy == OrderRoundRobin {
			c.cycle = rotated(c.cycle, d.Queue)
		}
	}
	c.mu.Lock()
	c.arriving += len(deliveries)
	c.mu.Unlock()
	return deliveries, nil
}

// arrive decodes what was taken. From now on others see it.
func (c *Consumer) arrive(ctx context.Context, deliveries []*Delivery) {
	for _, d := range deliveries {
		c.decode(ctx, d)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range deliveries {
		c.held.add(d)
	}
	c.arriving -= len(deliveries)
}

// bytesOf gives the bytes of a text without a copy. The text is from a reply, for which go-redis read it into memory of its own that
// nobody else refers to.
func bytesOf(reply string) []byte {
	return unsafe.Slice(unsafe.StringData(reply), len(reply))
}

// decode fills in the envelope. What cannot be decoded is moved out of kombu's unacked set, where it could stop the
// restore of every Python worker; it stays held by us like any other delivery.
func (c *Consumer) decode(ctx context.Context, d *Delivery) {
	d.Envelope, d.DecodeErr = celeryproto.DecodeEnvelope(d.Raw)
	d.back = d.Raw
	if d.DecodeErr != nil {
		d.repair()
	}
	if d.DecodeErr != nil {
		d.Envelope = nil
		if !d.held {
			op := &operation{kind: opPark, d: d, value: appendHeld(d.Queue, d.Raw)}
			if err := c.settler.do(ctx, op); err != nil {
				c.b.logger.Warn("redisbroker: undecodable delivery not set aside", "queue", d.Queue, "delivery_tag", d.Tag, "err", err)
			}
		}
		c.b.logger.Warn("redisbroker: undecodable", "queue", d.Queue, "delivery_tag", d.Tag, "bytes", len(d.Raw), "err", d.DecodeErr)
	} else {
		d.Redelivered = wasRedelivered(d.Envelope)
	}
	c.b.obs.taken(d.Queue, d.Redelivered, d.DecodeErr != nil)
}

// repair completes an envelope that only lacks what the delivery knows.
func (d *Delivery) repair() {
	complete, ok := repaired(d.Raw, d.Tag, d.Queue)
	if !ok {
		return
	}
	envelope, err := celeryproto.DecodeEnvelope(complete)
	if err != nil {
		return // the first error says more
	}
	d.Envelope, d.DecodeErr, d.back = envelope, nil, complete
	d.c.b.logger.Warn("redisbroker: delivery tag or delivery info were missing", "queue", d.Queue, "delivery_tag", d.Tag)
}

// rotated moves queue to the end of the cycle (kombu.utils.scheduling.round_robin_cycle).
func rotated(cycle []string, queue string) []string {
	if n := len(cycle); n > 0 && cycle[n-1] == queue {
		return cycle
	}
	next := make([]string, 0, len(cycle))
	for _, q := range cycle {
		if q != queue {
			next = append(next, q)
		}
	}
	return append(next, queue)
}

// resolveTake asks once more for the reply of a take that was lost, so that its deliveries can be restored.
func (c *Consumer) resolveTake(ctx context.Context) {
	if !c.unclear {
		return
	}
	deliveries, err := c.takeBatch(ctx, 0)
	if err != nil {
		c.b.logger.Warn("redisbroker: messages of the last take stay unacked until their visibility timeout", "err", err)
		return
	}
	c.arrive(ctx, deliveries)
	c.restoreUnseen(ctx, deliveries)
}
