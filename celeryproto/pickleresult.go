package celeryproto

import (
	"bytes"
	"errors"
	"slices"

	"github.com/dfws/dfws/celeryproto/internal/pickle"
)

// exceptionStates are those whose result is an exception (celery 5.7, states.py,
// EXCEPTION_STATES).
var exceptionStates = []string{StatusRetry, StatusFailure, StatusRevoked}

func isExceptionState(v any) bool {
	s, ok := v.(string)
	return ok && slices.Contains(exceptionStates, s)
}

// wrapperClass stands for an exception whose class cannot be pickled: its
// arguments are module, name and arguments of that one (celery 5.7,
// utils/serialization.py).
var wrapperClass = pickle.Global{Module: "celery.utils.serialization", Name: "UnpickleableExceptionWrapper"}

// chordPartFields are those of a stored chord part: a constant, the task's ID,
// its state and its result (celery 5.7, backends/redis.py, on_chord_part_return).
const chordPartFields = 4

// result writes a result meta, or a chord part, that may hold an exception.
func (d *pickleReader) result(v any) error {
	switch v := v.(type) {
	case *pickle.Dict:
		failed := false
		for _, entry := range v.Entries {
			failed = failed || entry.Key == any(keyStatus) && isExceptionState(entry.Value)
		}
		return d.dictWith(v, v.Entries, func(key string, member any) error {
			if failed && key == keyResult {
				return d.exception(member)
			}
			return d.value(member)
		})
	case *pickle.List:
		if len(v.Items) != chordPartFields || !isExceptionState(v.Items[2]) {
			return d.value(v)
		}
		if err := d.out.enter('['); err != nil {
			return err
		}
		for i, item := range v.Items {
			d.out.comma(i)
			write := d.value
			if i == chordPartFields-1 {
				write = d.exception
			}
			if err := write(item); err != nil {
				return err
			}
		}
		d.out.leave(']')
		return nil
	default:
		return d.value(v)
	}
}

// exception writes the result of a failed task: an exception, or whatever else
// Python takes for one.
func (d *pickleReader) exception(v any) error {
	o, isObject := v.(*pickle.Object)
	if !isObject || plainCallOf(calledName(o)) != nil {
		return d.value(v)
	}
	class, isGlobal := o.Func.(pickle.Global)
	if !isGlobal || o.Kwargs != nil || len(o.Items) > 0 || len(o.Entries) > 0 {
		return errConstruct(o)
	}
	class = canonical(class)
	args := o.Args
	if class == wrapperClass {
		var ok bool
		if class, args, ok = unwrapException(args); !ok {
			return errConstruct(o)
		}
	}
	d.walk(o) // its attributes are not told, as with the other serializers
	e := Exception{Type: class.Name, Module: class.Module}
	for _, arg := range args {
		text, err := d.exceptionArg(arg)
		if err != nil {
			return err
		}
		e.Message = append(e.Message, text)
	}
	r, err := e.Raw()
	if err != nil {
		return errorFact(err)
	}
	d.out.dst = append(d.out.dst, r...)
	return d.out.fits()
}

func unwrapException(args []any) (class pickle.Global, inner []any, ok bool) {
	if len(args) < 3 {
		return class, nil, false
	}
	module, ok1 := args[0].(string)
	name, ok2 := args[1].(string)
	tuple, ok3 := args[2].(*pickle.Tuple)
	if !ok1 || !ok2 || !ok3 {
		return class, nil, false
	}
	return pickle.Global{Module: module, Name: name}, tuple.Items, true
}

// exceptionArg is an argument of an exception as JSON; what has none is
// described, as prepare_exception does with its repr.
func (d *pickleReader) exceptionArg(v any) (Raw, error) {
	written, err := d.out.aside(func() error { return d.value(v) })
	if _, opaque := errors.AsType[*UnsupportedError](err); opaque {
		written, err = d.out.aside(func() error { return d.out.scalar(describe(v)) })
	}
	return bytes.Clone(written), err
}

// describe is like the repr of an object: the name of its class, and its
// arguments when they are plain.
func describe(v any) string {
	switch v := v.(type) {
	case pickle.Global:
		return "<class '" + shorten(canonical(v).String()) + "'>"
	case *pickle.Object:
		out := "("
		for i, arg := range v.Args {
			if i > 0 {
				out += ", "
			}
			if len(out) > reprMaxChars {
				out += "…"
				break
			}
			out += describeScalar(arg)
		}
		return shorten(className(v).Name) + out + ")"
	default:
		return "<object>"
	}
}

func describeScalar(v any) string {
	switch v := v.(type) {
	case string:
		if len(v) > reprMaxChars {
			return "…"
		}
	case nil, bool, int64, float64:
	default:
		return "…"
	}
	r, err := EncodeValue(v)
	if err != nil {
		return "…"
	}
	return Repr(r)
}
