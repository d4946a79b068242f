package main

import (
	"context"
	"errors"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
	"github.com/dfws/dfws/worker"
)

// canvasTasks are those that send compositions of tasks.
func (s suite) canvasTasks() {
	s.task("chain_add", func(ctx context.Context, call *worker.TaskCall, x, y celeryproto.Raw) error {
		_, err := call.Apply(ctx, canvas.Chain(sig("add", x, x), sig("add", y)))
		return err
	}, "x", "y")
	s.task("chord_add", func(ctx context.Context, call *worker.TaskCall, x, y celeryproto.Raw) error {
		_, err := call.Apply(ctx, canvas.Chord(sig("add", x, x), sig("add", y)))
		return err
	}, "x", "y")
	s.task("add_to_all_to_chord", func(ctx context.Context, call *worker.TaskCall, nums, val celeryproto.Raw) (int, error) {
		items, err := nums.Array()
		if err != nil {
			return 0, err
		}
		for _, num := range items {
			if err := call.AddToChord(ctx, sig("add", num, val)); err != nil {
				return 0, err
			}
		}
		return 0, nil
	}, "nums", "val")
	s.task("add_chord_to_chord", func(ctx context.Context, call *worker.TaskCall, nums, val celeryproto.Raw) (int, error) {
		subtasks, err := addAll(nums, val)
		if err != nil {
			return 0, err
		}
		return 0, call.AddToChord(ctx, subtasks.Then(sig("tsum")))
	}, "nums", "val")
	s.task("build_chain_inside_task", func(ctx context.Context, call *worker.TaskCall) (celeryproto.Raw, error) {
		result, err := call.Apply(ctx, canvas.Chain(
			sig("add", 1, 1), sig("add", 2), canvas.Group(sig("add", 3), sig("add", 4)), sig("add", 5)))
		if err != nil {
			return nil, err
		}
		return result.Raw(), nil
	})
}

// addAll is group(add.s(num, val) for num in nums).
func addAll(nums, val celeryproto.Raw) (*canvas.Signature, error) {
	items, err := nums.Array()
	if err != nil {
		return nil, err
	}
	tasks := make([]*canvas.Signature, len(items))
	for i, num := range items {
		tasks[i] = sig("add", num, val)
	}
	return canvas.Group(tasks...), nil
}

// replaceTasks are those that put others in their place.
func (s suite) replaceTasks() {
	s.task("add_replaced", func(_ context.Context, x, y celeryproto.Raw) error {
		return worker.Replace(sig("add", x, y))
	}, "x", "y")
	s.task("record_replaced_task_nesting", recordNesting, "replacements", "nesting")
	s.task("add_replaced_with_chain", func(_ context.Context, x, y celeryproto.Raw) error {
		return worker.Replace(canvas.Chain(sig("add", x, y), sig("identity")))
	}, "x", "y")
	s.replaceWithChain("replace_with_chain", sig("identity"), (*canvas.Signature).Link)
	s.replaceWithChain("replace_with_chain_which_raises", sig("raise_error"), (*canvas.Signature).LinkError)
	s.task("replace_with_empty_chain", func(context.Context, ...celeryproto.Raw) error { return worker.Replace(canvas.Chain()) })
	s.task("replace_with_chain_which_contains_a_group", func(context.Context) error {
		return worker.Replace(canvas.Chain(sig("add", 1, 2), canvas.Group(sig("add", 1), sig("add", 1))))
	})
	s.task("add_to_all", func(_ context.Context, nums, val celeryproto.Raw) error {
		subtasks, err := addAll(nums, val)
		if err != nil {
			return err
		}
		return worker.Replace(subtasks)
	}, "nums", "val")
	s.secondOrder("second_order_replace1", "A", func() *canvas.Signature { return sig("second_order_replace2") })
	s.secondOrder("second_order_replace2", "B", func() *canvas.Signature { return sig("redis_echo", "In/Out C") })
	taskOf(s, "replace_with_stamped_task", worker.TaskOptions{}, replaceStamped)
}

type replaceStampedArgs struct {
	ReplaceWith celeryproto.Raw `arg:"replace_with,omitempty"`
}

