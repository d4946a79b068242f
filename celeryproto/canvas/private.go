package canvas

// private is a copy of a signature that shares nothing which can be changed, with
// the same sharing inside. It reads only.
func private(s *Signature, depth int) (*Signature, error) {
	c := copier{done: map[value]value{}, depth: depth * levelsPerSignature}
	v := c.copy(s)
	if c.err != nil {
		return nil, c.err
	}
	return v.(*Signature), nil
}

// levelsPerSignature is how many objects lie in one another for each signature
// in a signature: its dict, its kwargs or options, and the list there.
const levelsPerSignature = 4

func checkNesting(s *Signature, depth int) error {
	c := copier{done: map[value]value{}, depth: depth * levelsPerSignature}
	c.copy(s)
	return c.err
}

type copier struct {
	done  map[value]value
	depth int
	err   error
}

func (c *copier) copy(v value) value {
	switch v.(type) {
	case *list, *dict, *Signature:
	default:
		return v
	}
	if known, ok := c.done[v]; ok {
		return known
	}
	if c.depth == 0 || c.err != nil {
		c.err = ErrTooDeep
		return v
	}
	c.depth--
	defer func() { c.depth++ }()
	switch v := v.(type) {
	case *list:
		l := &list{items: make([]value, len(v.items)), tuple: v.tuple}
		c.done[v] = l
		for i, item := range v.items {
			l.items[i] = c.copy(item)
		}
		return l
	case *dict:
		d := &dict{raw: v.raw, err: v.err}
		c.done[v] = d
		if v.raw == nil {
			d.entries = make([]entry, 0, len(v.entries)+1)
			for _, e := range v.entries {
				d.set(e.key, c.copy(e.val))
			}
		}
		return d
	default:
		sig := v.(*Signature)
		own := &Signature{kind: sig.kind, useLink: sig.useLink, err: sig.err}
		c.done[v] = own
		own.d = c.copy(sig.d).(*dict)
		return own
	}
}
