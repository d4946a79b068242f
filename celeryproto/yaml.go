package celeryproto

import (
	"errors"
	"slices"

	"github.com/dfws/dfws/celeryproto/internal/pyyaml"
)

// readYAML reads YAML as kombu does, with yaml.safe_load: YAML 1.1 in PyYAML's
// reading. A timestamp becomes a datetime or date, !!binary bytes, !!set and
// !!omap arrays. What has another tag, !!python/… above all, is refused with an
// *UnsupportedError that names it.
func readYAML(data []byte, lim Limits) (Raw, error) {
	root, err := pyyaml.Read(data, pyyaml.Limits{MaxDepth: lim.JSON.withDefaults().MaxDepth, MaxValues: lim.MaxValues})
	if err != nil {
		return nil, yamlFault(err)
	}
	r := &yamlReader{out: newBuilder(lim, len(data)), active: map[*pyyaml.Node]bool{}, merges: lim.MaxValues}
	if root == nil { // no document at all
		root = &pyyaml.Node{Tag: pyyaml.TagNull}
	}
	if err := r.value(root); err != nil {
		return nil, err
	}
	return r.out.dst, nil
}

func yamlFault(err error) error {
	switch {
	case errors.Is(err, pyyaml.ErrTooDeep):
		return ErrTooDeep
	case errors.Is(err, pyyaml.ErrTooMany):
		return ErrTooMany
	}
	if syntax, ok := errors.AsType[*pyyaml.SyntaxError](err); ok {
		return &DecodeError{Part: PartContent, Offset: int64(syntax.Offset), Err: errors.New("yaml: " + syntax.Msg)}
	}
	return err
}

// yamlReader writes nodes as JSON (PyYAML 6.0.2, constructor.py, SafeConstructor).
type yamlReader struct {
	out    *builder
	active map[*pyyaml.Node]bool // what is being written, to find cycles
	merges int                   // how many more pairs merging may bring
}

func (r *yamlReader) begin(n *pyyaml.Node) error {
	if r.active[n] {
		return errCycle
	}
	r.active[n] = true
	return nil
}

func (r *yamlReader) done(n *pyyaml.Node) { delete(r.active, n) }

func errYAML(msg string) error { return errors.New("yaml: " + msg) }

// errTag refuses what safe_load has no constructor for.
func errTag(tag string) error { return &UnsupportedError{What: whatYAML, Name: shorten(tag)} }

func (r *yamlReader) value(n *pyyaml.Node) error {
	switch n.Tag {
	case pyyaml.TagSeq:
		if n.Kind != pyyaml.Sequence {
			return errYAML("expected a sequence, found a " + n.Kind.String())
		}
		return r.list(n, len(n.Items), func(i int) error { return r.value(n.Items[i]) })
	case pyyaml.TagOmap, pyyaml.TagPairs:
		return r.pairs(n)
	case pyyaml.TagMap:
		return r.mapping(n)
	case pyyaml.TagSet:
		return r.set(n)
	}
	v, err := yamlScalar(n)
	if err != nil {
		return err
	}
	return r.out.scalar(v)
}

func (r *yamlReader) list(n *pyyaml.Node, size int, item func(i int) error) error {
	if err := r.begin(n); err != nil {
		return err
	}
	defer r.done(n)
	if err := r.out.enter('['); err != nil {
		return err
	}
	for i := range size {
		r.out.comma(i)
		if err := item(i); err != nil {
			return err
		}
	}
	r.out.leave(']')
	return nil
}

// pairs writes an ordered map as an array of pairs, which it is in Python.
func (r *yamlReader) pairs(n *pyyaml.Node) error {
	if n.Kind != pyyaml.Sequence {
		return errYAML("expected a sequence, found a " + n.Kind.String())
	}
	return r.list(n, len(n.Items), func(i int) error {
		item := n.Items[i]
		if item.Kind != pyyaml.Mapping || len(item.Pairs) != 1 {
			return errYAML("expected a mapping of one pair")
		}
		pair := item.Pairs[0]
		return r.list(item, 2, func(i int) error { return r.value([]*pyyaml.Node{pair.Key, pair.Value}[i]) })
	})
}

