package pyyaml

import "slices"

// fetch makes at least one token.
func (s *scanner) fetch() error {
	s.skipToToken()
	if err := s.staleKeys(); err != nil {
		return err
	}
	if err := s.unwind(s.column); err != nil {
		return err
	}
	c := s.peek()
	if s.column == 0 {
		switch {
		case c == '%':
			return s.fetchDirective()
		case c == '-' && s.documentMark():
			return s.fetchDocument(tokenDocumentStart)
		case c == '.' && s.documentMark():
			return s.fetchDocument(tokenDocumentEnd)
		}
	}
	switch c {
	case 0:
		return s.fetchEnd()
	case '[':
		return s.fetchFlowStart(tokenFlowSequenceStart)
	case '{':
		return s.fetchFlowStart(tokenFlowMappingStart)
	case ']':
		return s.fetchFlowEnd(tokenFlowSequenceEnd)
	case '}':
		return s.fetchFlowEnd(tokenFlowMappingEnd)
	case ',':
		return s.fetchFlowEntry()
	case '*':
		return s.fetchName(tokenAlias)
	case '&':
		return s.fetchName(tokenAnchor)
	case '!':
		return s.fetchTag()
	case '\'', '"':
		return s.fetchQuoted()
	}
	after := s.peekSecond()
	switch {
	case c == '-' && isSpaceOrEnd(after):
		return s.fetchBlockEntry()
	case c == '?' && (s.flowLevel > 0 || isSpaceOrEnd(after)):
		return s.fetchKey()
	case c == ':' && (s.flowLevel > 0 || isSpaceOrEnd(after)):
		return s.fetchValue()
	case (c == '|' || c == '>') && s.flowLevel == 0:
		return s.fetchBlockScalar()
	case s.startsPlain(c, after):
		return s.fetchPlain()
	}
	return s.fail("character that cannot start any token")
}

func (s *scanner) startsPlain(c, after rune) bool {
	if !isSpaceOrEnd(c) && !oneOf(c, "-?:,[]{}#&*!|>'\"%@`") {
		return true
	}
	return !isSpaceOrEnd(after) && (c == '-' || s.flowLevel == 0 && (c == '?' || c == ':'))
}

// skipToToken skips spaces, comments and line breaks.
func (s *scanner) skipToToken() {
	if s.index == 0 && s.peek() == '\ufeff' {
		s.forward()
	}
	for {
		for s.peek() == ' ' {
			s.forward()
		}
		if s.peek() == '#' {
			s.skipLine()
		}
		if s.lineBreak() == 0 {
			return
		}
		if s.flowLevel == 0 {
			s.allowKey = true
		}
	}
}

func (s *scanner) skipLine() {
	for !isBreakOrEnd(s.peek()) {
		s.forward()
	}
}

// lineBreak moves over a line break, if one is there, and tells what it stands
// for: 0, a line feed, or one of Unicode's two separators.
func (s *scanner) lineBreak() rune {
	r := s.peek()
	switch r {
	case '\r', '\n', 0x85:
		s.forward()
		if r == '\r' && s.peek() == '\n' {
			s.forward()
		}
		return '\n'
	case 0x2028, 0x2029:
		s.forward()
		return r
	default:
		return 0
	}
}

func (s *scanner) fetchEnd() error {
	if err := s.unwind(-1); err != nil {
		return err
	}
	if err := s.removeKey(); err != nil {
		return err
	}
	s.allowKey = false
	s.simpleKeys = nil
	s.done = true
	return s.add(token{kind: tokenStreamEnd, start: s.pos})
}

// leaveBlocks ends all blocks before a directive or a document marker.
func (s *scanner) leaveBlocks() error {
	if err := s.unwind(-1); err != nil {
		return err
	}
	err := s.removeKey()
	s.allowKey = false
	return err
}

func (s *scanner) fetchDocument(kind tokenKind) error {
	if err := s.leaveBlocks(); err != nil {
		return err
	}
	start := s.pos
	s.forwardTo(s.pos + 3)
	return s.add(token{kind: kind, start: start})
}

// single makes a token of one character.
func (s *scanner) single(kind tokenKind) error {
	start := s.pos
	s.forward()
	return s.add(token{kind: kind, start: start})
}

func (s *scanner) fetchFlowStart(kind tokenKind) error {
	if err := s.saveKey(); err != nil {
		return err
	}
	if s.flowLevel++; s.flowLevel > s.lim.MaxDepth {
		return ErrTooDeep
	}
	s.allowKey = true
	return s.single(kind)
}

func (s *scanner) fetchFlowEnd(kind tokenKind) error {
	if err := s.removeKey(); err != nil {
		return err
	}
	if s.flowLevel == 0 {
		// PyYAML counts below zero here, and its parser then refuses the token.
		return s.fail("closing bracket without an opening one")
	}
	s.flowLevel--
	s.allowKey = false
	return s.single(kind)
}

func (s *scanner) fetchFlowEntry() error {
	s.allowKey = true
	if err := s.removeKey(); err != nil {
		return err
	}
	return s.single(tokenFlowEntry)
}

func (s *scanner) fetchBlockEntry() error {
	if s.flowLevel == 0 {
		if !s.allowKey {
			return s.fail("sequence entries are not allowed here")
		}
		if err := s.startBlock(tokenBlockSequenceStart); err != nil {
			return err
		}
	}
	s.allowKey = true
	if err := s.removeKey(); err != nil {
		return err
	}
	return s.single(tokenBlockEntry)
}

// startBlock makes the token of a new block when the column is deeper.
func (s *scanner) startBlock(kind tokenKind) error {
	deeper, err := s.addIndent(s.column)
	if err != nil || !deeper {
		return err
	}
	return s.add(token{kind: kind, start: s.pos})
}

func (s *scanner) fetchKey() error {
	if s.flowLevel == 0 {
		if !s.allowKey {
			return s.fail("mapping keys are not allowed here")
		}
		if err := s.startBlock(tokenBlockMappingStart); err != nil {
			return err
		}
	}
	s.allowKey = s.flowLevel == 0
	if err := s.removeKey(); err != nil {
		return err
	}
	return s.single(tokenKey)
}

func (s *scanner) fetchValue() error {
	if key, ok := s.takeKey(); ok {
		at := key.token - s.taken
		insert := []token{{kind: tokenKey, start: key.pos}}
		if s.flowLevel == 0 {
			deeper, err := s.addIndent(key.column)
			if err != nil {
				return err
			}
			if deeper {
				insert = []token{{kind: tokenBlockMappingStart, start: key.pos}, insert[0]}
			}
		}
		if s.count += len(insert); s.count > s.lim.MaxValues {
			return ErrTooMany
		}
		s.tokens = slices.Insert(s.tokens, at, insert...)
		s.allowKey = false
		return s.single(tokenValue)
	}
	if s.flowLevel == 0 {
		if !s.allowKey {
			return s.fail("mapping values are not allowed here")
		}
		if err := s.startBlock(tokenBlockMappingStart); err != nil {
			return err
		}
	}
	s.allowKey = s.flowLevel == 0
	if err := s.removeKey(); err != nil {
		return err
	}
	return s.single(tokenValue)
}
