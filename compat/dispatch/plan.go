package dispatch

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/compat"
)

// Plan works out what a trigger sends, without sending it. It needs no Redis.
func (d *Dispatcher) Plan(t Trigger) (*Plan, error) {
	plan, err := d.plan(&t)
	if err != nil {
		d.cfg.Observer.planFailed()
		return nil, err
	}
	if plan.Outcome == OutcomeUnknownSignal || plan.Outcome == OutcomeNotCallable {
		d.cfg.Logger.Debug("signal not sent to any queue", "signal", t.Signal, "outcome", string(plan.Outcome))
	}
	d.cfg.Observer.planned(plan, t.FromClient)
	return plan, nil
}

func (d *Dispatcher) plan(t *Trigger) (*Plan, error) {
	to, err := sortTargets(t.To, t.Window, d.cfg.Settings.Site.AuthUserModel)
	if err != nil {
		return nil, err
	}
	c := call{Trigger: t, plan: &Plan{Outcome: OutcomePlanned}, topics: to.topics}
	if d.channels() && (t.Countdown != 0 || !t.ETA.IsZero() || t.Expires != 0) {
		return nil, fmt.Errorf("%w: countdown, eta and expires", ErrNeedsCelery)
	}
	c.schedule(d.cfg.Now)
	state := d.cfg.Registry.current.Load()
	if to.server {
		c.dest, c.plan.Outcome = d.destination(state, t)
	}
	waiting := c.delayed && len(to.topics) > 0
	if waiting {
		if c.topicQueue = d.topicQueue(state); c.topicQueue == "" {
			return nil, ErrNoDelayedDelivery
		}
	}
	if waiting || !c.dest.empty() {
		if err := d.planTasks(&c); err != nil {
			return nil, err
		}
	}
	if len(to.topics) > 0 && !waiting {
		if err := d.planFrame(&c); err != nil {
			return nil, err
		}
	}
	return c.plan, nil
}

// channels reports whether the site's workers are Channels' and not Celery's.
func (d *Dispatcher) channels() bool {
	return d.cfg.Settings.WebSocket.Workers == compat.WorkersChannels
}

// call is one trigger on its way.
type call struct {
	*Trigger
	plan   *Plan
	topics []string
	dest   destination
	// topicQueue is the queue of the task that carries delayed topics.
	topicQueue string
	// delayed says that eta lies in the future.
	delayed      bool
	eta, expires time.Time // UTC; zero for none
	opts         celeryproto.Raw
}

// schedule computes the times as Celery does: a countdown of any sign makes an eta.
func (c *call) schedule(clock func() time.Time) {
	if c.Countdown == 0 && c.ETA.IsZero() && c.Expires == 0 {
		return
	}
	now := clock().UTC().Truncate(time.Microsecond)
	switch {
	case c.Countdown != 0:
		c.eta = now.Add(c.Countdown)
	case !c.ETA.IsZero():
		c.eta = c.ETA.UTC().Truncate(time.Microsecond)
	}
	if c.Expires != 0 {
		c.expires = now.Add(c.Expires)
	}
	c.delayed = c.eta.After(now)
}

// destination says where the signal goes when SERVER is addressed.
func (d *Dispatcher) destination(state *snapshot, t *Trigger) (destination, Outcome) {
	r := state.routes[t.Signal]
	callable := r != nil && (r.clientCallable || !t.FromClient)
	switch {
	case !state.python && callable:
		return d.withFallback(r.dest), OutcomeUnregistered
	case !state.python:
		return d.withFallback(destination{}), OutcomeUnregistered
	case r == nil:
		return destination{}, OutcomeUnknownSignal
	case !callable:
		return destination{}, OutcomeNotCallable
	default:
		return r.dest, OutcomePlanned
	}
}

// withFallback adds the configured queues: Python may have handlers there that nobody registered. Handlers of other queues ignore the task.
func (d *Dispatcher) withFallback(dest destination) destination {
	queues := slices.Clone(d.cfg.FallbackQueues)
	for _, queue := range dest.queues {
		if !slices.Contains(queues, queue) {
			queues = append(queues, queue)
		}
	}
	dest.queues = queues
	return dest
}

// topicQueue is the queue for delayed topics: one that Go workers consume, the configured one if possible; "" without Go workers.
func (d *Dispatcher) topicQueue(state *snapshot) string {
	switch configured := d.cfg.Settings.DFWS.GoQueue; {
	case slices.Contains(state.goQueues, configured):
		return configured
	case len(state.goQueues) > 0:
		return state.goQueues[0]
	default:
		return ""
	}
}

