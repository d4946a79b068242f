package compat

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// escape reads a backslash outside of a set.
func (t *translator) escape() error {
	if t.pos+1 >= len(t.source) {
		return missingEscape
	}
	switch c := t.source[t.pos+1]; c {
	case 'A':
		t.out.WriteString(`\A`)
	case 'Z', 'z':
		t.out.WriteString(`\z`)
	case 'b', 'B':
		t.asciiOnly = t.asciiOnly || !t.ascii
		t.out.WriteString(`\` + string(c))
	case 'd', 'D', 's', 'S', 'w', 'W':
		t.out.WriteString("[" + t.class(c) + "]")
	default:
		char, err := t.character()
		if err == nil {
			fmt.Fprintf(&t.out, `\x{%x}`, char)
		}
		return err
	}
	t.pos += 2
	return nil
}

// Members of Python's classes among ASCII, as Go writes sets. \s has more in Unicode than with the flag a: the separators 1c to 1f.
const (
	spaceUnicode    = `\t-\r\x1c-\x20`
	spaceASCII      = `\t-\r\x20`
	notSpaceUnicode = `\x00-\x08\x0e-\x1b\x21-\x{10FFFF}`
	notSpaceASCII   = `\x00-\x08\x0e-\x1f\x21-\x{10FFFF}`
)

// class returns the members of a class, for a set.
func (t *translator) class(c byte) string {
	t.asciiOnly = t.asciiOnly || !t.ascii
	switch {
	case c == 's' && t.ascii:
		return spaceASCII
	case c == 's':
		return spaceUnicode
	case c == 'S' && t.ascii:
		return notSpaceASCII
	case c == 'S':
		return notSpaceUnicode
	}
	return `\` + string(c)
}

// character reads an escape that stands for one character.
func (t *translator) character() (rune, error) {
	c := t.source[t.pos+1]
	t.pos += 2
	switch c {
	case 'a':
		return '\a', nil
	case 'b': // in a set only
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'v':
		return '\v', nil
	case 'x':
		return t.number(2, 16)
	case 'u':
		return t.number(4, 16)
	case 'U':
		return t.number(8, 16)
	}
	switch {
	case '0' <= c && c <= '9':
		return t.octal()
	case 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z':
		return 0, missingEscape
	case c >= 0x80:
		t.pos--
		return t.plain(), nil
	}
	return rune(c), nil
}

// number reads so many digits.
func (t *translator) number(digits, base int) (rune, error) {
	end := t.pos + digits
	if end > len(t.source) {
		return 0, missingEscape
	}
	n, err := strconv.ParseUint(t.source[t.pos:end], base, 21)
	if err != nil {
		return 0, missingEscape
	}
	t.pos = end
	return rune(n), nil
}

// octal reads \0, \0o, \0oo and \ooo; other digits refer back to a group.
func (t *translator) octal() (rune, error) {
	start := t.pos - 1
	end := start
	for end < len(t.source) && end < start+3 && '0' <= t.source[end] && t.source[end] <= '7' {
		end++
	}
	if t.source[start] != '0' && end < start+3 {
		return 0, missingReference
	}
	t.pos = end
	n, err := strconv.ParseUint(t.source[start:end], 8, 8)
	if err != nil {
		return 0, missingEscape
	}
	return rune(n), nil
}

// plain reads one character as it stands.
func (t *translator) plain() rune {
	c, size := utf8.DecodeRuneInString(t.source[t.pos:])
	t.pos += size
	return c
}

// set reads "[…]" and writes each member as a number: Python has no named classes and no operations in sets, Go has.
func (t *translator) set() error {
	t.pos++
	t.out.WriteString("[")
	if strings.HasPrefix(t.source[t.pos:], "^") {
		t.pos++
		t.out.WriteString("^")
	}
	for first := true; ; first = false {
		if t.pos >= len(t.source) {
			return missingSet
		}
		if t.source[t.pos] == ']' && !first {
			t.copyByte()
			return nil
		}
		if err := t.member(); err != nil {
			return err
		}
	}
}

// member reads a class, a character or a range.
func (t *translator) member() error {
	if t.source[t.pos] == '\\' && t.pos+1 < len(t.source) && strings.IndexByte("dDsSwW", t.source[t.pos+1]) >= 0 {
		t.out.WriteString(t.class(t.source[t.pos+1]))
		t.pos += 2
		return nil
	}
	low, err := t.endpoint()
	if err != nil {
		return err
	}
	fmt.Fprintf(&t.out, `\x{%x}`, low)
	if rest := t.source[t.pos:]; len(rest) < 2 || rest[0] != '-' || rest[1] == ']' {
		return nil
	}
	t.pos++
	high, err := t.endpoint()
	if err == nil {
		fmt.Fprintf(&t.out, `-\x{%x}`, high)
	}
	return err
}

func (t *translator) endpoint() (rune, error) {
	if t.source[t.pos] != '\\' {
		return t.plain(), nil
	}
	if t.pos+1 >= len(t.source) {
		return 0, missingEscape
	}
	return t.character()
}
