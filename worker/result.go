package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

// AsyncResult is a task that was sent, or a group of them, by the names of Celery's AsyncResult and GroupResult. What is asked is read
// from the result backend each time.
type AsyncResult struct {
	// ID of the task or group.
	ID string

	client *Client
	tree   *celeryproto.ResultTree // nil: nothing is known but the ID of a task
}

// Result is the result of a task by its ID.
func (c *Client) Result(id string) *AsyncResult { return &AsyncResult{ID: id, client: c} }

// ResultOf is a result from the tuple that Celery passes on, with its parents and members; nil for nil. Python's as_tuple() makes one.
func (c *Client) ResultOf(tree *celeryproto.ResultTree) *AsyncResult {
	if tree == nil {
		return nil
	}
	return &AsyncResult{ID: tree.ID, client: c, tree: tree}
}

// results is the site's result backend.
func (c *Client) results() (Backend, error) {
	switch {
	case c.backendErr != nil:
		return nil, c.backendErr
	case c.backend == nil:
		return nil, ErrNoResultBackend
	}
	return c.backend, nil
}

// Tree is the tuple that Celery passes on for this result.
func (r *AsyncResult) Tree() *celeryproto.ResultTree {
	if r.tree != nil {
		return r.tree
	}
	return &celeryproto.ResultTree{ID: r.ID}
}

// IsGroup tells whether this is a group of results.
func (r *AsyncResult) IsGroup() bool { return r.tree != nil && r.tree.IsGroup }

// Parent is what has to end before this begins, in a chain; nil for nothing.
func (r *AsyncResult) Parent() *AsyncResult {
	if r.tree == nil {
		return nil
	}
	return r.client.ResultOf(r.tree.Parent)
}

// Bounds of waiting.
const (
	// waitedAtOnce is how many results one Get waits for at a time. They share one connection.
	waitedAtOnce = 64
	// watchedParents is how many of its closest parents a Get watches for failures, as get(follow_parents=True) does.
	watchedParents = 64
	// parentGrace is what a result gets after the failure of a parent: mostly it fails as well, and says more (ChordError).
	parentGrace = 500 * time.Millisecond
)

// Get waits until the task is done. It decodes the value into the pointer into, by the rules of arguments; nil drops it. A task that
// raised, or one before it in its chain, gives an *Exception; one that was revoked or expired too (TaskRevokedError).
//
// For a group it waits for all members; their values go into a slice or array, in order, and the first one that fails ends the wait.
func (r *AsyncResult) Get(ctx context.Context, into any) error {
	raw, err := r.wait(ctx)
	if err != nil {
		return err
	}
	return decodeResult(raw, into)
}

// wait is the value as JSON, or how the task failed.
func (r *AsyncResult) wait(ctx context.Context) (celeryproto.Raw, error) {
	b, err := r.client.results()
	if err != nil {
		return nil, err
	}
	waiting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := r.watchParents(waiting, b, cancel)
	defer stop()
	defer cancel(nil) // before stop
	if r.IsGroup() {
		return r.waitMembers(waiting)
	}
	meta, err := b.Wait(waiting, r.ID)
	if err == nil {
		return meta.Result, failureOf(meta)
	}
	if failed, ok := errors.AsType[*Exception](context.Cause(waiting)); ok {
		return nil, failed
	}
	return nil, fmt.Errorf("worker: wait for a result: %w", err)
}

// watchParents ends the wait with the failure of a parent: what follows it may never run. stop waits for its goroutines, after ctx has
// ended.
func (r *AsyncResult) watchParents(ctx context.Context, b Backend, failed context.CancelCauseFunc) (stop func()) {
	var wg sync.WaitGroup
	watched := 0
	watch := func(id string) {
		watched++
		wg.Go(func() {
			meta, err := b.Wait(ctx, id)
			if err != nil || failureOf(meta) == nil {
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(parentGrace):
				failed(failureOf(meta))
			}
		})
	}
	for p := r.Tree().Parent; p != nil; p = p.Parent {
		for _, id := range p.TaskIDs(nil) {
			if watched == watchedParents {
				return wg.Wait
			}
			watch(id)
		}
	}
	return wg.Wait
}

// Meta is what the result backend has of the task: its state, value or exception, children. Where there is nothing, the state is PENDING.
func (r *AsyncResult) Meta(ctx context.Context) (*celeryproto.ResultMeta, error) {
	if r.IsGroup() {
		return nil, errGroup
	}
	b, err := r.client.results()
	if err != nil {
		return nil, err
	}
	meta, err := b.Get(ctx, r.ID)
	switch {
	case errors.Is(err, celeryproto.ErrNoResult):
		return &celeryproto.ResultMeta{TaskID: r.ID, Status: celeryproto.StatusPending}, nil
	case err != nil:
		return nil, fmt.Errorf("worker: result: %w", err)
	}
	return meta, nil
}

// errGroup is returned by what only a single task has.
var errGroup = errors.New("worker: a group has members, and no state of its own")

// State is the task's state, such as "SUCCESS" or one of its own; "PENDING" also means that nothing is known of it.
func (r *AsyncResult) State(ctx context.Context) (string, error) {
	meta, err := r.Meta(ctx)
	if err != nil {
		return "", err
	}
	return meta.Status, nil
}

// Info decodes what was stored with the present state into the pointer into, such as the progress that a task tells by update_state. For
// a task that has failed the error is its *Exception.
func (r *AsyncResult) Info(ctx context.Context, into any) error {
	meta, err := r.Meta(ctx)
	if err != nil {
		return err
	}
	if err := failureOf(meta); err != nil {
		return err
	}
	return decodeResult(meta.Result, into)
}

