package canvas

import (
	"fmt"

	"github.com/dfws/dfws/celeryproto"
)

// New is a call of a task, Python's task.s(*args). Arguments are encoded by
// celeryproto.EncodeValue.
func New(task string, args ...any) *Signature {
	raw, err := encodeArgs(args)
	s := newSignature(KindTask, task, arguments{raw: raw, tuple: true}, newDict(0), newDict(2))
	return withErr(s, err)
}

func encodeArgs(args []any) (celeryproto.Raw, error) {
	if len(args) == 0 {
		return noArgs, nil
	}
	raw, err := celeryproto.EncodeValue(args)
	if err != nil {
		return noArgs, fmt.Errorf("canvas: args: %w", err)
	}
	return raw, nil
}

// WithKwargs gives a call keyword arguments beside those it has: a map, a struct
// or whatever encodes to a JSON object.
func (s *Signature) WithKwargs(kwargs any) *Signature {
	d, err := encodeDict(kwargs)
	if err != nil {
		s.fail(fmt.Errorf("canvas: kwargs: %w", err))
		return s
	}
	s.kwargs().update(d)
	return s
}

func encodeDict(v any) (*dict, error) {
	r, err := celeryproto.EncodeValue(v)
	if err != nil {
		return nil, err
	}
	if r.Kind() != celeryproto.KindObject {
		return nil, fmt.Errorf("expected object, got %s", r.Kind())
	}
	return &dict{raw: r}, nil
}

// Set sets an execution option of Python's apply_async: queue, countdown, eta,
// expires, priority, time_limit, retries, headers, … (a time.Time becomes a
// datetime; times in countdown and the like are in seconds).
func (s *Signature) Set(option string, v any) *Signature {
	if option == keyImmutable {
		b, isBool := v.(bool)
		if !isBool {
			s.fail(fmt.Errorf("canvas: option immutable: %T is no bool", v))
			return s
		}
		return s.Immutable(b)
	}
	r, err := celeryproto.EncodeValue(v)
	if err != nil {
		s.fail(fmt.Errorf("canvas: option %s: %w", option, err))
		return s
	}
	s.options().set(option, r)
	return s
}

// Immutable says whether results of earlier tasks are kept out of the arguments
// (Python's si). For a group and a chord's header it is said of their tasks.
func (s *Signature) Immutable(immutable bool) *Signature {
	if s.kind == KindGroup || s.kind == KindChord {
		tasks := s.members()
		for i := range tasks.items {
			tasks.signature(i).Immutable(immutable)
		}
		return s
	}
	s.setImmutable(immutable)
	return s
}

func (s *Signature) setImmutable(immutable bool) {
	if immutable {
		s.d.set(keyImmutable, rawTrue)
	} else {
		s.d.set(keyImmutable, rawFalse)
	}
}

// Clone is a copy whose options can be changed alone. As in Python, arguments
// are shared, and the members of a group are the same signatures.
func (s *Signature) Clone() *Signature { return s.clone() }

// Partial is a copy with arguments in front of its own, Python's clone(args).
func (s *Signature) Partial(args ...any) *Signature {
	raw, err := encodeArgs(args)
	return withErr(s.cloneWith(arguments{raw: raw, tuple: true}, nil, nil), err)
}

// Chain runs tasks one after the other, each with the result of the one before
// it (Python's chain(*tasks)). Chains in it are taken apart; a group that a task
// follows becomes a chord. What comes out need not be a chain.
func Chain(tasks ...*Signature) *Signature {
	if len(tasks) == 0 {
		return newChain(&list{tuple: true}, newDict(0))
	}
	if len(tasks) == 1 {
		return newChain(&list{items: []value{tasks[0]}, tuple: true}, newDict(2))
	}
	j := joiner{}
	return withErr(j.fold(tasks), j.err)
}

// Group runs tasks side by side (Python's group(*tasks)).
func Group(tasks ...*Signature) *Signature {
	items := make([]value, len(tasks))
	for i, task := range tasks {
		items[i] = task
	}
	if len(tasks) != 1 {
		return newGroup(&list{items: items, tuple: true}, newDict(2))
	}
	if tasks[0].kind == KindGroup {
		return newGroup(tasks[0].members(), newDict(2))
	}
	return newGroup(&list{items: []value{tasks[0].clone()}}, newDict(2))
}

// Chord runs the tasks of the header side by side, and the body with the list of
// their results (Python's chord(header, body)). The header is a group, a chain
// whose tasks are taken, or a single task; body nil is to be set later.
func Chord(header, body *Signature) *Signature {
	var b value = none
	if body != nil {
		b = body
	}
	return newChord(header, b, arguments{raw: noArgs, tuple: true}, newDict(3), newDict(2))
}

// Map is one task that calls another one with each element of the list.
func Map(task *Signature, elements any) *Signature { return newMapOf(KindMap, task, elements, nil) }

// Starmap is Map where each element is a list of arguments.
func Starmap(task *Signature, elements any) *Signature {
	return newMapOf(KindStarmap, task, elements, nil)
}

// Chunks is a group of Starmaps with n elements each. As in Python it is that
// when it is applied; inside of another composition it is one call of
// celery.chunks, which a worker takes apart.
func Chunks(task *Signature, elements any, n int) *Signature {
	return newMapOf(KindChunks, task, elements, celeryproto.Raw(fmt.Sprint(n)))
}

func newMapOf(kind Kind, task *Signature, elements any, n value) *Signature {
	it, err := celeryproto.EncodeValue(elements)
	if err == nil && it.Kind() != celeryproto.KindArray {
		err = fmt.Errorf("expected array, got %s", it.Kind())
	}
	if err != nil {
		it, err = noArgs, fmt.Errorf("canvas: elements: %w", err)
	}
	return withErr(newMap(kind, task, it, n, newDict(2)), err)
}

// Skew spreads the start of a group's tasks over time: the first starts after
// start seconds, each further one step seconds later, until stop (0: no end).
func (s *Signature) Skew(start, stop, step float64) *Signature {
	tasks := s.members()
	seconds := start
	for i := range tasks.items {
		if stop != 0 && seconds > stop {
			seconds -= step
		}
		tasks.signature(i).options().set(optCountdown, celeryproto.Raw(celeryproto.AppendFloat(nil, seconds)))
		seconds += step
	}
	return s
}
