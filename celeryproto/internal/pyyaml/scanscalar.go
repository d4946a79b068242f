package pyyaml

func (s *scanner) fetchBlockScalar() error {
	s.allowKey = true
	if err := s.removeKey(); err != nil {
		return err
	}
	t := token{kind: tokenScalar, start: s.pos}
	folded := s.peek() == '>'
	s.forward()
	chomp, increment, err := s.blockIndicators()
	if err != nil {
		return err
	}
	if err := s.ignoredLine(); err != nil {
		return err
	}
	minIndent := max(1, s.indent+1)
	var breaks []rune
	indent := minIndent + increment - 1
	if increment == 0 {
		var deepest int
		breaks, deepest = s.blockIndentation()
		indent = max(minIndent, deepest)
	} else {
		breaks = s.blockBreaks(indent)
	}
	t.value = s.blockText(folded, chomp, indent, breaks)
	return s.add(t)
}

// blockText takes the lines of a block scalar. chomp is '-' to strip the last
// line break, '+' to keep those after it, 0 for neither.
func (s *scanner) blockText(folded bool, chomp rune, indent int, breaks []rune) string {
	var out []byte
	var lineBreak rune
	for s.column == indent && s.peek() != 0 {
		out = appendRunes(out, breaks)
		leadingText := !oneOf(s.peek(), " \t")
		start := s.pos
		s.skipLine()
		out = append(out, s.b[start:s.pos]...)
		lineBreak = s.lineBreak()
		breaks = s.blockBreaks(indent)
		if s.column != indent || s.peek() == 0 {
			break
		}
		if folded && lineBreak == '\n' && leadingText && !oneOf(s.peek(), " \t") {
			if len(breaks) == 0 {
				out = append(out, ' ')
			}
		} else if lineBreak != 0 {
			out = appendRune(out, lineBreak)
		}
	}
	if chomp != '-' && lineBreak != 0 {
		out = appendRune(out, lineBreak)
	}
	if chomp == '+' {
		out = appendRunes(out, breaks)
	}
	return string(out)
}

func appendRunes(dst []byte, runes []rune) []byte {
	for _, r := range runes {
		dst = appendRune(dst, r)
	}
	return dst
}

// blockIndicators reads what stands after | or >; no increment is 0.
func (s *scanner) blockIndicators() (chomp rune, increment int, err error) {
	for range 2 {
		switch c := s.peek(); {
		case chomp == 0 && (c == '+' || c == '-'):
			chomp = c
			s.forward()
		case increment == 0 && c >= '0' && c <= '9':
			if c == '0' {
				return 0, 0, s.fail("expected an indentation in the range 1-9")
			}
			increment = int(c - '0')
			s.forward()
		}
	}
	if !isSpaceBreakOrEnd(s.peek()) {
		return 0, 0, s.fail("expected chomping or indentation indicators")
	}
	return chomp, increment, nil
}

// blockIndentation takes leading empty lines and tells their deepest column.
func (s *scanner) blockIndentation() (breaks []rune, deepest int) {
	for {
		switch c := s.peek(); {
		case c == ' ':
			s.forward()
			deepest = max(deepest, s.column)
		case isBreak(c):
			breaks = append(breaks, s.lineBreak())
		default:
			return breaks, deepest
		}
	}
}

// blockBreaks takes empty lines and the indentation of the next one.
func (s *scanner) blockBreaks(indent int) (breaks []rune) {
	for {
		for s.column < indent && s.peek() == ' ' {
			s.forward()
		}
		if !isBreak(s.peek()) {
			return breaks
		}
		breaks = append(breaks, s.lineBreak())
	}
}

func (s *scanner) fetchQuoted() error {
	if err := s.saveKey(); err != nil {
		return err
	}
	s.allowKey = false
	t := token{kind: tokenScalar, start: s.pos}
	quote := s.peek()
	s.forward()
	var out []byte
	var err error
	for {
		if out, err = s.quotedText(out, quote == '"'); err != nil {
			return err
		}
		if s.peek() == quote {
			break
		}
		if out, err = s.quotedSpaces(out); err != nil {
			return err
		}
	}
	s.forward()
	t.value = string(out)
	return s.add(t)
}

// escapes are what a backslash and a letter stand for in double quotes.
var escapes = map[rune]rune{
	'0': 0, 'a': 7, 'b': 8, 't': 9, '\t': 9, 'n': 10, 'v': 11, 'f': 12, 'r': 13, 'e': 27, ' ': ' ', '"': '"',
	'\\': '\\', '/': '/', 'N': 0x85, '_': 0xa0, 'L': 0x2028, 'P': 0x2029,
}

