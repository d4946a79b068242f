package canvas

import (
	"fmt"

	"github.com/dfws/dfws/celeryproto"
)

// OnSuccess is what a worker sends after a task has returned a result, before it
// stores that (celery 5.7, app/trace.py, _dispatch_callbacks_and_chain): first
// the callbacks, of which several run as a group, then the rest of the chain.
// Plan.Result is nil; Plan.Children are those of the task.
func OnSuccess(env *Env, req *celeryproto.Task, result celeryproto.Raw) (*Plan, error) {
	r := newRunner(env, ParentOf(req))
	args := tupleOf([]celeryproto.Raw{result})
	callbacks, err := signatureList(req.Embed.Callbacks, "callbacks")
	if err != nil {
		return nil, err
	}
	r.callback(callbacks, args, r.following(req))
	chain, err := signatureList(req.Embed.Chain, "chain")
	if err != nil {
		return nil, err
	}
	if n := len(chain.items); n > 0 {
		options := newDict(4)
		options.set(optChain, &list{items: chain.items[: n-1 : n-1]})
		options.update(r.following(req))
		r.apply(chain.signature(n-1), args, nil, options)
	}
	return r.finish(nil)
}

// callback applies callbacks: a single one by itself; of several the groups by
// themselves and the others as one group.
func (r *runner) callback(callbacks *list, args arguments, options *dict) {
	if len(callbacks.items) == 1 {
		r.apply(callbacks.signature(0), args, nil, options)
		return
	}
	var others []value
	for i := range callbacks.items {
		if sig := callbacks.signature(i); sig.kind == KindGroup {
			r.apply(sig, args, nil, options)
		} else {
			others = append(others, sig)
		}
	}
	if len(others) > 0 {
		r.apply(newGroup(&list{items: others}, newDict(2)), args, nil, options)
	}
}

// following are the options of what follows a task.
func (r *runner) following(req *celeryproto.Task) *dict {
	options := newDict(4)
	options.setText(optParentID, req.ID)
	root := req.RootID
	if root == "" {
		root = req.ID
	}
	options.setText(optRootID, root)
	if r.env.InheritParentPriority {
		options.set(optPriority, r.parent.priority())
	} else {
		options.set(optPriority, none)
	}
	return options
}

// signatureList is a list of signatures in a message; null is empty.
func signatureList(r celeryproto.Raw, what string) (*list, error) {
	if r.IsNull() {
		return &list{}, nil
	}
	l, isList := opened(r).(*list)
	if !isList {
		return nil, fmt.Errorf("canvas: %s: expected array, got %s", what, r.Kind())
	}
	return l, nil
}
