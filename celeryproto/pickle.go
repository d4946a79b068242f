package celeryproto

import (
	"cmp"
	"errors"

	"github.com/dfws/dfws/celeryproto/internal/pickle"
)

// readPickle reads a pickle of plain data. Nothing that a pickle names is
// imported or called: what is neither plain nor in plainCallOf is refused with
// an *UnsupportedError that has its name. A tuple, a set and a frozenset become
// arrays, a signature (celery.canvas) the dict that it is, a dict of int keys
// the object that json.dumps writes.
func readPickle(data []byte, lim Limits) (Raw, error) {
	return unpickle(data, lim, false)
}

// unpickle reads a pickle. With exceptions, a result meta or a chord part may
// have an exception as its result, which becomes the object that the other
// serializers store (celery 5.7, backends/base.py, prepare_exception).
func unpickle(data []byte, lim Limits, exceptions bool) (Raw, error) {
	if exceptions {
		return unpickleAs(data, lim, nil, (*pickleReader).result)
	}
	return unpickleAs(data, lim, allowedGlobal, (*pickleReader).value)
}

// unpickleAs is unpickle for a value that write knows how to write; global says
// which names may occur, nil any.
func unpickleAs(data []byte, lim Limits, global func(pickle.Global) error, write func(*pickleReader, any) error) (Raw, error) {
	d := &pickleReader{out: newBuilder(lim, len(data)), used: map[*pickle.Object]bool{}, active: map[any]bool{}}
	limits := pickle.Limits{MaxValues: lim.MaxValues, MaxIntBytes: lim.JSON.withDefaults().maxIntBytes(), Global: global}
	p, err := pickle.Read(data, limits)
	if err != nil {
		return nil, pickleFault(err)
	}
	if err := write(d, p.Value); err != nil {
		return nil, err
	}
	// What was made and thrown away would have been made all the same.
	for _, o := range p.Objects {
		if !d.used[o] {
			return nil, errConstruct(o)
		}
	}
	return d.out.dst, nil
}

// maxIntBytes is how many bytes an integer of MaxIntDigits has, 0 for no limit.
func (l JSONLimits) maxIntBytes() int {
	if l.MaxIntDigits < 0 {
		return 0
	}
	return l.MaxIntDigits/2 + 8
}

func pickleFault(err error) error {
	switch {
	case errors.Is(err, pickle.ErrTooMany):
		return ErrTooMany
	case errors.Is(err, pickle.ErrIntTooLong):
		return ErrIntTooLong
	}
	if syntax, ok := errors.AsType[*pickle.SyntaxError](err); ok {
		return &DecodeError{Part: PartContent, Offset: int64(syntax.Offset), Err: errors.New("pickle: " + syntax.Msg)}
	}
	return err
}

// errConstruct refuses what Python would have constructed.
func errConstruct(v any) error {
	var name pickle.Global
	switch v := v.(type) {
	case pickle.Global:
		name = v
	case *pickle.Object:
		name = className(v)
	}
	return &UnsupportedError{What: whatPickle, Name: shorten(canonical(name).String())}
}

// className is the class of an object, also of one that is not made by calling it.
func className(o *pickle.Object) pickle.Global {
	call, name := o.Bottom()
	name = canonical(name)
	switch name.String() {
	case "copyreg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__", "builtins.getattr":
		if len(call.Args) > 0 {
			if class, ok := call.Args[0].(pickle.Global); ok {
				return canonical(class)
			}
		}
	}
	return name
}

// canonical gives a global of Python 2 the name that Python 3 has for it
// (CPython 3.11, Lib/_compat_pickle.py), as pickles of protocols 0 to 2 need.
func canonical(g pickle.Global) pickle.Global {
	switch g.Module {
	case "__builtin__", "exceptions":
		g.Module = "builtins"
	case "copy_reg":
		g.Module = "copyreg"
	}
	if g.Module == "builtins" {
		switch g.Name {
		case "unicode":
			g.Name = "str"
		case "long":
			g.Name = "int"
		}
	}
	return g
}

// pickleReader writes what a pickle holds as JSON.
type pickleReader struct {
	out    *builder
	used   map[*pickle.Object]bool // objects that had a meaning
	active map[any]bool            // what is being written, to find cycles
	fault  error                   // of the argument of a call, which says more than that of the call
}

// value writes a value.
func (d *pickleReader) value(v any) error {
	if o, isObject := v.(*pickle.Object); isObject {
		if err := d.begin(o); err != nil {
			return err
		}
		defer d.done(o)
		plain, err := d.plain(o)
		if err != nil {
			return err
		}
		return d.value(plain)
	}
	switch v := v.(type) {
	case *pickle.List:
		return d.list(v, v.Items)
	case *pickle.Tuple:
		return d.list(v, v.Items)
	case *pickle.Set:
		return d.set(v)
	case *pickle.Dict:
		return d.dict(v, v.Entries)
	case *pickle.ByteArray:
		return d.out.scalar(v.Bytes)
	case pickle.Global:
		return errConstruct(v)
	case pickleDelta:
		return &UnsupportedError{What: whatPickle, Name: "datetime.timedelta"}
	case pickleZone:
		return &UnsupportedError{What: whatPickle, Name: "datetime.timezone"}
	default:
		return d.out.scalar(v)
	}
}

