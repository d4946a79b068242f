package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/dfws/dfws/celeryproto"
)

// RestoreGroup is a group that was saved, by AsyncResult.Save or GroupResult.save() in Python; celeryproto.ErrNoResult when there is none.
func (c *Client) RestoreGroup(ctx context.Context, groupID string) (*AsyncResult, error) {
	b, err := c.results()
	if err != nil {
		return nil, err
	}
	tree, err := b.Group(ctx, groupID)
	if err != nil {
		return nil, fmt.Errorf("worker: restore group: %w", err)
	}
	return c.ResultOf(tree), nil
}

// Members are the results of a group, in its order; nil for a task.
func (r *AsyncResult) Members() []*AsyncResult {
	if !r.IsGroup() {
		return nil
	}
	members := make([]*AsyncResult, len(r.tree.Children))
	for i := range r.tree.Children {
		members[i] = r.client.ResultOf(&r.tree.Children[i])
	}
	return members
}

// waitMembers is the array of a group's values.
func (r *AsyncResult) waitMembers(ctx context.Context) (celeryproto.Raw, error) {
	members := r.Members()
	values := make([]celeryproto.Raw, len(members))
	err := r.each(ctx, members, func(ctx context.Context, i int) (err error) {
		values[i], err = members[i].wait(ctx)
		if len(values[i]) == 0 {
			values[i] = rawNull
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return rawList(values...), nil
}

// each calls f for members, several at a time, until one fails.
func (r *AsyncResult) each(ctx context.Context, members []*AsyncResult, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	todo := make(chan int) // closed below
	var wg sync.WaitGroup
	for range min(waitedAtOnce, len(members)) {
		wg.Go(func() {
			for i := range todo {
				if err := f(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range members {
		select {
		case todo <- i:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
	}
	close(todo)
	wg.Wait()
	return context.Cause(ctx)
}

// CompletedCount is how many of a group's tasks have succeeded.
func (r *AsyncResult) CompletedCount(ctx context.Context) (int, error) {
	n, _, err := r.count(ctx, func(state string) bool { return state == celeryproto.StatusSuccess })
	return n, err
}

// Save stores which results a group consists of, for RestoreGroup and Python's GroupResult.restore(); Delete removes that.
func (r *AsyncResult) Save(ctx context.Context) error {
	b, err := r.client.results()
	if err == nil && !r.IsGroup() {
		err = errNoGroup
	}
	if err != nil {
		return err
	}
	if err := b.SaveGroup(ctx, r.tree); err != nil {
		return fmt.Errorf("worker: save group: %w", err)
	}
	return nil
}

// errNoGroup is returned by what only a group has.
var errNoGroup = errors.New("worker: not a group")

// Delete removes what Save stored, not the results themselves.
func (r *AsyncResult) Delete(ctx context.Context) error {
	b, err := r.client.results()
	if err == nil && !r.IsGroup() {
		err = errNoGroup
	}
	if err != nil {
		return err
	}
	if err := b.ForgetGroup(ctx, r.ID); err != nil {
		return fmt.Errorf("worker: delete group: %w", err)
	}
	return nil
}