func replaceStamped(_ context.Context, _ *worker.TaskCall, args replaceStampedArgs) (any, error) {
	by := sig("replaced_with_me")
	if !args.ReplaceWith.IsNull() {
		var err error
		if by, err = canvas.Decode(args.ReplaceWith); err != nil {
			return nil, err
		}
	}
	return nil, worker.Replace(by.Stamp(stampOnReplace, false, nil))
}

// stampOnReplace is the visitor StampOnReplace.
var stampOnReplace = &canvas.Visitor{OnSignature: func(*canvas.Signature, celeryproto.Members) celeryproto.Members {
	return celeryproto.Members{{Key: "StampOnReplace", Value: celeryproto.AppendString(nil, "This is the replaced task")}}
}}

func recordNesting(_ context.Context, call *worker.TaskCall, replacements int, before *[]int) ([]int, error) {
	var nesting []int
	if before != nil {
		nesting = *before
	}
	nesting = append(nesting, call.Task.ReplacedTaskNesting)
	if replacements > 0 {
		by := sig("record_replaced_task_nesting", replacements-1, nesting)
		return nil, worker.Replace(by.Set("reply_to", call.Task.Properties.ReplyTo))
	}
	return nesting, nil
}

// replaceWithChain registers a task with the parameters *args and link_msg=None.
func (s suite) replaceWithChain(name string, last *canvas.Signature, link func(s, to *canvas.Signature) *canvas.Signature) {
	taskOf(s, name, worker.TaskOptions{}, func(_ context.Context, _ *worker.TaskCall, args worker.RawArgs) (any, error) {
		k := keywords{function: name, members: args.Kwargs}
		message := k.take("link_msg", nil)
		if err := k.end(); err != nil {
			return nil, err
		}
		echo := sig("redis_echo")
		if message != nil {
			echo = sig("redis_echo", message).Immutable(true)
		}
		return nil, worker.Replace(link(canvas.Chain(sig("identity", values(args.Args)...), last.Clone()), echo))
	})
}

// secondOrder registers a task that comes back after what it was replaced with.
func (s suite) secondOrder(name, letter string, inner func() *canvas.Signature) {
	s.task(name, func(ctx context.Context, state *bool) error {
		if state != nil && *state {
			return s.effects.say(ctx, echoKey, "Out "+letter)
		}
		if err := s.effects.say(ctx, echoKey, "In "+letter); err != nil {
			return err
		}
		back := sig(name).WithKwargs(map[string]any{"state": true}).Immutable(true)
		return worker.Replace(canvas.Chain(inner(), back))
	}, "state")
}

// signatureTasks are those that return signatures or look at one.
func (s suite) signatureTasks() {
	add := func() *canvas.Signature { return sig("add") }
	chain := func(c *canvas.Signature) *canvas.Signature { return canvas.Chain(c) }
	group := func(c *canvas.Signature) *canvas.Signature { return canvas.Group(c) }
	chord := func(c *canvas.Signature) *canvas.Signature { return canvas.Chord(c, add()) }
	for outerName, outer := range map[string]func(*canvas.Signature) *canvas.Signature{"chain": chain, "group": group, "chord": chord} {
		for innerName, inner := range map[string]func(*canvas.Signature) *canvas.Signature{"chain": chain, "group": group, "chord": chord} {
			s.task("return_nested_signature_"+outerName+"_"+innerName, func(context.Context) (*canvas.Signature, error) {
				nested := outer(inner(add()))
				return nested, nested.Err()
			})
		}
	}
	s.task("rebuild_signature", func(_ context.Context, dict celeryproto.Raw) error {
		built, err := canvas.Decode(dict)
		if err != nil {
			return err
		}
		return walk(built)
	}, "sig_dict")
}

var errNoBody = errors.New("a chord without a body")

// walk visits all parts of a composition.
func walk(s *canvas.Signature) error {
	if err := s.Err(); err != nil {
		return pythonError("TypeError", "%v", err)
	}
	for _, task := range s.Tasks() {
		if err := walk(task); err != nil {
			return err
		}
	}
	if s.Kind() != canvas.KindChord {
		return nil
	}
	body := s.Body()
	if body == nil {
		return errNoBody
	}
	return walk(body)
}
