package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/channelslayer"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/dispatch"
)

// layerEnvelopeKey is an entry of our own in a call that a worker sent back: the envelope with its count of hops. Python does
// not look at it.
const layerEnvelopeKey = "dfws_envelope"

// The pause between two attempts to receive while the channel layer is away.
const (
	layerRetryMin = 50 * time.Millisecond
	layerRetryMax = time.Second
)

// layerSource is the consumer of a worker where WEBSOCKET_WORKERS is "channels": the broker's, for tasks, and beside it the
// calls of signals, which come over the channel layer as Channels' runworker receives them. There is nothing to be acked: a
// call that was taken is lost when the worker dies, as with runworker. What is given back or sent on is sent again.
type layerSource struct {
	consumer
	layer  channelslayer.Layer
	log    *slog.Logger
	placeC chan struct{} // one element for each call that is held; its capacity is the prefetch window
	endedC chan struct{} // closed by run: nothing is received any more

	serial sync.Mutex // handle is called by one goroutine at a time

	mu        sync.Mutex
	receive   func(queue string) // starts a receiver; nil outside of run
	receivers map[string]context.CancelFunc
	held      map[*layerDelivery]struct{}
	freeC     chan struct{} // closed when held is empty and run waits for that
}

func newLayerSource(c consumer, layer channelslayer.Layer, cfg Config) *layerSource {
	return &layerSource{
		consumer: c, layer: layer, log: cfg.Logger, placeC: make(chan struct{}, max(cfg.prefetch(), 1)), endedC: make(chan struct{}),
		receivers: map[string]context.CancelFunc{}, held: map[*layerDelivery]struct{}{},
	}
}

// run implements consumer.
func (s *layerSource) run(fetch context.Context, handle func(received)) error {
	ctx, stop := context.WithCancel(fetch)
	defer stop()
	one := func(r received) {
		s.serial.Lock()
		defer s.serial.Unlock()
		handle(r)
	}
	var calls, tasks sync.WaitGroup
	s.mu.Lock()
	s.receive = func(queue string) {
		ctx, cancel := context.WithCancel(ctx)
		s.receivers[queue] = cancel
		calls.Go(func() { s.receiveFrom(ctx, queue, one) })
	}
	for _, queue := range s.queues() {
		s.receive(queue)
	}
	s.mu.Unlock()

	brokerC := make(chan error, 1) // one value, sent when the broker's consumer has ended
	tasks.Go(func() {
		brokerC <- s.consumer.run(fetch, one)
		stop() // it ends before fetch only by a failure
	})
	<-ctx.Done()
	s.mu.Lock()
	s.receive = nil
	s.mu.Unlock()
	calls.Wait()
	<-s.consumer.takingEnded()
	close(s.endedC)
	failure := <-brokerC
	tasks.Wait()
	<-s.allSettled()
	return failure
}

// allSettled is closed when no call is held any more.
func (s *layerSource) allSettled() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.freeC = make(chan struct{})
	if len(s.held) == 0 {
		close(s.freeC)
	}
	return s.freeC
}

// takingEnded implements consumer.
func (s *layerSource) takingEnded() <-chan struct{} { return s.endedC }

// addQueue implements consumer.
func (s *layerSource) addQueue(queue string) {
	s.consumer.addQueue(queue)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.receive != nil && s.receivers[queue] == nil {
		s.receive(queue)
	}
}

// cancelQueue implements consumer.
func (s *layerSource) cancelQueue(queue string) {
	s.consumer.cancelQueue(queue)
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel := s.receivers[queue]; cancel != nil {
		cancel()
		delete(s.receivers, queue)
	}
}

// giveBack implements consumer.
func (s *layerSource) giveBack(ctx context.Context, jobs []*job) error {
	var others []*job
	var errs []error
	for _, j := range jobs {
		if d, ok := j.delivery.(*layerDelivery); ok {
			errs = append(errs, d.sendAgain(ctx))
		} else {
			others = append(others, j)
		}
	}
	return errors.Join(append(errs, s.consumer.giveBack(ctx, others))...)
}

// giveBackAll implements consumer. A call that Redis does not take back now is lost, and the error says so.
func (s *layerSource) giveBackAll(ctx context.Context) error {
	s.mu.Lock()
	held := make([]*layerDelivery, 0, len(s.held))
	for d := range s.held {
		held = append(held, d)
	}
	s.mu.Unlock()
	var errs []error
	for _, d := range held {
		errs = append(errs, d.sendAgain(ctx))
		d.end()
	}
	return errors.Join(append(errs, s.consumer.giveBackAll(ctx))...)
}

