package worker

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
)

// TaskCall is one task on its way to its handler. It is valid until the handler returns.
type TaskCall struct {
	// Task is the message: ID, RootID, ParentID, GroupID, Retries, headers (ExtraHeaders), stamps, delivery information
	// (Properties) and the arguments as they came. It must not be changed.
	Task *celeryproto.Task
	// Queue is where it was taken from.
	Queue string
	// Redelivered is true when another worker may have begun this task before.
	Redelivered bool

	job  *job
	exec *executor
	log  func() *slog.Logger
}

// Logger returns a logger that carries the task's name, its ID and the queue.
func (c *TaskCall) Logger() *slog.Logger { return loggerOf(c.log) }

// TimeLimits are the hard and the soft limit in effect for this call, zero for none.
func (c *TaskCall) TimeLimits() (hard, soft time.Duration) {
	if c.job == nil {
		return 0, 0
	}
	return c.job.hardLimit(c.exec.timeout), c.job.softLimit()
}

// Apply sends a signature, as apply_async in a Python task: what it sends has this task as its parent and is among the children
// of its result. args go in front of the signature's own. It returns what can be waited for once Redis has it; nil for an empty
// chain.
func (c *TaskCall) Apply(ctx context.Context, sig *canvas.Signature, args ...any) (*celeryproto.ResultTree, error) {
	if c.exec == nil {
		return nil, fmt.Errorf("apply: %w", ErrNoBroker)
	}
	call := canvas.Call{Parent: canvas.ParentOf(c.Task)}
	for _, arg := range args {
		raw, err := celeryproto.EncodeValue(arg)
		if err != nil {
			return nil, fmt.Errorf("worker: apply: %w", err)
		}
		call.Args = append(call.Args, raw)
	}
	plan, err := sig.Apply(c.exec.env, call)
	if err != nil {
		return nil, fmt.Errorf("worker: apply: %w", err)
	}
	if err := c.exec.sender.Apply(ctx, plan); err != nil {
		return nil, err
	}
	c.job.sent(plan.Children)
	return plan.Result, nil
}

// AddToChord sends a signature as a further member of the chord's header that this task belongs to, as self.add_to_chord().
func (c *TaskCall) AddToChord(ctx context.Context, sig *canvas.Signature) error {
	if c.exec == nil {
		return fmt.Errorf("add to chord: %w", ErrNoBroker)
	}
	added, plan, err := canvas.AddToChord(c.exec.env, c.Task, sig)
	if err != nil {
		return fmt.Errorf("worker: add to chord: %w", err)
	}
	if err := c.exec.sender.AddToChord(ctx, c.Task.GroupID, added); err != nil {
		return err
	}
	if err := c.exec.sender.Apply(ctx, plan); err != nil {
		return err
	}
	c.job.sent(plan.Children)
	return nil
}

// UpdateState stores a state of the task's own, such as "PROGRESS", with anything celeryproto.EncodeValue takes, as
// self.update_state(). Python reads it from AsyncResult.state and .info. On a site without result backend it does nothing.
func (c *TaskCall) UpdateState(ctx context.Context, state string, info any) error {
	if c.exec == nil || c.exec.meta == nil {
		return nil
	}
	raw, err := celeryproto.EncodeValue(info)
	if err != nil {
		return fmt.Errorf("worker: update state: %w", err)
	}
	return c.exec.sender.StoreState(ctx, c.exec.meta(c.job, state, raw))
}

// Trigger sends a signal from a task, which has no window: ToWindow and ToUser then reach nobody.
func (c *TaskCall) Trigger(ctx context.Context, signal string, opts any, to ...Target) error {
	return c.TriggerWith(ctx, Trigger{Signal: signal, Opts: opts, To: to})
}

// TriggerWith sends a signal with a delay, an expiry or a window.
func (c *TaskCall) TriggerWith(ctx context.Context, t Trigger) error {
	if c.exec == nil {
		return send(ctx, nil, t)
	}
	return send(ctx, c.exec.sender, t)
}
