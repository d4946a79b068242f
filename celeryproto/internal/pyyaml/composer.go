package pyyaml

import "slices"

// Read reads one document; it is nil when there is none. The error is a
// *SyntaxError, ErrTooDeep or ErrTooMany.
func Read(b []byte, lim Limits) (*Node, error) {
	text, err := decode(b)
	if err != nil {
		return nil, err
	}
	c := &composer{scanner: newScanner(text, lim), anchors: map[string]*Node{}}
	return c.document()
}

// composer makes nodes of tokens (parser.py, composer.py).
type composer struct {
	*scanner
	handles map[string]string
	anchors map[string]*Node
	depth   int
}

func defaultHandles() map[string]string { return map[string]string{"!": "!", "!!": tagPrefix} }

// is tells whether the next token is one of some kinds.
func (c *composer) is(kinds ...tokenKind) (bool, error) {
	t, err := c.next()
	if err != nil {
		return false, err
	}
	return slices.Contains(kinds, t.kind), nil
}

// accept takes the next token when it is of a kind.
func (c *composer) accept(kind tokenKind) (bool, error) {
	ok, err := c.is(kind)
	if ok {
		c.scanner.take()
	}
	return ok, err
}

// need takes the next token, which must be of a kind.
func (c *composer) need(kind tokenKind, what string) error {
	ok, err := c.accept(kind)
	if err == nil && !ok {
		err = c.failAt(c.tokens[0].start, "expected "+what)
	}
	return err
}

