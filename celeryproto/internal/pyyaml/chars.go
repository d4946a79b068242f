package pyyaml

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// decode makes UTF-8 of the input and checks that it has only characters that
// YAML allows (reader.py).
func decode(b []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}):
		return decodeUTF16(b, binary.LittleEndian)
	case bytes.HasPrefix(b, []byte{0xfe, 0xff}):
		return decodeUTF16(b, binary.BigEndian)
	}
	return b, checkPrintable(b)
}

func decodeUTF16(b []byte, order binary.ByteOrder) ([]byte, error) {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i += 2 {
		if i+1 == len(b) {
			return nil, &SyntaxError{Offset: i, Msg: "input is not UTF-16"}
		}
		c := rune(order.Uint16(b[i:]))
		if utf16.IsSurrogate(c) {
			if i+4 > len(b) {
				return nil, &SyntaxError{Offset: i, Msg: "input is not UTF-16"}
			}
			if c = utf16.DecodeRune(c, rune(order.Uint16(b[i+2:]))); c == utf8.RuneError {
				return nil, &SyntaxError{Offset: i, Msg: "input is not UTF-16"}
			}
			i += 2
		}
		out = utf8.AppendRune(out, c)
	}
	return out, checkPrintable(out)
}

func checkPrintable(b []byte) error {
	for i := 0; i < len(b); {
		c := b[i]
		if c >= ' ' && c < 0x7f || c == '\n' || c == '\t' || c == '\r' {
			i++
			continue
		}
		r, n := utf8.DecodeRune(b[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			return &SyntaxError{Offset: i, Msg: "input is not UTF-8"}
		case !printable(r):
			return &SyntaxError{Offset: i, Msg: "character that YAML does not allow"}
		}
		i += n
	}
	return nil
}

func printable(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' || r >= ' ' && r <= '~' || r == 0x85 ||
		r >= 0xa0 && r <= 0xd7ff || r >= 0xe000 && r <= 0xfffd || r >= 0x10000 && r <= utf8.MaxRune
}

// Classes of characters; end of input is 0.
func isBreak(r rune) bool { return r == '\n' || r == '\r' || r == 0x85 || r == 0x2028 || r == 0x2029 }

func isBreakOrEnd(r rune) bool { return r == 0 || isBreak(r) }

func isSpaceOrEnd(r rune) bool { return r == ' ' || r == '\t' || isBreakOrEnd(r) }

func isSpaceBreakOrEnd(r rune) bool { return r == ' ' || isBreakOrEnd(r) } // without tab, as in some places of PyYAML

func isWord(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r == '-' || r == '_'
}

func isURI(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' ||
		r > 0 && strings.ContainsRune("-;/?:@&=+$,_.!~*'()[]%", r)
}

func oneOf(r rune, set string) bool { return r != 0 && strings.ContainsRune(set, r) }

// appendRune is utf8.AppendRune that also takes a lone surrogate.
func appendRune(dst []byte, c rune) []byte {
	if c >= 0xd800 && c <= 0xdfff {
		return append(dst, 0xe0|byte(c>>12), 0x80|byte(c>>6)&0x3f, 0x80|byte(c)&0x3f)
	}
	return utf8.AppendRune(dst, c)
}

// decodeRune undoes appendRune.
func decodeRune(s string) (rune, int) {
	r, n := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && n == 1 && len(s) >= 3 && s[0] == 0xed {
		return 0xd000 | rune(s[1]&0x3f)<<6 | rune(s[2]&0x3f), 3
	}
	return r, n
}