// receiveFrom receives the calls of one queue until ctx ends.
func (s *layerSource) receiveFrom(ctx context.Context, queue string, handle func(received)) {
	pause := layerRetryMin
	for {
		m, err := s.layer.Receive(ctx, queue)
		if err == nil {
			pause = layerRetryMin
			select {
			case s.placeC <- struct{}{}:
				handle(s.received(queue, m))
			case <-ctx.Done():
				s.restoreLate(ctx, queue, m)
			}
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if pause == layerRetryMin { // one outage, one line
			s.log.Warn("calls of signals cannot be received", "queue", queue, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, layerRetryMax)
	}
}

// restoreLate gives a call back that found no place until the worker stopped.
func (s *layerSource) restoreLate(ctx context.Context, queue string, m channelslayer.Message) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	if err := s.layer.Send(ctx, queue, m); err != nil {
		s.log.Error("call of a signal lost: it was received during the stop and not taken back", "queue", queue, "err", err)
	}
}

// received is a call as the broker's consumer would hand it over.
func (s *layerSource) received(queue string, m channelslayer.Message) received {
	d := &layerDelivery{source: s, queue: queue, message: m}
	s.mu.Lock()
	s.held[d] = struct{}{}
	s.mu.Unlock()
	r := received{delivery: d, queue: queue}
	r.envelope, r.decodeErr = callEnvelope(queue, m)
	if r.envelope != nil {
		r.size = len(r.envelope.Body)
	}
	return r
}

// callEnvelope writes a call as the task that it would be with Celery.
func callEnvelope(queue string, m channelslayer.Message) (*celeryproto.Envelope, error) {
	if text, ok := m[layerEnvelopeKey].(string); ok {
		return celeryproto.DecodeEnvelope([]byte(text))
	}
	if m["type"] != dispatch.LayerCallType {
		return nil, fmt.Errorf("worker: channel message of another type than %q", dispatch.LayerCallType)
	}
	args, err := celeryproto.EncodeValue(m[dispatch.LayerCallArgs])
	if err != nil {
		return nil, fmt.Errorf("worker: call of a signal: %w", err)
	}
	t := celeryproto.Task{Protocol: 2, Name: compat.TaskName, ID: uuid.NewString(), Args: args}
	t.Properties.DeliveryInfo.RoutingKey, t.Properties.DeliveryTag = queue, uuid.NewString()
	t.Properties.CorrelationID = t.ID
	return t.Envelope()
}

// layerDelivery is a call that a worker holds.
type layerDelivery struct {
	source  *layerSource
	queue   string
	message channelslayer.Message
	over    atomic.Bool
}

// end gives the place back, once.
func (d *layerDelivery) end() {
	if d.over.Swap(true) {
		return
	}
	s := d.source
	<-s.placeC
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.held, d); len(s.held) == 0 && s.freeC != nil {
		close(s.freeC)
		s.freeC = nil
	}
}

// send puts the call on a channel, with the envelope that counts its hops unless that is nil, and ends it here.
func (d *layerDelivery) send(ctx context.Context, queue string, envelope []byte) error {
	m := channelslayer.Message{"type": dispatch.LayerCallType, dispatch.LayerCallArgs: d.message[dispatch.LayerCallArgs]}
	if envelope == nil {
		m = d.message
	} else {
		m[layerEnvelopeKey] = string(envelope)
	}
	if err := d.source.layer.Send(ctx, queue, m); err != nil {
		return err
	}
	d.end()
	return nil
}

// sendAgain gives a call back that has not ended.
func (d *layerDelivery) sendAgain(ctx context.Context) error {
	if d.over.Load() {
		return nil
	}
	return d.send(ctx, d.queue, nil)
}

func (d *layerDelivery) ack(context.Context) error {
	d.end()
	return nil
}

// complete implements delivery: df_websockets keeps no results of such calls.
func (d *layerDelivery) complete(_ context.Context, _ *celeryproto.ResultMeta, done func(error)) error {
	d.end()
	done(nil)
	return nil
}

func (d *layerDelivery) reject(ctx context.Context) error { return d.send(ctx, d.queue, nil) }

// requeue implements delivery. During the wait the call takes a place of the prefetch window, which is the rest that the others
// get.
func (d *layerDelivery) requeue(ctx context.Context, envelope []byte, wait, _ time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-d.source.endedC:
	}
	return d.send(ctx, d.queue, envelope)
}

func (d *layerDelivery) move(ctx context.Context, queue string, _ int, envelope []byte) error {
	return d.send(ctx, queue, envelope)
}

// deadLetter implements delivery. A layer has no place for dead letters; df_websockets drops such calls without a word.
func (d *layerDelivery) deadLetter(_ context.Context, reason string) error {
	d.source.log.Error("call of a signal dropped", "queue", d.queue, "reason", reason)
	d.end()
	return nil
}

// park implements delivery: calls over a layer have no ETA.
func (d *layerDelivery) park() {}
