package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
)

// markedAtOnce is how many results are marked as REVOKED at the same time.
const markedAtOnce = 16

// revoke makes this worker, and those that ask it later, not run tasks; with terminate it also ends those that run.
func (r *remote) revoke(ctx context.Context, args *arguments) (celeryproto.Raw, error) {
	args.need("task_id")
	ids := args.texts("task_id")
	terminate := args.truth("terminate")
	if args.err != nil {
		return nil, args.err
	}
	ids = distinct(ids)
	if slices.ContainsFunc(ids, func(id string) bool { return len(id) > maxRevokedLength }) {
		return nil, pyError("ValueError", rawText(fmt.Sprintf("an ID has more than %d bytes", maxRevokedLength)))
	}
	e := r.engine
	e.revoked.add(time.Now(), ids...)
	held := map[string]*job{}
	wanted := make(map[string]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	for _, j := range e.table.all() {
		if wanted[j.task.ID] {
			held[j.task.ID] = j
		}
	}
	r.markRevoked(ctx, ids, held)
	if !terminate {
		r.log.Info("tasks flagged as revoked", "tasks", len(ids))
		return celeryproto.ReplyOK(rawText("tasks " + setRepr(ids) + " flagged as revoked")), nil
	}
	signum, err := args.signal()
	if err != nil {
		return nil, err
	}
	var ended []string
	for _, id := range ids {
		if j := held[id]; j != nil && e.terminate(j, signum) {
			j.logger(r.log).Info("terminating", "signal", signum)
			ended = append(ended, id)
		}
	}
	if len(ended) == 0 {
		return celeryproto.ReplyOK(rawText("terminate: tasks unknown")), nil
	}
	return celeryproto.ReplyOK(rawText("terminate: " + strings.Join(ended, ", "))), nil
}

// terminate is revoke with terminate.
func (r *remote) terminate(ctx context.Context, args *arguments) (celeryproto.Raw, error) {
	args.need("signal", "task_id")
	if args.err != nil {
		return nil, args.err
	}
	args.members.Set("terminate", rawBool(true))
	return r.revoke(ctx, args)
}

func distinct(ids []string) []string {
	seen := make(map[string]bool, len(ids))
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		twice := seen[id]
		seen[id] = true
		return twice
	})
}

// setRepr is the repr of a Python set of texts. Python's order is random, this is that of the message.
func setRepr(texts []string) string {
	if len(texts) == 0 {
		return "set()"
	}
	shown := make([]string, len(texts))
	for i, text := range texts {
		shown[i] = canvas.Repr(rawText(text))
	}
	return "{" + strings.Join(shown, ", ") + "}"
}

// markRevoked stores REVOKED for tasks that no worker is running as far as their results tell, so that whoever waits learns of it at
// once. That is Celery's behaviour since 5.7; a failure is not worth refusing the revocation for.
func (r *remote) markRevoked(ctx context.Context, ids []string, held map[string]*job) {
	results := r.engine.settle.results
	if results == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var wg sync.WaitGroup
	todo := make(chan string) // closed below
	for range min(markedAtOnce, len(ids)) {
		wg.Go(func() {
			for id := range todo {
				if err := r.markOne(ctx, results, id); err != nil {
					r.log.Warn("task not marked as revoked in the result backend", "task_id", printable(id), "err", err)
				}
			}
		})
	}
	for _, id := range ids {
		if j := held[id]; j != nil {
			if phase, _, _ := j.state(); phase == phaseActive || phase == phaseEnding {
				continue
			}
		}
		todo <- id
	}
	close(todo)
	wg.Wait()
}

func (r *remote) markOne(ctx context.Context, results Backend, id string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	switch meta, err := results.Get(ctx, id); {
	case errors.Is(err, celeryproto.ErrNoResult):
	case err != nil:
		return err
	default:
		switch meta.Status {
		case celeryproto.StatusPending, "RECEIVED", celeryproto.StatusRetry, "REJECTED":
		default:
			return nil
		}
	}
	e := exception("TaskRevokedError", moduleCelery, whyRevoked)
	raw, err := e.Raw()
	if err != nil {
		return err
	}
	return results.Store(ctx, &celeryproto.ResultMeta{
		Status: celeryproto.StatusRevoked, Result: raw, TaskID: id, DateDone: time.Now().In(r.engine.settle.zone),
		Children: rawNull,
	})
}

// signals are the OS signals of Linux by their names, as Python's module signal has them: a Go worker sends none, but its events tell
// which one Celery would have sent.
var signals = map[string]int{
	"SIGHUP": 1, "SIGINT": 2, "SIGQUIT": 3, "SIGILL": 4, "SIGTRAP": 5, "SIGABRT": 6, "SIGIOT": 6, "SIGBUS": 7, "SIGFPE": 8, "SIGKILL": 9,
	"SIGUSR1": 10, "SIGSEGV": 11, "SIGUSR2": 12, "SIGPIPE": 13, "SIGALRM": 14, "SIGTERM": 15, "SIGSTKFLT": 16, "SIGCHLD": 17,
	"SIGCLD": 17, "SIGCONT": 18, "SIGSTOP": 19, "SIGTSTP": 20, "SIGTTIN": 21, "SIGTTOU": 22, "SIGURG": 23, "SIGXCPU": 24, "SIGXFSZ": 25,
	"SIGVTALRM": 26, "SIGPROF": 27, "SIGWINCH": 28, "SIGIO": 29, "SIGPOLL": 29, "SIGPWR": 30, "SIGSYS": 31, "SIGRTMIN": 34, "SIGRTMAX": 64,
}