// quotedText takes characters up to a space, a line break or the end of the scalar.
func (s *scanner) quotedText(out []byte, double bool) ([]byte, error) {
	for {
		start := s.pos
		for c := s.peek(); !isSpaceOrEnd(c) && c != '\'' && c != '"' && c != '\\'; c = s.peek() {
			s.forward()
		}
		out = append(out, s.b[start:s.pos]...)
		switch c := s.peek(); {
		case !double && c == '\'' && s.peekSecond() == '\'':
			out = append(out, '\'')
			s.forward()
			s.forward()
		case double && c == '\'', !double && (c == '"' || c == '\\'):
			out = append(out, byte(c))
			s.forward()
		case double && c == '\\':
			var err error
			if out, err = s.escape(out); err != nil {
				return nil, err
			}
		default:
			return out, nil
		}
	}
}

// escape takes a backslash in double quotes and what follows it.
func (s *scanner) escape(out []byte) ([]byte, error) {
	s.forward()
	c := s.peek()
	if r, known := escapes[c]; known && (c != 0 || s.pos < len(s.b)) {
		s.forward()
		return appendRune(out, r), nil
	}
	if n := map[rune]int{'x': 2, 'u': 4, 'U': 8}[c]; n > 0 {
		s.forward()
		code, ok := s.hex(n)
		if !ok || code > 0x10ffff {
			return nil, s.fail("invalid escape")
		}
		return appendRune(out, rune(code)), nil
	}
	if isBreak(c) {
		s.lineBreak()
		return s.quotedBreaks(out, nil)
	}
	return nil, s.fail("unknown escape")
}

// quotedSpaces takes spaces or line breaks in quotes, which are folded.
func (s *scanner) quotedSpaces(out []byte) ([]byte, error) {
	start := s.pos
	for oneOf(s.peek(), " \t") {
		s.forward()
	}
	end := s.pos
	switch c := s.peek(); {
	case c == 0:
		return nil, s.fail("unexpected end in a quoted scalar")
	case isBreak(c):
		lineBreak := s.lineBreak()
		var count int
		if lineBreak != '\n' {
			out = appendRune(out, lineBreak)
		}
		before := len(out)
		out, err := s.quotedBreaks(out, &count)
		if err == nil && lineBreak == '\n' && count == 0 {
			out = append(out[:before], ' ')
		}
		return out, err
	default:
		return append(out, s.b[start:end]...), nil
	}
}

// quotedBreaks takes further line breaks and counts them.
func (s *scanner) quotedBreaks(out []byte, count *int) ([]byte, error) {
	for {
		if s.documentMark() {
			return nil, s.fail("document separator in a quoted scalar")
		}
		for oneOf(s.peek(), " \t") {
			s.forward()
		}
		r := s.lineBreak()
		if r == 0 {
			return out, nil
		}
		out = appendRune(out, r)
		if count != nil {
			*count++
		}
	}
}

func (s *scanner) fetchPlain() error {
	if err := s.saveKey(); err != nil {
		return err
	}
	s.allowKey = false
	t := token{kind: tokenScalar, start: s.pos, plain: true}
	var out, spaces []byte
	indent := s.indent + 1
	for s.peek() != '#' {
		start := s.pos
		for !s.endsPlain() {
			s.forward()
		}
		if s.pos == start {
			break
		}
		s.allowKey = false
		out = append(append(out, spaces...), s.b[start:s.pos]...)
		spaces = s.plainSpaces()
		if len(spaces) == 0 || s.peek() == '#' || s.flowLevel == 0 && s.column < indent {
			break
		}
	}
	t.value = string(out)
	return s.add(t)
}

func (s *scanner) endsPlain() bool {
	c := s.peek()
	if isSpaceOrEnd(c) {
		return true
	}
	if c == ':' {
		after := s.peekSecond()
		return isSpaceOrEnd(after) || s.flowLevel > 0 && oneOf(after, ",[]{}")
	}
	return s.flowLevel > 0 && oneOf(c, ",?[]{}")
}

// plainSpaces takes what may stand between two words of a plain scalar, and
// gives what it stands for.
func (s *scanner) plainSpaces() []byte {
	start := s.pos
	s.spaces()
	end := s.pos
	if !isBreak(s.peek()) {
		return s.b[start:end:end]
	}
	lineBreak := s.lineBreak()
	s.allowKey = true
	if s.documentMark() {
		return nil
	}
	var breaks []rune
	for {
		switch c := s.peek(); {
		case c == ' ':
			s.forward()
			continue
		case isBreak(c):
			breaks = append(breaks, s.lineBreak())
			if s.documentMark() {
				return nil
			}
			continue
		}
		break
	}
	var out []byte
	if lineBreak != '\n' {
		out = appendRune(out, lineBreak)
	} else if len(breaks) == 0 {
		out = append(out, ' ')
	}
	return appendRunes(out, breaks)
}