func (c *composer) document() (*Node, error) {
	explicit, err := c.is(tokenDirective, tokenDocumentStart, tokenStreamEnd)
	if err != nil {
		return nil, err
	}
	var node *Node
	if !explicit {
		c.handles = defaultHandles()
		node, err = c.node(true, false)
	} else if node, err = c.explicitDocument(); node == nil {
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	if err := c.skipDocumentEnds(); err != nil {
		return nil, err
	}
	return node, c.need(tokenStreamEnd, "the end, and a single document")
}

func (c *composer) skipDocumentEnds() error {
	for {
		if ok, err := c.accept(tokenDocumentEnd); err != nil || !ok {
			return err
		}
	}
}

func (c *composer) explicitDocument() (*Node, error) {
	if err := c.skipDocumentEnds(); err != nil {
		return nil, err
	}
	if ended, err := c.is(tokenStreamEnd); err != nil || ended {
		return nil, err
	}
	if err := c.directives(); err != nil {
		return nil, err
	}
	if err := c.need(tokenDocumentStart, "the start of a document"); err != nil {
		return nil, err
	}
	return c.unless(true, false, tokenDirective, tokenDocumentStart, tokenDocumentEnd, tokenStreamEnd)
}

func (c *composer) directives() error {
	c.handles = map[string]string{}
	seenVersion := false
	for {
		ok, err := c.is(tokenDirective)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		t := c.scanner.take()
		switch t.value {
		case "YAML":
			if seenVersion || t.major != 1 {
				return c.failAt(t.start, "expected one YAML directive of version 1")
			}
			seenVersion = true
		case "TAG":
			if _, seen := c.handles[t.handle]; seen {
				return c.failAt(t.start, "duplicate tag handle")
			}
			c.handles[t.handle] = t.prefix
		}
	}
	for handle, prefix := range defaultHandles() {
		if _, seen := c.handles[handle]; !seen {
			c.handles[handle] = prefix
		}
	}
	return nil
}

// empty is the scalar that stands where nothing does.
func empty() *Node { return &Node{Kind: Scalar, Tag: TagNull} }

// unless composes a node, or an empty scalar when the next token is one of some kinds.
func (c *composer) unless(block, indentless bool, kinds ...tokenKind) (*Node, error) {
	ends, err := c.is(kinds...)
	if err != nil {
		return nil, err
	}
	if ends {
		return empty(), nil
	}
	return c.node(block, indentless)
}

// node composes one node. Within block, it may be a block collection; with
// indentless also a sequence that is not indented, as the value of a mapping.
func (c *composer) node(block, indentless bool) (*Node, error) {
	t, err := c.next()
	if err != nil {
		return nil, err
	}
	if t.kind == tokenAlias {
		alias := c.scanner.take()
		node, known := c.anchors[alias.value]
		if !known {
			return nil, c.failAt(alias.start, "undefined alias")
		}
		return node, nil
	}
	var anchor, tag *token
	for range 2 {
		if t, err = c.next(); err != nil {
			return nil, err
		}
		switch {
		case t.kind == tokenAnchor && anchor == nil:
			taken := c.scanner.take()
			anchor = &taken
		case t.kind == tokenTag && tag == nil:
			taken := c.scanner.take()
			tag = &taken
		}
	}
	node := &Node{}
	if tag != nil {
		if node.Tag, err = c.tagOf(tag); err != nil {
			return nil, err
		}
	}
	if anchor != nil {
		if _, known := c.anchors[anchor.value]; known {
			return nil, c.failAt(anchor.start, "duplicate anchor")
		}
	}
	if c.depth++; c.depth > c.lim.MaxDepth+1 {
		return nil, ErrTooDeep
	}
	defer func() { c.depth-- }()
	return node, c.content(node, anchor, tag != nil, block, indentless)
}

func (c *composer) tagOf(tag *token) (string, error) {
	if tag.handle == "" {
		return tag.value, nil
	}
	prefix, known := c.handles[tag.handle]
	if !known {
		return "", c.failAt(tag.start, "undefined tag handle")
	}
	return prefix + tag.value, nil
}

// content fills a node whose anchor and tag have been read.
func (c *composer) content(node *Node, anchor *token, tagged, block, indentless bool) error {
	t, err := c.next()
	if err != nil {
		return err
	}
	// A tag of ! alone asks for what the content says by itself.
	unspecific := node.Tag == "" || node.Tag == "!"
	name := func(kind Kind, tag string) {
		node.Kind = kind
		if unspecific {
			node.Tag = tag
		}
		if anchor != nil {
			c.anchors[anchor.value] = node
		}
	}
	switch {
	case indentless && t.kind == tokenBlockEntry:
		name(Sequence, TagSeq)
		return c.indentlessSequence(node)
	case t.kind == tokenScalar:
		scalar := c.scanner.take()
		node.Value = scalar.value
		tag := TagStr
		if unspecific && (scalar.plain && !tagged || node.Tag == "!") {
			tag = Resolve(scalar.value)
		}
		name(Scalar, tag)
		return nil
	case t.kind == tokenFlowSequenceStart:
		name(Sequence, TagSeq)
		return c.flowSequence(node)
	case t.kind == tokenFlowMappingStart:
		name(Mapping, TagMap)
		return c.flowMapping(node)
	case block && t.kind == tokenBlockSequenceStart:
		name(Sequence, TagSeq)
		return c.blockSequence(node)
	case block && t.kind == tokenBlockMappingStart:
		name(Mapping, TagMap)
		return c.blockMapping(node)
	case anchor != nil || tagged:
		name(Scalar, TagNull)
		return nil
	default:
		return c.failAt(t.start, "expected the content of a node")
	}
}

func (c *composer) blockSequence(node *Node) error {
	c.scanner.take()
	for {
		ok, err := c.accept(tokenBlockEntry)
		if err != nil {
			return err
		}
		if !ok {
			return c.need(tokenBlockEnd, "the end of a block sequence")
		}
		item, err := c.unless(true, false, tokenBlockEntry, tokenBlockEnd)
		if err != nil {
			return err
		}
		node.Items = append(node.Items, item)
	}
}

func (c *composer) indentlessSequence(node *Node) error {
	for {
		ok, err := c.accept(tokenBlockEntry)
		if err != nil || !ok {
			return err
		}
		item, err := c.unless(true, false, tokenBlockEntry, tokenKey, tokenValue, tokenBlockEnd)
		if err != nil {
			return err
		}
		node.Items = append(node.Items, item)
	}
}

func (c *composer) blockMapping(node *Node) error {
	c.scanner.take()
	for {
		// A value can stand without a key only after one: PyYAML looks for keys.
		ok, err := c.accept(tokenKey)
		if err != nil {
			return err
		}
		if !ok {
			return c.need(tokenBlockEnd, "the end of a block mapping")
		}
		key, err := c.unless(true, true, tokenKey, tokenValue, tokenBlockEnd)
		if err != nil {
			return err
		}
		value := empty()
		if ok, err = c.accept(tokenValue); err == nil && ok {
			value, err = c.unless(true, true, tokenKey, tokenValue, tokenBlockEnd)
		}
		if err != nil {
			return err
		}
		node.Pairs = append(node.Pairs, Pair{key, value})
	}
}

func (c *composer) flowSequence(node *Node) error {
	c.scanner.take()
	for first := true; ; first = false {
		if ended, err := c.flowNext(first, tokenFlowSequenceEnd); err != nil || ended {
			return err
		}
		isPair, err := c.accept(tokenKey)
		if err != nil {
			return err
		}
		var item *Node
		if isPair {
			item, err = c.flowPair()
		} else {
			item, err = c.node(false, false)
		}
		if err != nil {
			return err
		}
		node.Items = append(node.Items, item)
	}
}

// flowNext takes the comma before an item of a flow collection, or its end.
func (c *composer) flowNext(first bool, end tokenKind) (ended bool, err error) {
	if ended, err = c.accept(end); err != nil || ended {
		return ended, err
	}
	if first {
		return false, nil
	}
	if err := c.need(tokenFlowEntry, "a comma or a closing bracket"); err != nil {
		return false, err
	}
	return c.accept(end)
}

// flowPair is a mapping of one pair, [key: value].
func (c *composer) flowPair() (*Node, error) {
	key, err := c.unless(false, false, tokenValue, tokenFlowEntry, tokenFlowSequenceEnd)
	if err != nil {
		return nil, err
	}
	value, err := c.flowValue(tokenFlowSequenceEnd)
	return &Node{Kind: Mapping, Tag: TagMap, Pairs: []Pair{{key, value}}}, err
}

func (c *composer) flowValue(end tokenKind) (*Node, error) {
	ok, err := c.accept(tokenValue)
	if err != nil {
		return nil, err
	}
	if !ok {
		return empty(), nil
	}
	return c.unless(false, false, tokenFlowEntry, end)
}

func (c *composer) flowMapping(node *Node) error {
	c.scanner.take()
	for first := true; ; first = false {
		if ended, err := c.flowNext(first, tokenFlowMappingEnd); err != nil || ended {
			return err
		}
		isKey, err := c.accept(tokenKey)
		if err != nil {
			return err
		}
		var key, value *Node
		if isKey {
			if key, err = c.unless(false, false, tokenValue, tokenFlowEntry, tokenFlowMappingEnd); err == nil {
				value, err = c.flowValue(tokenFlowMappingEnd)
			}
		} else {
			value = empty()
			key, err = c.node(false, false)
		}
		if err != nil {
			return err
		}
		node.Pairs = append(node.Pairs, Pair{key, value})
	}
}
