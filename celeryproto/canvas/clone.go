package canvas

import (
	"bytes"

	"github.com/dfws/dfws/celeryproto"
)

// immutableOption tells whether a signature keeps an option whatever it is called
// with (celery 5.7, canvas.py, Signature._IMMUTABLE_OPTIONS).
func immutableOption(key string) bool { return key == optGroupID || key == optStampedHeaders }

// merge is Signature._merge: what a call of s with further arguments and options
// is made of. options nil is None.
func (s *Signature) merge(args arguments, kwargs, options *dict, force bool) (arguments, *dict, *dict) {
	own := s.options()
	merged := own
	if options != nil {
		merged = own.copy(options.len())
		stamps := stampNames(own)
		for _, e := range options.entries {
			if (immutableOption(e.key) || stamps[e.key]) && own.has(e.key) {
				continue
			}
			merged.set(e.key, e.val)
		}
	}
	if s.IsImmutable() && !force {
		return s.args(), s.kwargs(), merged
	}
	callArgs, callKwargs := s.args(), s.kwargs()
	if !args.empty() {
		callArgs = args.concat(callArgs)
	}
	if kwargs != nil && kwargs.len() > 0 {
		callKwargs = callKwargs.merged(kwargs)
	}
	return callArgs, callKwargs, merged
}

// stampNames are the names in the option stamped_headers.
func stampNames(options *dict) map[string]bool {
	if !options.has(optStampedHeaders) {
		return nil
	}
	names := map[string]bool{}
	for _, v := range links(options, optStampedHeaders).items {
		if name, ok := textOf(v); ok {
			names[name] = true
		}
	}
	return names
}

func (a arguments) empty() bool { return len(a.raw) == 0 || isEmptyContainer(a.raw) }

// concat is tuple(a) + tuple(b).
func (a arguments) concat(b arguments) arguments {
	if a.empty() {
		return arguments{raw: b.raw, tuple: true}
	}
	if b.empty() {
		return arguments{raw: a.raw, tuple: true}
	}
	left, right := inside(a.raw), inside(b.raw)
	raw := make(celeryproto.Raw, 0, len(left)+len(right)+len("[, ]"))
	raw = append(append(raw, '['), left...)
	raw = append(append(raw, ", "...), right...)
	return arguments{raw: append(raw, ']'), tuple: true}
}

// inside is what stands between the brackets of an array.
func inside(array celeryproto.Raw) []byte {
	array = bytes.Trim(array, " \t\r\n")
	return array[1 : len(array)-1]
}

// clone is Signature.clone() without further arguments.
func (s *Signature) clone() *Signature { return s.cloneWith(arguments{}, nil, nil) }

// cloneWith is Signature.clone, that of chains and chords included.
func (s *Signature) cloneWith(args arguments, kwargs, options *dict) *Signature {
	callArgs, callKwargs, opts := s.args(), s.kwargs(), s.options()
	if !args.empty() || kwargs != nil && kwargs.len() > 0 || options != nil && options.len() > 0 {
		if options == nil {
			options = newDict(0)
		}
		callArgs, callKwargs, opts = s.merge(args, kwargs, options, false)
	}
	if callKwargs == s.kwargs() {
		callKwargs = callKwargs.shallow()
	}
	d := newDict(6)
	d.set(keyTask, orNone(s.d.get(keyTask)))
	d.set(keyArgs, arguments{raw: callArgs.raw, tuple: true})
	d.set(keyKwargs, callKwargs)
	d.set(keyOptions, deepcopy(opts, nil))
	d.set(keySubtaskType, orNone(s.d.get(keySubtaskType)))
	d.set(keyImmutable, orNone(s.d.get(keyImmutable)))
	c := fromDict(d)
	switch c.kind {
	case KindChain:
		tasks := c.members()
		cloned := &list{items: make([]value, len(tasks.items))}
		for i := range cloned.items {
			cloned.items[i] = tasks.cloned(i)
		}
		c.setTasks(cloned)
	case KindChord:
		if body := c.body(); body != nil {
			c.setBody(body.clone())
		}
	}
	return withErr(c, s.err)
}

// cloned is maybe_signature(l[i], clone=True): a signature is cloned, a dict made one.
func (l *list) cloned(i int) *Signature {
	sig := l.signature(i)
	if l.items[i] == value(sig) {
		return sig.clone()
	}
	return sig
}

// shallow is a copy of a dict that is still closed, if it can be.
func (d *dict) shallow() *dict {
	if d.raw != nil {
		return &dict{raw: d.raw}
	}
	return d.copy(0)
}

// copied keeps what one deepcopy has copied already, by reference.
type copied map[value]value

// deepcopy is Python's copy.deepcopy. A signature becomes a dict that shares
// arguments and members with it (Signature.__deepcopy__).
func deepcopy(v value, done *copied) value {
	switch v := v.(type) {
	case *list:
		return copyOnce(v, done, func(done *copied) value { return v.deepcopy(done) })
	case *dict:
		if v.raw != nil || v.flat() {
			return v.shallow() // nothing in it is shared
		}
		return copyOnce(v, done, func(done *copied) value { return v.deepcopy(done) })
	case *Signature:
		return copyOnce(v, done, func(done *copied) value {
			c := v.d.copy(0)
			(*done)[v] = c
			c.err = v.err
			c.set(keyOptions, deepcopy(v.options(), done))
			return c
		})
	default:
		return v
	}
}

func copyOnce(v value, done *copied, copy func(*copied) value) value {
	if done == nil {
		done = &copied{}
	}
	if c, ok := (*done)[v]; ok {
		return c
	}
	return copy(done)
}

func (l *list) deepcopy(done *copied) *list {
	c := &list{items: make([]value, len(l.items), len(l.items)+1), tuple: l.tuple}
	(*done)[l] = c
	for i, item := range l.items {
		c.items[i] = deepcopy(item, done)
	}
	return c
}

func (d *dict) deepcopy(done *copied) *dict {
	c := d.copy(1)
	(*done)[d] = c
	for i := range c.entries {
		c.entries[i].val = deepcopy(c.entries[i].val, done)
	}
	return c
}

// flat tells whether no value of d can be changed.
func (d *dict) flat() bool {
	for _, e := range d.entries {
		switch e.val.(type) {
		case *list, *dict, *Signature:
			return false
		}
	}
	return true
}