// Traceback is the text that is stored with a failure, "" for none.
func (r *AsyncResult) Traceback(ctx context.Context) (string, error) {
	meta, err := r.Meta(ctx)
	if err != nil {
		return "", err
	}
	return meta.Traceback, nil
}

// count tells for how many tasks f is true, and how many there are; of a group all tasks in it, at any depth, count.
func (r *AsyncResult) count(ctx context.Context, f func(state string) bool) (n, of int, err error) {
	var tasks []*AsyncResult
	for _, id := range r.Tree().TaskIDs(nil) {
		tasks = append(tasks, r.client.Result(id))
	}
	var mu sync.Mutex
	err = r.each(ctx, tasks, func(ctx context.Context, i int) error {
		state, err := tasks[i].State(ctx)
		if err == nil && f(state) {
			mu.Lock()
			n++
			mu.Unlock()
		}
		return err
	})
	return n, len(tasks), err
}

// Ready tells whether the task, or all of a group's, have ended: SUCCESS, FAILURE or REVOKED.
func (r *AsyncResult) Ready(ctx context.Context) (bool, error) {
	n, of, err := r.count(ctx, celeryproto.IsReady)
	return n == of, err
}

// Waiting tells whether a task has not ended yet, the opposite of Ready.
func (r *AsyncResult) Waiting(ctx context.Context) (bool, error) {
	ready, err := r.Ready(ctx)
	return !ready, err
}

// Successful tells whether the task, or all of a group's, have succeeded.
func (r *AsyncResult) Successful(ctx context.Context) (bool, error) {
	n, of, err := r.count(ctx, func(state string) bool { return state == celeryproto.StatusSuccess })
	return n == of, err
}

// Failed tells whether the task, or one of a group's, has failed; a revoked one has not.
func (r *AsyncResult) Failed(ctx context.Context) (bool, error) {
	n, _, err := r.count(ctx, func(state string) bool { return state == celeryproto.StatusFailure })
	return n > 0, err
}

// Children are the results of what the task has sent while it ran, and of its callbacks; of a group its members.
func (r *AsyncResult) Children(ctx context.Context) ([]*AsyncResult, error) {
	if r.IsGroup() {
		return r.Members(), nil
	}
	meta, err := r.Meta(ctx)
	if err != nil || meta.Children.IsNull() {
		return nil, err
	}
	elements, err := meta.Children.Array()
	if err != nil {
		return nil, fmt.Errorf("worker: children: %w", err)
	}
	children := make([]*AsyncResult, len(elements))
	for i, element := range elements {
		tree, err := celeryproto.DecodeResultTree(element)
		if err != nil {
			return nil, fmt.Errorf("worker: children: %w", err)
		}
		children[i] = r.client.ResultOf(tree)
	}
	return children, nil
}

// ErrIncomplete is returned by Graph when a task has not ended: it may still send others.
var ErrIncomplete = errors.New("worker: a task has not ended")

// Dependency is an edge of a Graph: Result was sent by Parent, or is a member of it.
type Dependency struct {
	Parent *AsyncResult // nil for the result that was asked
	Result *AsyncResult
}

// maxGraph bounds what Graph returns.
const maxGraph = 100_000

// Graph lists this result and all that came of it, breadth first (AsyncResult.iterdeps). With intermediate it takes what is there so far;
// otherwise it is ErrIncomplete when a task has not ended.
func (r *AsyncResult) Graph(ctx context.Context, intermediate bool) ([]Dependency, error) {
	graph := []Dependency{{Result: r}}
	seen := map[string]bool{r.ID: true}
	for i := 0; i < len(graph); i++ {
		node := graph[i].Result
		if !node.IsGroup() && !intermediate {
			switch state, err := node.State(ctx); {
			case err != nil:
				return nil, err
			case !celeryproto.IsReady(state):
				return graph, fmt.Errorf("%w: %s", ErrIncomplete, node.ID)
			}
		}
		children, err := node.Children(ctx)
		if err != nil {
			return nil, err
		}
		for _, child := range children {
			if seen[child.ID] {
				continue
			}
			if len(graph) == maxGraph {
				return nil, fmt.Errorf("worker: graph of more than %d results", maxGraph)
			}
			seen[child.ID] = true
			graph = append(graph, Dependency{Parent: node, Result: child})
		}
	}
	return graph, nil
}

// Revoke asks all workers not to run the task, or those of a group.
func (r *AsyncResult) Revoke(ctx context.Context) error {
	return r.client.mailbox.revoke(ctx, r.Tree().TaskIDs(nil))
}

// Terminate is Revoke, and ends the task where it runs: in Python its process gets the OS signal, "SIGTERM" when empty; in Go the
// handler's context ends.
func (r *AsyncResult) Terminate(ctx context.Context, signal string) error {
	if signal == "" {
		signal = defaultSignal
	}
	return r.client.mailbox.cast(ctx, request{method: "revoke", arguments: revokeArguments(r.Tree().TaskIDs(nil), true, signal)})
}

// Forget deletes the task's result and those of its parents, or those of a group's tasks.
func (r *AsyncResult) Forget(ctx context.Context) error {
	b, err := r.client.results()
	if err != nil {
		return err
	}
	var ids []string
	for t := r.Tree(); t != nil; t = t.Parent {
		ids = t.TaskIDs(ids)
	}
	if err := b.Forget(ctx, ids...); err != nil {
		return fmt.Errorf("worker: forget: %w", err)
	}
	return nil
}
