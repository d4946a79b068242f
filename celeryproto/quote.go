package celeryproto

import "unicode/utf8"

const hexDigits = "0123456789abcdef"

// AppendString appends s as Python's json.dumps writes it (ensure_ascii), with
// its quotes. A surrogate that stands alone is expected in its three-byte form
// (WTF-8, as Raw.Text gives it) and written as \udXXX; other bytes that are not
// UTF-8 become \ufffd.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < 0x7f && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[start:i]...)
		if c < utf8.RuneSelf {
			dst = appendEscape(dst, c)
			i++
		} else {
			r, n := decodeRune(s[i:])
			dst = appendRuneEscape(dst, r)
			i += n
		}
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	case '\f':
		return append(dst, '\\', 'f')
	case '\b':
		return append(dst, '\\', 'b')
	default:
		return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
	}
}

func appendRuneEscape(dst []byte, r rune) []byte {
	if r > 0xffff {
		r -= 0x10000
		dst = appendRuneEscape(dst, surrogateMin+r>>10)
		r = surrogateLow + r&0x3ff
	}
	return append(dst, '\\', 'u', hexDigits[r>>12&0xf], hexDigits[r>>8&0xf], hexDigits[r>>4&0xf], hexDigits[r&0xf])
}

const (
	surrogateMin = 0xd800 // first high surrogate
	surrogateLow = 0xdc00 // first low surrogate
	surrogateMax = 0xdfff
)

func isSurrogate(r rune) bool { return r >= surrogateMin && r <= surrogateMax }

// decodeRune is utf8.DecodeRuneInString that also takes a lone surrogate in
// its three-byte form.
func decodeRune(s string) (rune, int) {
	r, n := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && n == 1 && len(s) >= 3 && s[0] == 0xed && s[1]&0xe0 == 0xa0 && s[2]&0xc0 == 0x80 {
		return 0xd000 | rune(s[1]&0x3f)<<6 | rune(s[2]&0x3f), 3
	}
	return r, n
}

// appendRune is utf8.AppendRune that also takes a lone surrogate.
func appendRune(dst []byte, r rune) []byte {
	if isSurrogate(r) {
		return append(dst, 0xe0|byte(r>>12), 0x80|byte(r>>6)&0x3f, 0x80|byte(r)&0x3f)
	}
	return utf8.AppendRune(dst, r)
}

// appendUnquoted appends what the JSON string stands for; s has been scanned
// and comes without its quotes.
func appendUnquoted(dst, s []byte) []byte {
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			start := i
			for i < len(s) && s[i] != '\\' {
				i++
			}
			dst = append(dst, s[start:i]...)
			continue
		}
		i++
		switch c := s[i]; c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, n := unicodeEscape(s[i-1:])
			dst = appendRune(dst, r)
			i += n - 1
			continue
		default:
			dst = append(dst, c)
		}
		i++
	}
	return dst
}

// unicodeEscape decodes the \uXXXX, or the pair of surrogates, that s starts
// with, and tells its length.
func unicodeEscape(s []byte) (rune, int) {
	r := hexValue(s[2:6])
	if r < surrogateMin || r >= surrogateLow || len(s) < 12 || s[6] != '\\' || s[7] != 'u' {
		return r, 6
	}
	low := hexValue(s[8:12])
	if low < surrogateLow || low > surrogateMax {
		return r, 6
	}
	return 0x10000 + (r-surrogateMin)<<10 + (low - surrogateLow), 12
}

// hexValue reads four hexadecimal digits, -1 when they are not.
func hexValue(b []byte) rune {
	var r rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}