// planTasks renders one task per queue, with the delayed topics in the one of topicQueue.
func (d *Dispatcher) planTasks(c *call) error {
	opts, err := taskOpts(c.Trigger)
	if err != nil {
		return err
	}
	c.opts = opts
	queues := c.dest.queues
	if c.dest.dynamic && d.channels() {
		if queues, err = c.dest.allQueues(c.Signal); err != nil {
			return err
		}
	}
	extra := c.topicQueue != "" && !slices.Contains(queues, c.topicQueue)
	c.plan.Messages = make([]redisbroker.Message, 0, len(queues)+2)
	for _, queue := range queues {
		if err := d.addTask(c, queue, true); err != nil {
			return err
		}
	}
	if extra {
		if err := d.addTask(c, c.topicQueue, false); err != nil {
			return err
		}
	}
	if c.dest.dynamic && !d.channels() {
		return d.addResolve(c)
	}
	return nil
}

// allQueues are the queues of all handlers with those that dynamic ones may compute: in a worker of another queue than the computed one a
// handler is not called.
func (d *destination) allQueues(signal string) ([]string, error) {
	if d.undeclared {
		return nil, fmt.Errorf("%w: a dynamic queue of signal %q without get_available_queues", ErrNeedsCelery, signal)
	}
	all := slices.Clone(d.queues)
	for _, queue := range d.declared {
		if !slices.Contains(all, queue) {
			all = append(all, queue)
		}
	}
	return all, nil
}

// addTask renders the task of one queue.
func (d *Dispatcher) addTask(c *call, queue string, toServer bool) error {
	args := compat.SignalCall{
		Signal: c.Signal, Opts: c.opts, FromClient: c.FromClient, ToServer: toServer, Queue: queue,
	}
	if queue == c.topicQueue {
		args.Topics = c.topics
	}
	if d.channels() {
		c.plan.Messages = append(c.plan.Messages, redisbroker.Message{Queue: queue, Envelope: args.AppendArgsFor(nil, c.Window)})
		return nil
	}
	envelope, err := d.envelope(c, &args)
	if err != nil {
		return err
	}
	c.plan.Messages = append(c.plan.Messages, redisbroker.Message{Queue: queue, Envelope: envelope})
	return nil
}

// planFrame renders the frame for all topics.
func (d *Dispatcher) planFrame(c *call) error {
	opts, err := compat.EncodeOpts(c.Opts)
	if err != nil {
		return fmt.Errorf("dispatch: signal %q: options for the browser: %w", c.Signal, err)
	}
	c.plan.SignalID = d.cfg.NewID()
	c.plan.Frame = compat.AppendServerFrame(nil, c.Signal, opts, c.plan.SignalID)
	c.plan.Groups = make([]string, len(c.topics))
	for i, topic := range c.topics {
		c.plan.Groups[i] = compat.GroupName(topic)
	}
	return nil
}

var errOptsNotObject = errors.New("not an object")

// taskOpts encodes the options for a worker. Those of a browser were checked with its frame and may be anything; others must be an object.
func taskOpts(t *Trigger) (celeryproto.Raw, error) {
	if raw, ok := t.Opts.(celeryproto.Raw); ok && t.FromClient {
		return raw, checkDepth(t.Signal, raw)
	}
	if t.Opts == nil {
		return nil, nil
	}
	raw, err := celeryproto.EncodeValue(t.Opts)
	if err == nil && raw.Kind() != celeryproto.KindObject && !raw.IsNull() {
		err = errOptsNotObject
	}
	if err != nil {
		return nil, fmt.Errorf("dispatch: signal %q: options for the server: %w", t.Signal, err)
	}
	if raw.IsNull() {
		return nil, nil
	}
	return raw, checkDepth(t.Signal, raw)
}

// checkDepth keeps what a Celery worker could not pass on to its child processes out of its queue. Most options have too few brackets for
// that.
func checkDepth(signal string, opts celeryproto.Raw) error {
	const most = celeryproto.MaxSendDepth - 1 // in the list of arguments
	if bytes.Count(opts, []byte("["))+bytes.Count(opts, []byte("{")) <= most {
		return nil
	}
	if err := celeryproto.CheckJSON(opts, celeryproto.JSONLimits{MaxDepth: most}); err != nil {
		return fmt.Errorf("dispatch: signal %q: options for the server: %w", signal, err)
	}
	return nil
}