// errCycle refuses what contains itself, as json.dumps does.
var errCycle = &UnsupportedError{What: "value", Name: "that contains itself"}

// begin remembers that a value is being written. The nesting of objects counts
// as that of lists does.
func (d *pickleReader) begin(id any) error {
	if d.active[id] {
		return errCycle
	}
	if len(d.active) > 2*d.out.lim.JSON.MaxDepth {
		return ErrTooDeep
	}
	d.active[id] = true
	return nil
}

func (d *pickleReader) done(id any) { delete(d.active, id) }

func (d *pickleReader) list(id any, items []any) error {
	if err := d.begin(id); err != nil {
		return err
	}
	defer d.done(id)
	if err := d.out.enter('['); err != nil {
		return err
	}
	for i, item := range items {
		d.out.comma(i)
		if err := d.value(item); err != nil {
			return err
		}
	}
	d.out.leave(']')
	return nil
}

// set writes a set as an array; kombu's JSON has none.
func (d *pickleReader) set(v *pickle.Set) error {
	for _, item := range v.Items {
		inner, isSet := item.(*pickle.Set)
		switch item.(type) {
		case *pickle.List, *pickle.Dict, *pickle.ByteArray:
			isSet = true
		}
		if isSet && (inner == nil || !inner.Frozen) {
			return errors.New("pickle: unhashable element of a set")
		}
	}
	return d.list(v, v.Items)
}

func (d *pickleReader) dict(id any, entries []pickle.Entry) error {
	return d.dictWith(id, entries, func(_ string, v any) error { return d.value(v) })
}

// dictWith writes a dict, each value by a function that gets its key.
func (d *pickleReader) dictWith(id any, entries []pickle.Entry, value func(key string, v any) error) error {
	if err := d.begin(id); err != nil {
		return err
	}
	defer d.done(id)
	if err := d.out.enter('{'); err != nil {
		return err
	}
	var o object
	keys, values := uniqueKeys(len(entries), func(i int) any { return entries[i].Key })
	d.out.spent += int64(len(entries) - len(keys)) // looked at and not shown, each time that the dict is referred to
	for i := range keys {
		key, err := d.key(entries[keys[i]].Key)
		if err == nil {
			err = d.out.key(&o, key)
		}
		if err == nil {
			err = value(key, entries[values[i]].Value)
		}
		if err != nil {
			return err
		}
	}
	return d.out.end(&o)
}

// key is a key of a dict as json.dumps writes it.
func (d *pickleReader) key(v any) (string, error) {
	var name string
	switch v := v.(type) {
	case *pickle.Tuple:
		name = "tuple"
	case *pickle.Set:
		name = "frozenset"
	case pickle.Global:
		name = canonical(v).String()
	case *pickle.Object:
		plain, ok := d.arg(v)
		if !ok {
			return "", cmp.Or(d.fault, errConstruct(v))
		}
		return keyText(plain)
	default:
		return keyText(v)
	}
	return "", &UnsupportedError{What: "dict key of type", Name: shorten(name)}
}

// calledName is what is called directly, nothing when that is no global.
func calledName(o *pickle.Object) pickle.Global {
	name, _ := o.Func.(pickle.Global)
	return name
}

// plain is the plain value that an object stands for.
func (d *pickleReader) plain(o *pickle.Object) (any, error) {
	call := plainCallOf(calledName(o))
	if _, direct := o.Func.(pickle.Global); !direct {
		call = callZoneInfo // the only one that is not called by its own name
	}
	if call == nil || o.Kwargs != nil || o.New && isFunction(o) {
		return nil, errConstruct(o)
	}
	v, ok := call(d, o)
	if !ok {
		fault := cmp.Or(d.fault, errConstruct(o))
		d.fault = nil
		return nil, fault
	}
	d.used[o] = true
	return v, nil
}

// walk marks the objects inside of a value as seen, without writing them.
func (d *pickleReader) walk(v any) {
	seen := map[any]bool{}
	for todo := []any{v}; len(todo) > 0; {
		v := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		switch v.(type) {
		case *pickle.List, *pickle.Tuple, *pickle.Set, *pickle.Dict, *pickle.Object:
			if seen[v] {
				continue
			}
			seen[v] = true
		}
		var entries []pickle.Entry
		switch v := v.(type) {
		case *pickle.List:
			todo = append(todo, v.Items...)
		case *pickle.Tuple:
			todo = append(todo, v.Items...)
		case *pickle.Set:
			todo = append(todo, v.Items...)
		case *pickle.Dict:
			entries = v.Entries
		case *pickle.Object:
			d.used[v] = true
			todo = append(append(append(todo, v.Args...), v.Items...), v.Func, v.Kwargs, v.State)
			entries = v.Entries
		}
		for _, entry := range entries {
			todo = append(todo, entry.Key, entry.Value)
		}
	}
}

// allowedGlobal refuses the names that stand for no plain data.
func allowedGlobal(g pickle.Global) error {
	if plainCallOf(g) == nil && !isArgument(g) {
		return errConstruct(g)
	}
	return nil
}
