package worker

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/dfws/dfws/celeryproto"
)

// RawArgs, as the arguments of a [Task], are the arguments as they came, not looked at.
type RawArgs struct {
	Args   []celeryproto.Raw   // positional
	Kwargs celeryproto.Members // by name, in their order
}

// Func is a handler of a plain Celery task, registered by [HandleFunc], whose parameters are the task's arguments.
type Func struct {
	// Name, Queue and Options are those of a [Task].
	Name    string
	Queue   string
	Options TaskOptions
	// Params are the names of Run's parameters, for callers that give arguments by name. Empty: positional arguments only.
	Params []string
	// Run is a function: func(context.Context, [*TaskCall,] arguments…) ([result,] error). Arguments are converted as the
	// fields of a struct are, see the package comment. Trailing parameters that are pointers may be missing: they are nil then. A
	// variadic one takes all that are left.
	Run any
}

// HandleFunc registers a function as the handler of a task. Mistakes in f are reported together by Run.
func HandleFunc(w *Worker, f Func) {
	p, err := newParams(f)
	if err != nil {
		w.fault(fmt.Errorf("task %q: %w", f.Name, err))
		return
	}
	w.addTask(&taskHandler{
		task: f.Name, queue: f.Queue, name: funcName(f.Run), options: f.Options, params: f.Params,
		run: func(ctx context.Context, call *TaskCall) (any, error) {
			in, err := p.bind(ctx, call)
			if err != nil {
				return nil, bindFailure{err}
			}
			return p.results(p.fn.Call(in))
		},
	})
}

// params is what is known of a function before any call.
type params struct {
	fn       reflect.Value
	takeCall bool // the second parameter is a *TaskCall
	fields   []planField
	rest     *planField // the variadic parameter, one element
	byName   map[string]int
	hasValue bool // returns more than an error
}

var (
	contextType = reflect.TypeFor[context.Context]()
	errorType   = reflect.TypeFor[error]()
	callType    = reflect.TypeFor[*TaskCall]()
)

func newParams(f Func) (*params, error) {
	fn := reflect.ValueOf(f.Run)
	if f.Run == nil || fn.Kind() != reflect.Func || fn.IsNil() {
		return nil, errors.New("its Run is no function")
	}
	t := fn.Type()
	if t.NumIn() == 0 || t.In(0) != contextType {
		return nil, fmt.Errorf("its Run is a %s, want a context.Context first", t)
	}
	if n := t.NumOut(); n == 0 || n > 2 || t.Out(n-1) != errorType {
		return nil, fmt.Errorf("its Run is a %s, want it to return an error, or a value and an error", t)
	}
	p := &params{fn: fn, hasValue: t.NumOut() == 2, byName: map[string]int{}}
	first := 1
	if t.NumIn() > 1 && t.In(1) == callType {
		p.takeCall, first = true, 2
	}
	for i := first; i < t.NumIn(); i++ {
		typ := t.In(i)
		if t.IsVariadic() && i == t.NumIn()-1 {
			typ = typ.Elem()
			p.rest = &planField{name: fmt.Sprint(i - first), typ: typ, scalar: isScalar(typ)}
			break
		}
		p.fields = append(p.fields, planField{
			name: fmt.Sprint(i - first), typ: typ, scalar: isScalar(typ), required: typ.Kind() != reflect.Pointer,
		})
	}
	return p, p.setNames(f.Params)
}

func (p *params) setNames(names []string) error {
	if len(names) == 0 {
		return nil
	}
	if len(names) != len(p.fields) {
		return fmt.Errorf("%d names in Params for %d parameters: %s", len(names), len(p.fields), strings.Join(names, ", "))
	}
	for i, name := range names {
		if _, twice := p.byName[name]; twice || name == "" {
			return fmt.Errorf("name %q in Params is empty or there twice", name)
		}
		p.byName[name] = i
		p.fields[i].name = name
	}
	return nil
}

// bind makes the arguments of the call. All faults are reported together.
func (p *params) bind(ctx context.Context, call *TaskCall) ([]reflect.Value, error) {
	positional, named, err := argumentsOf(call.Task)
	if err != nil {
		return nil, err
	}
	in := []reflect.Value{reflect.ValueOf(ctx)}
	if p.takeCall {
		in = append(in, reflect.ValueOf(call))
	}
	values, err := p.assign(positional, named)
	if err != nil {
		return nil, err
	}
	var faults faultList
	for i := range p.fields {
		f := &p.fields[i]
		v := reflect.New(f.typ).Elem()
		switch {
		case values[i] != nil:
			faults.add(f.set(v, values[i]))
		case f.required:
			faults.add(&BindError{Argument: f.name, Fact: "missing"})
		}
		in = append(in, v)
	}
	for _, raw := range positional[min(len(positional), len(p.fields)):] {
		v := reflect.New(p.rest.typ).Elem()
		faults.add(p.rest.set(v, raw))
		in = append(in, v)
	}
	return in, faults.join()
}

// assign finds the value of each parameter; nil where there is none.
func (p *params) assign(positional []celeryproto.Raw, named celeryproto.Members) ([]celeryproto.Raw, error) {
	if len(positional) > len(p.fields) && p.rest == nil {
		return nil, &BindError{Fact: fmt.Sprintf("%d positional arguments, want at most %d", len(positional), len(p.fields))}
	}
	values := make([]celeryproto.Raw, len(p.fields))
	copy(values, positional)
	var faults faultList
	for _, m := range named {
		i, known := p.byName[m.Key]
		switch {
		case !known:
			faults.add(&BindError{Argument: m.Key, Fact: "unknown argument"})
		case i < len(positional):
			faults.add(&BindError{Argument: m.Key, Fact: "given by position and by name"})
		default:
			values[i] = m.Value
		}
	}
	return values, faults.join()
}

func (p *params) results(out []reflect.Value) (any, error) {
	err, _ := out[len(out)-1].Interface().(error)
	if !p.hasValue {
		return nil, err
	}
	return out[0].Interface(), err
}

// argumentsOf takes a task's arguments apart.
func argumentsOf(t *celeryproto.Task) (positional []celeryproto.Raw, named celeryproto.Members, err error) {
	if len(t.Args) > 0 {
		if positional, err = t.Args.Array(); err != nil {
			return nil, nil, &BindError{Fact: "positional arguments are not a list"}
		}
	}
	if len(t.Kwargs) > 0 {
		if named, err = t.Kwargs.Object(); err != nil {
			return nil, nil, &BindError{Fact: "keyword arguments are not an object"}
		}
	}
	return positional, named, nil
}
