package redisbroker_test

import (
	"context"
	"sync"
	"testing"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/integration/redistest"
)

// benchEnvelope has the size of a signal's task.
func benchEnvelope(b *testing.B) []byte {
	b.Helper()
	return []byte(mustFixture(b, "task_v2_simple").list("celery")[0])
}

// BenchmarkPublish: one message per round trip, from several goroutines.
func BenchmarkPublish(b *testing.B) {
	broker := mustOpen(b, redistest.Start(b), redisbroker.Options{})
	msg := redisbroker.Message{Queue: "q", Envelope: benchEnvelope(b)}
	b.SetParallelism(8)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := broker.Publish(b.Context(), msg); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

// BenchmarkPublisher: the batching publisher, each message with its own done.
func BenchmarkPublisher(b *testing.B) {
	broker := mustOpen(b, redistest.Start(b), redisbroker.Options{})
	p, stop := mustRunPublisher(b, broker, redisbroker.PublisherConfig{MaxQueued: 10_000})
	msg := []redisbroker.Message{{Queue: "q", Envelope: benchEnvelope(b)}}
	creditC := make(chan struct{}, 8000)
	done := func(err error) {
		if err != nil {
			b.Error(err)
		}
		<-creditC
	}
	b.ReportAllocs()
	for b.Loop() {
		creditC <- struct{}{}
		if err := p.Enqueue(msg, done); err != nil {
			b.Fatal(err)
		}
	}
	if err := stop(); err != nil {
		b.Error(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

// BenchmarkTakeAck: take, decode, hand to one of 16 slots, ack.
func BenchmarkTakeAck(b *testing.B) {
	broker := mustOpen(b, redistest.Start(b), redisbroker.Options{})
	raw := benchEnvelope(b)
	batch := make([]redisbroker.Message, 0, 1000)
	for published := 0; published < b.N; {
		batch = batch[:0]
		for len(batch) < cap(batch) && published < b.N {
			batch = append(batch, redisbroker.Message{Queue: "q", Envelope: envelopeTagged(raw, published)})
			published++
		}
		if err := broker.Publish(b.Context(), batch...); err != nil {
			b.Fatal(err)
		}
	}
	const slots = 64
	consumer, err := broker.NewConsumer(redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 4 * slots})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	deliveryC := make(chan *redisbroker.Delivery, 4*slots)
	var wg, run sync.WaitGroup
	work := make(chan struct{}, b.N)
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	b.ReportAllocs()
	b.ResetTimer()
	run.Go(func() {
		if err := consumer.Run(ctx, func(d *redisbroker.Delivery) { deliveryC <- d }); err != nil {
			b.Error(err)
		}
	})
	for range slots {
		wg.Go(func() {
			for range work {
				d := <-deliveryC
				if err := d.Ack(b.Context()); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	cancel()
	run.Wait()
}

// envelopeTagged gives a copy a delivery tag of its own, in the place where Python writes it: at the end.
func envelopeTagged(raw []byte, n int) []byte {
	const tail = len(`"}}`)
	out := append([]byte(nil), raw...)
	for i := len(out) - tail - 1; n > 0; i-- {
		out[i] = byte('0' + n%10)
		n /= 10
	}
	return out
}

// BenchmarkFanout: one round trip for 24 events, as many as Celery's workers collect, and a subscriber for them.
func BenchmarkFanout(b *testing.B) {
	broker := mustOpen(b, redistest.Start(b), redisbroker.Options{})
	const batch = 24
	gotC := make(chan struct{}, 10_000)
	mustRunSubscriber(b, broker, redisbroker.SubscriberConfig{
		Queues: []redisbroker.FanoutQueue{{Exchange: "e", RoutingKey: "#"}},
		Gap:    func(g redisbroker.Gap) { b.Errorf("%+v", g) },
	}, func(redisbroker.FanoutDelivery) { gotC <- struct{}{} })
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		msgs := make([]redisbroker.FanoutMessage, batch)
		for i := range msgs {
			n++
			msgs[i] = redisbroker.FanoutMessage{Exchange: "e", RoutingKey: "task.multi", Envelope: busEnvelope("e", "task.multi", n)}
		}
		if err := broker.PublishFanout(b.Context(), msgs...); err != nil {
			b.Fatal(err)
		}
		for range batch {
			<-gotC
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "msg/s")
}
