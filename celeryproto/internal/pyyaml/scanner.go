package pyyaml

import (
	"unicode/utf8"
)

// tokenKind is the kind of a token (tokens.py).
type tokenKind uint8

const (
	tokenStreamEnd tokenKind = iota
	tokenDirective
	tokenDocumentStart
	tokenDocumentEnd
	tokenBlockSequenceStart
	tokenBlockMappingStart
	tokenBlockEnd
	tokenFlowSequenceStart
	tokenFlowSequenceEnd
	tokenFlowMappingStart
	tokenFlowMappingEnd
	tokenKey
	tokenValue
	tokenBlockEntry
	tokenFlowEntry
	tokenAlias
	tokenAnchor
	tokenTag
	tokenScalar
)

type token struct {
	kind  tokenKind
	start int    // byte offset
	value string // of a scalar, alias or anchor; the suffix of a tag; the name of a directive
	// handle of a tag, "" for none; of a directive %TAG. prefix is of %TAG alone.
	handle, prefix string
	plain          bool // a scalar without quotes
	major          int  // of a directive %YAML, capped
}

// simpleKey is a place where a key without a question mark may have begun.
type simpleKey struct {
	level    int // of flow collections
	required bool
	token    int // number of the token that it would precede
	index    int // in characters
	line     int
	column   int
	pos      int // in bytes
}

// maxSimpleKey is how many characters a simple key may have (scanner.py).
const maxSimpleKey = 1024

// scanner makes tokens of characters (scanner.py).
type scanner struct {
	b   []byte
	lim Limits

	pos, index, line, column int

	done       bool
	tokens     []token
	taken      int // tokens that were handed out
	flowLevel  int
	indent     int
	indents    []int
	allowKey   bool
	simpleKeys []simpleKey // those that are still possible, one a flow level, the outermost first
	count      int         // tokens made
}

func newScanner(b []byte, lim Limits) *scanner {
	return &scanner{b: b, lim: lim, indent: -1, allowKey: true}
}

func (s *scanner) failAt(pos int, msg string) error { return &SyntaxError{Offset: pos, Msg: msg} }

func (s *scanner) fail(msg string) error { return s.failAt(s.pos, msg) }

// peek is the character at pos, 0 at the end.
func (s *scanner) peek() rune {
	r, _ := s.runeAt(s.pos)
	return r
}

func (s *scanner) runeAt(pos int) (rune, int) {
	if pos >= len(s.b) {
		return 0, 0
	}
	if c := s.b[pos]; c < utf8.RuneSelf {
		return rune(c), 1
	}
	return utf8.DecodeRune(s.b[pos:])
}

// peekSecond is the character after that.
func (s *scanner) peekSecond() rune {
	_, n := s.runeAt(s.pos)
	r, _ := s.runeAt(s.pos + n)
	return r
}

// forward moves over one character.
func (s *scanner) forward() {
	r, n := s.runeAt(s.pos)
	if n == 0 {
		return
	}
	s.pos += n
	s.index++
	switch {
	case r == '\r' && s.peek() == '\n':
		s.column++ // the line feed ends the line
	case isBreak(r):
		s.line++
		s.column = 0
	case r != '\ufeff':
		s.column++
	}
}

// forwardTo moves to a byte offset.
func (s *scanner) forwardTo(pos int) {
	for s.pos < pos {
		s.forward()
	}
}

// documentMark tells whether --- or ... stands at pos, with space after it.
func (s *scanner) documentMark() bool {
	if len(s.b)-s.pos < 3 {
		return false
	}
	mark := string(s.b[s.pos : s.pos+3])
	if mark != "---" && mark != "..." {
		return false
	}
	after, _ := s.runeAt(s.pos + 3)
	return isSpaceOrEnd(after)
}

func (s *scanner) add(t token) error {
	if s.count++; s.count > s.lim.MaxValues {
		return ErrTooMany
	}
	s.tokens = append(s.tokens, t)
	return nil
}

// next is the next token, which stays.
func (s *scanner) next() (*token, error) {
	for {
		more, err := s.needMore()
		if err != nil {
			return nil, err
		}
		if !more {
			return &s.tokens[0], nil
		}
		if err := s.fetch(); err != nil {
			return nil, err
		}
	}
}

// take removes the token that next has given.
func (s *scanner) take() token {
	t := s.tokens[0]
	s.tokens = s.tokens[1:]
	s.taken++
	return t
}

func (s *scanner) needMore() (bool, error) {
	if s.done {
		return false, nil
	}
	if len(s.tokens) == 0 {
		return true, nil
	}
	if err := s.staleKeys(); err != nil {
		return false, err
	}
	for _, key := range s.simpleKeys {
		if key.token == s.taken {
			return true, nil
		}
	}
	return false, nil
}

// staleKeys forgets the keys that can no longer be one: a simple key stands on
// one line and is not long.
func (s *scanner) staleKeys() error {
	left := s.simpleKeys[:0]
	for _, key := range s.simpleKeys {
		if key.line == s.line && s.index-key.index <= maxSimpleKey {
			left = append(left, key)
			continue
		}
		if key.required {
			return s.failAt(key.pos, "could not find expected ':'")
		}
	}
	s.simpleKeys = left
	return nil
}

func (s *scanner) saveKey() error {
	if !s.allowKey {
		return nil
	}
	if err := s.removeKey(); err != nil {
		return err
	}
	s.simpleKeys = append(s.simpleKeys, simpleKey{
		level:    s.flowLevel,
		required: s.flowLevel == 0 && s.indent == s.column,
		token:    s.taken + len(s.tokens),
		index:    s.index, line: s.line, column: s.column, pos: s.pos,
	})
	return nil
}

// takeKey removes the possible key of this flow level.
func (s *scanner) takeKey() (key simpleKey, ok bool) {
	last := len(s.simpleKeys) - 1
	if last < 0 || s.simpleKeys[last].level != s.flowLevel {
		return simpleKey{}, false
	}
	key = s.simpleKeys[last]
	s.simpleKeys = s.simpleKeys[:last]
	return key, true
}

func (s *scanner) removeKey() error {
	if key, ok := s.takeKey(); ok && key.required {
		return s.failAt(key.pos, "could not find expected ':'")
	}
	return nil
}

func (s *scanner) unwind(column int) error {
	if s.flowLevel > 0 {
		return nil
	}
	for s.indent > column {
		s.indent = s.indents[len(s.indents)-1]
		s.indents = s.indents[:len(s.indents)-1]
		if err := s.add(token{kind: tokenBlockEnd, start: s.pos}); err != nil {
			return err
		}
	}
	return nil
}

// addIndent tells whether column begins a deeper block.
func (s *scanner) addIndent(column int) (bool, error) {
	if s.indent >= column {
		return false, nil
	}
	if len(s.indents) >= s.lim.MaxDepth {
		return false, ErrTooDeep
	}
	s.indents = append(s.indents, s.indent)
	s.indent = column
	return true, nil
}
