package gocelery

import (
	"context"
	"fmt"
	"reflect"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/worker"
)

var errorType = reflect.TypeFor[error]()

// function is a registered function. Its arguments are the positional ones of the task.
type function struct {
	fn    reflect.Value
	in    []reflect.Type // of the parameters, without a variadic one
	rest  reflect.Type   // of the arguments for a variadic parameter; nil when there is none
	value bool           // its first result is the task's
}

// newFunction refuses what no call could succeed with.
func newFunction(task any) (*function, error) {
	fn := reflect.ValueOf(task)
	if task == nil || fn.Kind() != reflect.Func || fn.IsNil() {
		return nil, fmt.Errorf("a %T, want a function or a CeleryTask", task)
	}
	t := fn.Type()
	f := &function{fn: fn, value: t.NumOut() > 0 && t.Out(0) != errorType}
	for i := range t.NumIn() {
		in := t.In(i)
		if t.IsVariadic() && i == t.NumIn()-1 {
			f.rest = in.Elem()
			in = f.rest
		} else {
			f.in = append(f.in, in)
		}
		if !takesJSON(in) {
			return nil, fmt.Errorf("parameter %d of %s is a %s, which no message contains: see worker.HandleFunc", i+1, t, in)
		}
	}
	return f, nil
}

// takesJSON refuses types at a glance; what is inside of them shows in a call.
func takesJSON(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Complex64, reflect.Complex128:
		return false
	case reflect.Interface:
		return t.NumMethod() == 0
	default:
		return true
	}
}

func (f *function) run(_ context.Context, call *worker.TaskCall, args worker.RawArgs) (any, error) {
	in, err := f.arguments(args.Args, len(args.Kwargs))
	if err != nil {
		return nil, err
	}
	if n := len(args.Kwargs); n > 0 {
		call.Logger().Warn("keyword arguments ignored: a function takes positional arguments", "arguments", n)
	}
	return f.results(f.fn.Call(in))
}

// arguments converts positional arguments. named is the number of those that have no place here.
func (f *function) arguments(raws []celeryproto.Raw, named int) ([]reflect.Value, error) {
	if n, want := len(raws), len(f.in); n < want || n > want && f.rest == nil {
		also := ""
		if named > 0 {
			also = fmt.Sprintf(" and %d keyword arguments, which are for a CeleryTask", named)
		}
		return nil, misfit("%d positional arguments%s, want %d", n, also, want)
	}
	in := make([]reflect.Value, len(raws))
	for i, raw := range raws {
		t := f.rest
		if i < len(f.in) {
			t = f.in[i]
		}
		v, err := argument(raw, t)
		if err != nil {
			return nil, misfit("argument %d: %v", i+1, err)
		}
		in[i] = v
	}
	return in, nil
}

// results is the task's result: what the function returned first, unless it returned an error.
func (f *function) results(out []reflect.Value) (any, error) {
	for _, v := range out {
		if v.Type() != errorType {
			continue
		}
		if err, _ := v.Interface().(error); err != nil {
			return nil, err
		}
	}
	if !f.value {
		return nil, nil
	}
	return result(plain(out[0]))
}

// plain is gocelery's GetRealValue: a named number, text or boolean as what it is made of, whatever methods it has. Pointers,
// structs and interfaces, of which gocelery makes null, are left to encoding/json.
func plain(v reflect.Value) any {
	switch {
	case v.CanInt():
		return v.Int()
	case v.CanUint():
		return v.Uint()
	case v.CanFloat():
		return v.Float()
	case v.Kind() == reflect.String:
		return v.String()
	case v.Kind() == reflect.Bool:
		return v.Bool()
	default:
		return v.Interface()
	}
}

// result is a result as encoding/json writes it.
func result(v any) (any, error) {
	raw, err := encode(v)
	if err != nil {
		return nil, &worker.Exception{Type: "EncodeError", Module: "kombu.exceptions", Args: []any{err.Error()}}
	}
	return raw, nil
}

// misfit is the failure of a task whose arguments do not fit: what Python raises for them.
func misfit(format string, args ...any) error {
	return &worker.Exception{Type: "TypeError", Args: []any{fmt.Sprintf(format, args...)}}
}
