package worker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

// builtinCommands are the names of Celery's commands (celery 5.7, worker/control.py), with their old ones.
var builtinCommands = map[string]bool{}

func init() {
	for name := range (&remote{}).builtins() {
		builtinCommands[name] = true
	}
}

// builtins are Celery's commands.
func (r *remote) builtins() map[string]command {
	commands := map[string]command{
		"ping": r.ping, "clock": r.clock, "hello": r.hello, "report": r.report, "conf": r.conf, "stats": r.stats,
		"active": r.active, "reserved": r.reserved, "scheduled": r.scheduled, "query_task": r.queryTask,
		"revoked": r.revokedIDs, "registered": r.registered, "active_queues": r.activeQueues,
		"memsample": r.memsample, "memdump": r.memdump, "objgraph": r.objgraph,

		"revoke": r.revoke, "terminate": r.terminate, "revoke_by_stamped_headers": r.revokeByStamps,
		"rate_limit": r.rateLimit, "time_limit": r.timeLimit,
		"enable_events": r.enableEvents, "disable_events": r.disableEvents, "heartbeat": r.heartbeat,
		"pool_grow": r.poolGrow, "pool_shrink": r.poolShrink, "pool_restart": r.poolRestart, "autoscale": r.autoscale,
		"add_consumer": r.addConsumer, "cancel_consumer": r.cancelConsumer, "election": r.election, "shutdown": r.shutdown,
	}
	for old, name := range map[string]string{
		"dump_conf": "conf", "dump_schedule": "scheduled", "dump_reserved": "reserved", "dump_active": "active",
		"dump_revoked": "revoked", "dump_tasks": "registered",
	} {
		commands[old] = commands[name]
	}
	return commands
}

func (r *remote) ping(context.Context, *arguments) (celeryproto.Raw, error) {
	return celeryproto.ReplyOK(rawText("pong")), nil
}

func (r *remote) clock(context.Context, *arguments) (celeryproto.Raw, error) {
	return new(object).int("clock", r.node.clock.Value()).json(), nil
}

// hello is what a worker asks that starts: it takes over what is revoked here, and tells what is revoked there (mingle).
func (r *remote) hello(_ context.Context, args *arguments) (celeryproto.Raw, error) {
	args.need("from_node")
	from := args.text("from_node")
	revoked, _ := args.get("revoked")
	ids := revokedOf(revoked)
	if args.err != nil {
		return nil, args.err
	}
	if from == r.node.name {
		return rawNull, nil
	}
	r.log.Info("sync with another worker", "node", printable(from))
	r.engine.revoked.add(time.Now(), ids...)
	return new(object).raw("revoked", rawTexts(r.engine.revoked.ids())).int("clock", r.node.clock.Forward()).json(), nil
}

// revokedOf reads the revoked IDs of another worker: a list, or an object with the IDs as its keys (Celery up to 5.6). What is no ID is
// skipped.
func revokedOf(raw celeryproto.Raw) []string {
	var ids []string
	switch raw.Kind() {
	case celeryproto.KindArray:
		elements, _ := raw.Array() // has been scanned
		for _, element := range elements {
			if id, err := element.Text(); err == nil {
				ids = append(ids, id)
			}
		}
	case celeryproto.KindObject:
		members, _ := raw.Object() // has been scanned
		for _, m := range members {
			ids = append(ids, m.Key)
		}
	}
	return ids[:min(len(ids), revokedMax)]
}

func (r *remote) active(_ context.Context, args *arguments) (celeryproto.Raw, error) {
	return r.infos(args.truth("safe"), phaseActive), nil
}

// reserved are the jobs that wait for a slot, and those that the rate limit holds back, which Celery shows nowhere.
func (r *remote) reserved(context.Context, *arguments) (celeryproto.Raw, error) {
	return r.infos(false, phaseReserved, phaseLimited), nil
}

func (r *remote) infos(safe bool, phases ...phase) celeryproto.Raw {
	infos := []celeryproto.Raw{}
	for _, j := range r.engine.table.in(phases...) {
		infos = append(infos, r.info(j, safe))
	}
	return rawList(infos...)
}

// timerPriority is that of a task with an ETA in Celery's timer (celery 5.7, worker/strategy.py).
const timerPriority = 6

func (r *remote) scheduled(context.Context, *arguments) (celeryproto.Raw, error) {
	jobs := r.engine.table.in(phaseScheduled)
	slices.SortStableFunc(jobs, func(a, b *job) int { return a.eta.Compare(b.eta) })
	infos := make([]celeryproto.Raw, len(jobs))
	for i, j := range jobs {
		infos[i] = new(object).text("eta", celeryproto.FormatISOTime(*j.task.ETA)).int("priority", timerPriority).
			raw("request", r.info(j, false)).json()
	}
	return rawList(infos...), nil
}

