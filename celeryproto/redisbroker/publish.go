package redisbroker

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// Message is an envelope on its way to a queue.
type Message struct {
	// Queue is the name without prefix and priority.
	Queue string
	// Priority chooses the list: the largest step that is not above it. It should be the envelope's properties.priority,
	// which is what restores go by. 0 is the highest.
	Priority int
	// Envelope is the JSON, see celeryproto.Envelope. It must not be changed until it is published.
	Envelope []byte
}

// publishAttempts is Celery's task_publish_retry_policy: the first attempt and max_retries 3.
const publishAttempts = 4

// Publish pushes messages to their queues in one round trip and transaction, in order. (A queue key that is no list fails
// alone; the error says so, the other messages are published.)
//
// Like Celery it tries again, up to four attempts in all, when Redis is away or slow. An attempt whose answer was lost may
// have been obeyed, so a message can be there twice (at least once). The [Publisher] has no such duplicates.
func (b *Broker) Publish(ctx context.Context, msgs ...Message) error {
	if len(msgs) == 0 {
		return nil
	}
	var pause backoff
	for attempt := 1; ; attempt++ {
		err := b.publishOnce(ctx, msgs)
		if err == nil {
			b.countPublished(msgs)
			return nil
		}
		if !Retryable(err) || attempt == publishAttempts || ctx.Err() != nil || !pause.wait(ctx) {
			err = opError("publish", err)
			b.countFailed(msgs, err)
			return err
		}
		b.obs.publishRetried(err)
	}
}

func (b *Broker) publishOnce(ctx context.Context, msgs []Message) error {
	if err := b.bind(ctx, msgs); err != nil {
		return err
	}
	start := time.Now()
	pipe := b.client.Pipeline()
	if len(msgs) > 1 {
		pipe = b.client.TxPipeline()
	}
	for _, m := range msgs {
		pipe.LPush(ctx, b.keys.queue(m.Queue, m.Priority), m.Envelope)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	b.obs.roundTrip("publish", len(msgs), start)
	return nil
}

// bind writes the bindings of the queues that need it. A binding is never worth failing a message for.
func (b *Broker) bind(ctx context.Context, msgs []Message) error {
	queues := b.unbound(msgs)
	if len(queues) == 0 {
		return nil
	}
	_, err := b.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, queue := range queues {
			b.addBinding(ctx, pipe, queue)
		}
		return nil
	})
	if err != nil && Retryable(err) {
		return err
	}
	if err != nil {
		b.logger.Warn("redisbroker: queue binding not written", "err", err)
	}
	b.setBound(queues)
	return nil
}

// addBinding does what kombu's Channel._queue_bind does for the queue's direct exchange of the same name.
func (b *Broker) addBinding(ctx context.Context, pipe redis.Pipeliner, queue string) {
	member := b.keys.bindingMember(queue, "", queue)
	pipe.SAdd(ctx, b.keys.bindings(queue), member)
	pipe.SAdd(ctx, b.keys.permanentBindings(queue), member)
}

// unbound lists the queues whose binding was not written since the last connection was made.
func (b *Broker) unbound(msgs []Message) []string {
	if b.opts.SkipBindings {
		return nil
	}
	b.boundMu.Lock()
	defer b.boundMu.Unlock()
	connects := b.connects.Load()
	var queues []string
	for i, m := range msgs {
		if i > 0 && m.Queue == msgs[i-1].Queue {
			continue
		}
		if at, ok := b.bound[m.Queue]; !ok || at != connects {
			queues = append(queues, m.Queue)
		}
	}
	return queues
}

// maxBound bounds the memory for queue names; a program that publishes to more just binds some of them again.
const maxBound = 10_000

func (b *Broker) setBound(queues []string) {
	if len(queues) == 0 {
		return
	}
	b.boundMu.Lock()
	defer b.boundMu.Unlock()
	if len(b.bound) > maxBound {
		clear(b.bound)
	}
	for _, queue := range queues {
		b.bound[queue] = b.connects.Load()
	}
}

func (b *Broker) countPublished(msgs []Message) {
	if b.obs.Published == nil {
		return
	}
	eachRun(msgs, b.obs.published)
}

func (b *Broker) countFailed(msgs []Message, err error) {
	if b.obs.PublishFailed == nil {
		return
	}
	eachRun(msgs, func(queue string, n int) { b.obs.publishFailed(queue, n, err) })
}

// eachRun calls f for each run of messages of one queue.
func eachRun(msgs []Message, f func(queue string, n int)) {
	for start := 0; start < len(msgs); {
		end := start + 1
		for end < len(msgs) && msgs[end].Queue == msgs[start].Queue {
			end++
		}
		f(msgs[start].Queue, end-start)
		start = end
	}
}