// signal is celery 5.7, platforms.py, Signals.signum: a number, or a name with or without SIG; SIGTERM when there is none.
func (a *arguments) signal() (int, error) {
	value, ok := a.get("signal")
	if !ok {
		return signals[defaultSignal], nil
	}
	if value.Kind() == celeryproto.KindNumber {
		n := a.count("signal", 0)
		return n, a.err
	}
	name, err := value.Text()
	if err != nil || strings.ToUpper(name) != name || strings.ToLower(name) == name {
		return 0, pyError("TypeError", rawText("signal name must be uppercase string."))
	}
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	n, known := signals[name]
	if !known {
		return 0, pyError("AttributeError", rawText(fmt.Sprintf("module 'signal' has no attribute '%s'", printable(name))))
	}
	return n, nil
}

// revokeByStamps makes this worker not run tasks with certain stamps; with terminate it also ends those that run.
func (r *remote) revokeByStamps(_ context.Context, args *arguments) (celeryproto.Raw, error) {
	args.need("headers")
	signum, err := args.signal()
	if err != nil {
		return nil, err
	}
	headers, err := stampHeaders(args)
	if err != nil {
		return nil, err
	}
	for _, h := range headers {
		r.engine.revoked.addStamps(h.Key, stampValues(h.Value))
	}
	shown := canvas.Repr(headers.Append(nil))
	if !args.truth("terminate") {
		return celeryproto.ReplyOK(rawText("headers " + shown + " flagged as revoked, but not terminated")), nil
	}
	active := r.engine.table.in(phaseActive)
	var ended []string
	for _, h := range headers {
		if values := r.terminateStamped(active, h, signum); len(values) > 0 {
			ended = append(ended, canvas.Repr(rawText(h.Key))+": {"+strings.Join(values, ", ")+"}")
		}
	}
	if len(ended) == 0 {
		return celeryproto.ReplyOK(rawText("headers " + shown + " were not terminated")), nil
	}
	text := "headers defaultdict(<class 'set'>, {" + strings.Join(ended, ", ") + "}) revoked"
	return celeryproto.ReplyOK(rawText(text)), nil
}

// terminateStamped ends the jobs that have one of these values of a stamp, and returns the reprs of those that were found.
func (r *remote) terminateStamped(active []*job, h celeryproto.Member, signum int) []string {
	wanted, found := rawSet{}, rawSet{}
	for _, value := range stampValues(h.Value) {
		wanted.add(value)
	}
	var values []string
	for _, j := range active {
		matching := slices.DeleteFunc(stampsOf(j.task, h.Key), func(v celeryproto.Raw) bool { return !wanted.has(v) })
		if len(matching) == 0 || !r.engine.terminate(j, signum) {
			continue
		}
		for _, value := range matching {
			if found.add(value) {
				values = append(values, canvas.Repr(value))
			}
		}
	}
	return values
}

// stampHeaders are the stamps to be revoked: an object, or a list of "name=value" from the command line.
func stampHeaders(args *arguments) (celeryproto.Members, error) {
	if args.err != nil {
		return nil, args.err
	}
	value, _ := args.get("headers")
	switch value.Kind() {
	case celeryproto.KindObject:
		return value.Object()
	case celeryproto.KindArray:
		var headers celeryproto.Members
		for _, pair := range args.texts("headers") {
			name, stamp, found := strings.Cut(pair, "=")
			if !found {
				return nil, pyError("IndexError", rawText("list index out of range"))
			}
			stamp, _, _ = strings.Cut(stamp, "=")
			headers.Set(name, rawText(stamp))
		}
		return headers, args.err
	default:
		args.fail("headers", "an object", value)
		return nil, args.err
	}
}

// stampValues is Celery's maybe_list.
func stampValues(value celeryproto.Raw) []celeryproto.Raw {
	if value.IsNull() {
		return nil
	}
	if value.Kind() == celeryproto.KindArray {
		values, _ := value.Array() // has been scanned
		return values
	}
	return []celeryproto.Raw{value}
}

// stampsOf are the values that a task has of a stamp.
func stampsOf(t *celeryproto.Task, name string) []celeryproto.Raw {
	names, err := t.StampedHeaders.Array()
	if err != nil || !slices.ContainsFunc(names, func(n celeryproto.Raw) bool { text, _ := n.Text(); return text == name }) {
		return nil
	}
	stamps, err := t.Stamps.Object()
	if err != nil {
		return nil
	}
	values, _ := stamps.Get(name)
	return stampValues(values)
}