// info is Request.info of celery 5.7, worker/request.py. With safe the arguments are texts for people.
func (r *remote) info(j *job, safe bool) celeryproto.Raw {
	t := j.task
	phase, began, acked := j.state()
	args, kwargs := t.Args, t.Kwargs
	if safe {
		args, kwargs = rawText(t.ArgsRepr), rawText(t.KwargsRepr)
	}
	if len(args) == 0 {
		args = celeryproto.Raw("[]")
	}
	if len(kwargs) == 0 {
		kwargs = celeryproto.Raw("{}")
	}
	start, pid := rawNull, rawNull
	if phase == phaseActive {
		start, pid = rawFloat(celeryproto.UnixSeconds(began)), rawInt(int64(r.node.pid))
	}
	name := t.Shadow
	if name == "" {
		name = t.Name
	}
	address := &t.Properties.DeliveryInfo
	delivery := new(object).text("exchange", address.Exchange).text("routing_key", address.RoutingKey).
		int("priority", int64(t.Properties.Priority)).raw("redelivered", rawBool(address.Redelivered)).json()
	return new(object).text("id", t.ID).text("name", name).raw("args", args).raw("kwargs", kwargs).text("type", t.Name).
		text("hostname", r.node.name).raw("time_start", start).raw("acknowledged", rawBool(acked)).
		raw("delivery_info", delivery).raw("worker_pid", pid).json()
}

// queryTask tells of the tasks with certain IDs that this worker holds.
func (r *remote) queryTask(_ context.Context, args *arguments) (celeryproto.Raw, error) {
	args.need("ids")
	wanted := map[string]bool{}
	for _, id := range args.texts("ids") {
		wanted[id] = true
	}
	if args.err != nil {
		return nil, args.err
	}
	var found object
	for _, j := range r.engine.table.all() {
		if !wanted[j.task.ID] {
			continue
		}
		state := ""
		switch phase, _, _ := j.state(); phase {
		case phaseActive:
			state = "active"
		case phaseReserved, phaseLimited:
			state = "reserved"
		case phaseScheduled:
			state = "scheduled"
		default:
			continue // it has ended
		}
		found.raw(j.task.ID, rawList(rawText(state), r.info(j, false)))
	}
	return found.json(), nil
}

func (r *remote) revokedIDs(context.Context, *arguments) (celeryproto.Raw, error) {
	return rawTexts(r.engine.revoked.ids()), nil
}

// defaultTaskInfo are the attributes that registered shows unless it is asked for others (celery 5.7, worker/control.py).
var defaultTaskInfo = []string{"exchange", "routing_key", "rate_limit"}

func (r *remote) registered(_ context.Context, args *arguments) (celeryproto.Raw, error) {
	items := args.texts("taskinfoitems")
	builtins := args.truth("builtins")
	if args.err != nil {
		return nil, args.err
	}
	if len(items) == 0 {
		items = defaultTaskInfo
	}
	names := r.engine.handlers.names()
	lines := make([]string, 0, len(names))
	for _, name := range names {
		if strings.HasPrefix(name, "celery.") && !builtins {
			continue
		}
		lines = append(lines, r.engine.handlers.describe(name, items))
	}
	return rawTexts(lines), nil
}

// describe is a task's name with its attributes, as str() shows them in Python; those that are None are left out.
func (h *handlers) describe(name string, items []string) string {
	var shown []string
	for _, item := range items {
		if strings.HasPrefix(item, "_") || slices.ContainsFunc(shown, func(s string) bool { return strings.HasPrefix(s, item+"=") }) {
			continue
		}
		if value := h.attribute(name, item); value != "" {
			shown = append(shown, item+"="+value)
		}
	}
	if len(shown) == 0 {
		return name
	}
	return name + " [" + strings.Join(shown, " ") + "]"
}

// attribute is an attribute of Celery's Task class, "" for None and for what there is none of in Go.
func (h *handlers) attribute(name, item string) string {
	policy, t := &h.signalPolicy, h.tasks[name]
	if t != nil {
		policy = &t.policy
	}
	switch item {
	case "name":
		return name
	case "rate_limit":
		if t != nil {
			return t.rateText()
		}
	case "max_retries":
		if most := policy.options.maxRetries(); most >= 0 {
			return fmt.Sprint(most)
		}
	case "default_retry_delay":
		return fmt.Sprint(int(cmp.Or(policy.options.RetryDelay, DefaultRetryDelay).Seconds()))
	case "time_limit":
		return secondsText(policy.timeLimit.Load())
	case "soft_time_limit":
		return secondsText(policy.softTimeLimit.Load())
	case "acks_late":
		return pythonBool(policy.acksLate)
	case "acks_on_failure":
		return pythonBool(policy.acksOnFailure)
	case "acks_on_timeout":
		return pythonBool(policy.acksOnTimeout)
	case "reject_on_worker_lost":
		return pythonBool(policy.requeueLost)
	case "ignore_result":
		return pythonBool(policy.ignoreResult)
	case "store_errors_even_if_ignored":
		return pythonBool(policy.storeErrors)
	case "track_started":
		return pythonBool(policy.trackStarted)
	case "send_events":
		return pythonBool(policy.sendEvents)
	}
	return ""
}

func pythonBool(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

func (r *remote) activeQueues(context.Context, *arguments) (celeryproto.Raw, error) {
	var queues []celeryproto.Raw
	for _, name := range r.engine.source.queues() {
		queues = append(queues, queueInfo(r.queues.find(name)))
	}
	return rawList(queues...), nil
}

func (r *remote) objgraph(context.Context, *arguments) (celeryproto.Raw, error) {
	return nil, pyError("NotImplementedError", rawText("objgraph: a Go worker has no Python objects to draw"))
}
