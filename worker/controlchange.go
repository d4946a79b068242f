package worker

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
)

// maxSlots is the most slots that remote control may ask for, unless the program itself was configured with more: each costs a
// goroutine.
const maxSlots = 10_000

// maxQueues is the most queues that remote control may ask for.
const maxQueues = 1000

// rateLimit changes how often this worker begins a task.
func (r *remote) rateLimit(_ context.Context, args *arguments) (celeryproto.Raw, error) {
	args.need("task_name", "rate_limit")
	name := args.text("task_name")
	text, err := rateArgument(args)
	if err != nil {
		return nil, err
	}
	if args.err != nil {
		return nil, args.err
	}
	rate, err := ParseRate(text)
	if err != nil {
		return nil, rateError(text)
	}
	t := r.engine.handlers.tasks[name]
	if t == nil {
		if r.engine.handlers.isSignals(name) {
			return nil, refused("signals have no rate limit in Go")
		}
		r.log.Warn("rate limit for an unknown task", "task", printable(name))
		return nil, refused("unknown task")
	}
	r.engine.setRate(t, text, rate)
	if text == "" || text == "0" {
		r.log.Info("rate limit disabled", "task", name)
		return celeryproto.ReplyOK(rawText("rate limit disabled successfully")), nil
	}
	r.log.Info("new rate limit", "task", name, "rate", text)
	return celeryproto.ReplyOK(rawText("new rate limit set successfully")), nil
}

// rateArgument is a rate limit as a text: null and 0 are none.
func rateArgument(args *arguments) (string, error) {
	value, ok := args.get("rate_limit")
	if !ok {
		return "", nil
	}
	switch value.Kind() {
	case celeryproto.KindString:
		return args.text("rate_limit"), nil
	case celeryproto.KindNumber:
		return string(value), nil
	}
	args.fail("rate_limit", "a text or a number", value)
	return "", args.err
}

// rateError is what Python says of a rate limit that is none (celery 5.7, utils/time.py, rate).
func rateError(text string) error {
	number, unit, _ := strings.Cut(text, "/")
	switch unit {
	case "", "s", "m", "h":
	default:
		return pyError("KeyError", rawText(unit))
	}
	text = "could not convert string to float: " + canvas.Repr(rawText(number))
	return refused("Invalid rate limit string: " + pyError("ValueError", rawText(text)).text)
}

// setRate changes the rate limit of a task.
func (e *engine) setRate(t *taskHandler, text string, rate float64) {
	t.rateLimit.Store(&text)
	if l := t.limiter.Load(); l != nil {
		l.setRate(rate)
		return
	}
	if rate > 0 && !t.site.noRateLimits {
		t.limiter.Store(newLimiter(rate, e.enqueue)) // only the goroutine of remote control sets it after the start
	}
}

func (r *remote) timeLimit(_ context.Context, args *arguments) (celeryproto.Raw, error) {
	policy := r.engine.handlers.policyOf(args.text("task_name"))
	soft, hard := args.limit("soft"), args.limit("hard")
	switch {
	case args.err != nil:
		return nil, args.err
	case policy == nil:
		r.log.Warn("time limit for an unknown task", "task", printable(args.text("task_name")))
		return nil, refused("unknown task")
	}
	site := &r.engine.handlers.site
	policy.softTimeLimit.Store(int64(cmp.Or(soft, site.softTimeLimit)))
	policy.timeLimit.Store(int64(cmp.Or(hard, site.timeLimit)))
	r.log.Info("new time limits", "task", args.text("task_name"), "soft", soft, "hard", hard)
	return celeryproto.ReplyOK(rawText("time limits set successfully")), nil
}

// limit is a time limit in seconds; 0 for none.
func (a *arguments) limit(key string) time.Duration {
	seconds, given := a.number(key)
	if !given {
		return 0
	}
	return limitOf(&seconds, 0)
}

func (r *remote) enableEvents(context.Context, *arguments) (celeryproto.Raw, error) {
	return r.switchEvents(true, "enabled")
}

// disableEvents does what it says also on a worker that publishes task events from its start, where Celery's goes on (celery 5.7,
// worker/control.py).
func (r *remote) disableEvents(context.Context, *arguments) (celeryproto.Raw, error) {
	return r.switchEvents(false, "disabled")
}

func (r *remote) switchEvents(on bool, word string) (celeryproto.Raw, error) {
	already, ok := r.hub.enable(on)
	switch {
	case !ok:
		return nil, refused("event dispatcher unavailable")
	case already:
		return celeryproto.ReplyOK(rawText("task events already " + word)), nil
	}
	r.log.Info("task events " + word + " by remote control")
	return celeryproto.ReplyOK(rawText("task events " + word)), nil
}

func (r *remote) heartbeat(context.Context, *arguments) (celeryproto.Raw, error) {
	r.hub.beatOnRequest()
	return rawNull, nil
}

func (r *remote) poolGrow(_ context.Context, args *arguments) (celeryproto.Raw, error) {
	return r.resizePool("pool_grow", "pool will grow", 1, args)
}

func (r *remote) poolShrink(_ context.Context, args *arguments) (celeryproto.Raw, error) {
	return r.resizePool("pool_shrink", "pool will shrink", -1, args)
}