// keys merges what "<<" asks for and constructs the keys of a mapping.
func (r *yamlReader) keys(n *pyyaml.Node) ([]any, error) {
	if n.Kind != pyyaml.Mapping {
		return nil, errYAML("expected a mapping, found a " + n.Kind.String())
	}
	if err := r.flatten(n, 0); err != nil {
		return nil, err
	}
	keys := make([]any, len(n.Pairs))
	for i, pair := range n.Pairs {
		switch pair.Key.Tag {
		case pyyaml.TagSeq, pyyaml.TagMap, pyyaml.TagSet, pyyaml.TagOmap, pyyaml.TagPairs:
			return nil, errYAML("unhashable key")
		}
		v, err := yamlScalar(pair.Key)
		if err != nil {
			return nil, err
		}
		keys[i] = v
	}
	return keys, nil
}

func (r *yamlReader) mapping(n *pyyaml.Node) error {
	if err := r.begin(n); err != nil {
		return err
	}
	defer r.done(n)
	keys, err := r.keys(n)
	if err == nil {
		err = r.out.enter('{')
	}
	if err != nil {
		return err
	}
	var o object
	first, last := uniqueKeys(len(keys), func(i int) any { return keys[i] })
	for i := range first {
		key, err := keyText(keys[first[i]])
		if err == nil {
			err = r.out.key(&o, key)
		}
		if err == nil {
			err = r.value(n.Pairs[last[i]].Value)
		}
		if err != nil {
			return err
		}
	}
	if err := r.check(n, last); err != nil {
		return err
	}
	return r.out.end(&o)
}

// check constructs the values that do not show (those at other indexes
// than some): PyYAML constructs, and refuses, them too.
func (r *yamlReader) check(n *pyyaml.Node, shown []int) error {
	if len(shown) == len(n.Pairs) {
		return nil
	}
	hidden := make([]bool, len(n.Pairs))
	for i := range hidden {
		hidden[i] = true
	}
	for _, i := range shown {
		hidden[i] = false
	}
	for i, pair := range n.Pairs {
		if !hidden[i] {
			continue
		}
		if _, err := r.out.aside(func() error { return r.value(pair.Value) }); err != nil {
			return err
		}
	}
	return nil
}

// set writes the keys of a mapping as an array; kombu's JSON has no set.
func (r *yamlReader) set(n *pyyaml.Node) error {
	keys, err := r.keys(n)
	if err != nil {
		return err
	}
	first, _ := uniqueKeys(len(keys), func(i int) any { return keys[i] })
	if err := r.check(n, nil); err != nil {
		return err
	}
	return r.list(n, len(first), func(i int) error { return r.out.scalar(keys[first[i]]) })
}

// flatten puts the pairs of merged mappings in front of a mapping's own, which
// override them (flatten_mapping).
func (r *yamlReader) flatten(n *pyyaml.Node, depth int) error {
	if depth > r.out.lim.JSON.MaxDepth {
		return ErrTooDeep
	}
	var own []pyyaml.Pair
	var sources []*pyyaml.Node
	for i, pair := range n.Pairs {
		switch pair.Key.Tag {
		case pyyaml.TagMerge:
			if own == nil {
				own = append(make([]pyyaml.Pair, 0, len(n.Pairs)), n.Pairs[:i]...)
			}
			if pair.Value.Kind != pyyaml.Sequence {
				sources = append(sources, pair.Value)
				continue
			}
			items := slices.Clone(pair.Value.Items)
			slices.Reverse(items) // the first of several counts
			sources = append(sources, items...)
			continue
		case pyyaml.TagValue:
			pair.Key.Tag = pyyaml.TagStr
		}
		if own != nil {
			own = append(own, pair)
		}
	}
	if own == nil {
		return nil
	}
	n.Pairs = own // before its sources: it may be one of them
	var merged []pyyaml.Pair
	for _, source := range sources {
		if source.Kind != pyyaml.Mapping {
			return errYAML("expected a mapping for merging, found a " + source.Kind.String())
		}
		if err := r.flatten(source, depth+1); err != nil {
			return err
		}
		if r.merges -= len(source.Pairs) + 1; r.merges < 0 {
			return ErrTooMany
		}
		merged = append(merged, source.Pairs...)
	}
	n.Pairs = slices.Concat(merged, own)
	return nil
}
