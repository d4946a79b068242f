package redisbroker

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// ExchangeMessage is an envelope on its way to the queues that are bound to a direct or topic exchange.
type ExchangeMessage struct {
	// Exchange and RoutingKey are the address; the envelope's properties.delivery_info should say the same.
	Exchange, RoutingKey string
	// Priority chooses the lists, as in Message.
	Priority int
	// Envelope is the JSON, see celeryproto.Envelope.
	Envelope []byte
}

// PublishExchange pushes a message to every queue that is bound to the exchange with this routing key, and returns how many
// there were. Where there is none it goes to the deadletter_queue option, or nowhere: then 0 is returned. The copies have the same
// delivery tag, as in Python. It tries again as Publish does.
func (b *Broker) PublishExchange(ctx context.Context, m ExchangeMessage) (int, error) {
	var queues []string
	err := b.insist(ctx, func() (err error) {
		if queues, err = b.lookup(ctx, m.Exchange, m.RoutingKey); err != nil {
			return err
		}
		return b.pushAll(ctx, queues, m, 0)
	})
	if err != nil {
		err = opError("publish", err)
		b.obs.publishFailed(m.Exchange, 1, err)
		return 0, err
	}
	for _, queue := range queues {
		b.obs.published(queue, 1)
	}
	return len(queues), nil
}

// Reply pushes a reply of remote control to the queue of the client that waits for it, and returns the number of queues: 0 when
// the client has gone. The list expires ten minutes after the last reply of ours, lest that of a dead client stays for ever. It
// tries again as Publish does.
func (b *Broker) Reply(ctx context.Context, exchange, routingKey string, envelope []byte) (int, error) {
	m := ExchangeMessage{Exchange: exchange, RoutingKey: routingKey, Envelope: envelope}
	var queues []string
	err := b.insist(ctx, func() (err error) {
		if queues, err = b.boundQueues(ctx, m.Exchange, m.RoutingKey); err != nil {
			return err
		}
		return b.pushAll(ctx, queues, m, replyListLife)
	})
	err = opError("reply", err)
	b.obs.replied(len(queues), err)
	if err != nil {
		return 0, err
	}
	return len(queues), nil
}

// pushAll pushes one envelope to several queues. With life their lists expire.
func (b *Broker) pushAll(ctx context.Context, queues []string, m ExchangeMessage, life time.Duration) error {
	if len(queues) == 0 {
		return nil
	}
	_, err := b.client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, queue := range queues {
			key := b.keys.queue(queue, m.Priority)
			pipe.LPush(ctx, key, m.Envelope)
			if life > 0 {
				pipe.PExpire(ctx, key, life)
			}
		}
		return nil
	})
	return err
}

// insist makes up to publishAttempts attempts, as Celery's task_publish_retry_policy, while Redis is away or slow.
func (b *Broker) insist(ctx context.Context, f func() error) error {
	var pause backoff
	for attempt := 1; ; attempt++ {
		err := f()
		if err == nil || !Retryable(err) || attempt == publishAttempts || ctx.Err() != nil || !pause.wait(ctx) {
			return err
		}
		b.obs.publishRetried(err)
	}
}