func (r *remote) resizePool(command, done string, sign int, args *arguments) (celeryproto.Raw, error) {
	n := args.count("n", 1)
	if args.err != nil {
		return nil, args.err
	}
	e := r.engine
	if e.scaler != nil {
		return nil, refused(command + " is not supported with autoscale. Adjust autoscale range instead.")
	}
	size, _, _ := e.slots.counts()
	wanted := size + sign*n
	switch most := e.maxSlots(); {
	case n < 0:
		return nil, pyError("ValueError", rawText("n is negative"))
	case wanted < 1:
		return nil, pyError("ValueError", rawText("Can't shrink pool. At least one slot has to stay!"))
	case wanted > most:
		return nil, pyError("ValueError", rawText(fmt.Sprintf("Can't grow pool beyond %d slots", most)))
	}
	e.resize(wanted)
	r.log.Info("pool resized by remote control", "slots", wanted)
	return celeryproto.ReplyOK(rawText(done)), nil
}

func (e *engine) maxSlots() int { return max(maxSlots, e.cfg.Concurrency, e.cfg.AutoscaleMax) }

func (r *remote) autoscale(_ context.Context, args *arguments) (celeryproto.Raw, error) {
	const keep = 0
	most, least := args.count("max", keep), args.count("min", keep)
	e := r.engine
	switch {
	case args.err != nil:
		return nil, args.err
	case e.scaler == nil:
		return nil, pyError("ValueError", rawText("Autoscale not enabled"))
	case most < 0, least < 0:
		return nil, pyError("ValueError", rawText("max or min is negative"))
	case max(most, least) > e.maxSlots():
		return nil, pyError("ValueError", rawText(fmt.Sprintf("more than %d slots", e.maxSlots())))
	}
	least, most = e.scaler.set(least, most)
	return celeryproto.ReplyOK(rawText(fmt.Sprintf("autoscale now max=%d min=%d", most, least))), nil
}

// poolRestart is refused: Go code cannot be loaded anew.
func (r *remote) poolRestart(context.Context, *arguments) (celeryproto.Raw, error) {
	if !r.site.poolRestarts {
		return nil, pyError("ValueError", rawText("Pool restarts not enabled"))
	}
	return nil, pyError("NotImplementedError", rawText("pool_restart: a Go worker cannot load its code anew, restart the process"))
}

// addConsumer makes this worker consume a further queue, which is declared by the site's settings or by the command.
func (r *remote) addConsumer(ctx context.Context, args *arguments) (celeryproto.Raw, error) {
	args.need("queue")
	queue := args.text("queue")
	exchange, kind, key := args.text("exchange"), args.text("exchange_type"), args.text("routing_key")
	switch {
	case args.err != nil:
		return nil, args.err
	case queue == "":
		return nil, pyError("ValueError", rawText("queue is empty"))
	case kind != "" && kind != exchangeDirect && kind != exchangeTopic:
		return nil, pyError("NotImplementedError", rawText("add_consumer: exchanges of the type "+printable(kind)+" are not supported"))
	case queue == r.engine.cfg.UnknownQueue:
		return nil, pyError("ValueError", rawText("queue is where this worker sends what it does not know"))
	}
	if len(r.engine.source.queues()) >= maxQueues {
		return nil, pyError("ValueError", rawText(fmt.Sprintf("this worker consumes %d queues already", maxQueues)))
	}
	if exchange != "" || key != "" {
		q := plainQueue(queue)
		q.Exchange.Name, q.Exchange.Type = cmp.Or(exchange, queue), cmp.Or(kind, exchangeDirect)
		q.RoutingKey = cmp.Or(key, queue)
		r.queues.add(q)
	}
	if err := r.queues.check([]string{queue}); err != nil {
		return nil, err
	}
	if err := r.bind(ctx, bindingsOf(r.queues.find(queue))...); err != nil {
		return nil, err
	}
	r.engine.source.addQueue(queue)
	r.log.Info("consuming a further queue", "queue", printable(queue))
	return celeryproto.ReplyOK(rawText("add consumer " + queue)), nil
}

func (r *remote) cancelConsumer(_ context.Context, args *arguments) (celeryproto.Raw, error) {
	args.need("queue")
	queue := args.text("queue")
	if args.err != nil {
		return nil, args.err
	}
	r.engine.source.cancelQueue(queue)
	r.queues.remove(queue)
	r.log.Info("no longer consuming a queue", "queue", printable(queue))
	return celeryproto.ReplyOK(rawText("no longer consuming from " + queue)), nil
}

// election makes this worker a candidate.
func (r *remote) election(_ context.Context, args *arguments) (celeryproto.Raw, error) {
	args.need("id", "topic")
	id, topic := args.text("id"), args.text("topic")
	action, _ := args.get("action")
	switch {
	case args.err != nil:
		return nil, args.err
	case r.gossip == nil:
		return nil, pyError("RuntimeError", rawText("gossip is off in this worker"))
	}
	return rawNull, r.gossip.stand(id, topic, action)
}

// shutdown stops the worker warmly. Nobody gets an answer, as from Celery.
func (r *remote) shutdown(_ context.Context, args *arguments) (celeryproto.Raw, error) {
	reason := args.text("msg")
	if reason == "" {
		reason = "Got shutdown from remote"
	}
	r.log.Warn("shutdown by remote control", "reason", printable(reason))
	r.engine.stop(Warm)
	return nil, errNoReplyWanted
}
