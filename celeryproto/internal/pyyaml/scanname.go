package pyyaml

import (
	"strconv"
	"unicode/utf8"
)

func (s *scanner) fetchDirective() error {
	if err := s.leaveBlocks(); err != nil {
		return err
	}
	t := token{kind: tokenDirective, start: s.pos}
	s.forward()
	t.value = s.word()
	if t.value == "" || !isSpaceBreakOrEnd(s.peek()) {
		return s.fail("expected the name of a directive")
	}
	var err error
	switch t.value {
	case "YAML":
		err = s.yamlDirective(&t)
	case "TAG":
		err = s.tagDirective(&t)
	default:
		s.skipLine()
	}
	if err != nil {
		return err
	}
	if err := s.ignoredLine(); err != nil {
		return err
	}
	return s.add(t)
}

// word takes letters, digits, - and _.
func (s *scanner) word() string {
	start := s.pos
	for isWord(s.peek()) {
		s.forward()
	}
	return string(s.b[start:s.pos])
}

func (s *scanner) spaces() {
	for s.peek() == ' ' {
		s.forward()
	}
}

// ignoredLine takes the rest of a line, which may be a comment.
func (s *scanner) ignoredLine() error {
	s.spaces()
	if s.peek() == '#' {
		s.skipLine()
	}
	if !isBreakOrEnd(s.peek()) {
		return s.fail("expected a comment or a line break")
	}
	s.lineBreak()
	return nil
}

func (s *scanner) yamlDirective(t *token) error {
	s.spaces()
	major := s.digits()
	if major == "" || s.peek() != '.' {
		return s.fail("expected a version")
	}
	s.forward()
	if s.digits() == "" || !isSpaceBreakOrEnd(s.peek()) {
		return s.fail("expected a version")
	}
	n, err := strconv.Atoi(major)
	if err != nil {
		n = -1 // absurdly large, and not 1
	}
	t.major = n
	return nil
}

func (s *scanner) digits() string {
	start := s.pos
	for c := s.peek(); c >= '0' && c <= '9'; c = s.peek() {
		s.forward()
	}
	return string(s.b[start:s.pos])
}

func (s *scanner) tagDirective(t *token) error {
	s.spaces()
	var err error
	if t.handle, err = s.tagHandle(); err != nil {
		return err
	}
	if s.peek() != ' ' {
		return s.fail("expected a space after a tag handle")
	}
	s.spaces()
	if t.prefix, err = s.uri(); err != nil {
		return err
	}
	if !isSpaceBreakOrEnd(s.peek()) {
		return s.fail("expected a space after a tag prefix")
	}
	return nil
}

// tagHandle is !, !! or !name!.
func (s *scanner) tagHandle() (string, error) {
	start := s.pos
	if s.peek() != '!' {
		return "", s.fail("expected '!'")
	}
	s.forward()
	if s.peek() != ' ' {
		s.word()
		if s.peek() != '!' {
			return "", s.fail("expected '!'")
		}
		s.forward()
	}
	return string(s.b[start:s.pos]), nil
}

// uri takes the characters of a URI and decodes its escapes.
func (s *scanner) uri() (string, error) {
	var out []byte
	for isURI(s.peek()) {
		if s.peek() != '%' {
			out = append(out, s.b[s.pos])
			s.forward()
			continue
		}
		start, run := s.pos, len(out)
		for s.peek() == '%' {
			s.forward()
			code, ok := s.hex(2)
			if !ok {
				return "", s.fail("expected two hexadecimal digits")
			}
			out = append(out, byte(code))
		}
		if !utf8.Valid(out[run:]) {
			return "", s.failAt(start, "escapes of a URI are not UTF-8")
		}
	}
	if len(out) == 0 {
		return "", s.fail("expected a URI")
	}
	return string(out), nil
}

// hex takes n hexadecimal digits.
func (s *scanner) hex(n int) (uint32, bool) {
	if len(s.b)-s.pos < n {
		return 0, false
	}
	digits := s.b[s.pos : s.pos+n]
	for _, c := range digits {
		if !oneOf(rune(c), "0123456789ABCDEFabcdef") {
			return 0, false
		}
	}
	code, err := strconv.ParseUint(string(digits), 16, 32)
	s.forwardTo(s.pos + n)
	return uint32(code), err == nil
}

// fetchName scans an alias or an anchor.
func (s *scanner) fetchName(kind tokenKind) error {
	if err := s.saveKey(); err != nil {
		return err
	}
	s.allowKey = false
	t := token{kind: kind, start: s.pos}
	s.forward()
	if t.value = s.word(); t.value == "" {
		return s.fail("expected a name")
	}
	if c := s.peek(); !isSpaceOrEnd(c) && !oneOf(c, "?:,]}%@`") {
		return s.fail("character that a name cannot have")
	}
	return s.add(t)
}

func (s *scanner) fetchTag() error {
	if err := s.saveKey(); err != nil {
		return err
	}
	s.allowKey = false
	t := token{kind: tokenTag, start: s.pos}
	var err error
	switch second := s.peekSecond(); {
	case second == '<':
		s.forward()
		s.forward()
		if t.value, err = s.uri(); err == nil && s.peek() != '>' {
			err = s.fail("expected '>'")
		}
		s.forward()
	case isSpaceOrEnd(second):
		t.value = "!"
		s.forward()
	default:
		t.handle = "!"
		if s.tagHasHandle() {
			t.handle, err = s.tagHandle()
		} else {
			s.forward()
		}
		if err == nil {
			t.value, err = s.uri()
		}
	}
	if err == nil && !isSpaceBreakOrEnd(s.peek()) {
		err = s.fail("expected a space after a tag")
	}
	if err != nil {
		return err
	}
	return s.add(t)
}

// tagHasHandle looks for a second exclamation mark in a tag.
func (s *scanner) tagHasHandle() bool {
	for pos := s.pos + 1; ; {
		r, n := s.runeAt(pos)
		if isSpaceBreakOrEnd(r) {
			return false
		}
		if r == '!' {
			return true
		}
		pos += n
	}
}
