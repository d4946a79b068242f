package pickle

import (
	"errors"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

func (r *reader) integer(op byte) error {
	switch op {
	case opBinInt1, opBinInt2:
		n, err := r.uint(map[byte]int{opBinInt1: 1, opBinInt2: 2}[op])
		if err != nil {
			return err
		}
		return r.push(int64(n))
	case opBinInt:
		n, err := r.uint(4)
		if err != nil {
			return err
		}
		return r.push(int64(int32(n)))
	case opLong1, opLong4:
		b, err := r.counted(map[byte]int{opLong1: 1, opLong4: 4}[op])
		if err != nil {
			return err
		}
		return r.long(b)
	}
	b, err := r.line()
	if err != nil {
		return err
	}
	text := string(b)
	switch {
	case op == opLong:
		text = strings.TrimSuffix(text, "L")
	case text == "00":
		return r.push(false)
	case text == "01":
		return r.push(true)
	}
	return r.intText(text)
}

// long is a little-endian integer in two's complement.
func (r *reader) long(b []byte) error {
	if len(b) > r.lim.MaxIntBytes && r.lim.MaxIntBytes > 0 {
		return ErrIntTooLong
	}
	big64 := new(big.Int)
	if len(b) > 0 {
		be := make([]byte, len(b))
		for i, c := range b {
			be[len(b)-1-i] = c
		}
		big64.SetBytes(be)
		if b[len(b)-1]&0x80 != 0 {
			big64.Sub(big64, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
		}
	}
	return r.push(small(big64))
}

// small is an int64 where that is enough.
func small(n *big.Int) any {
	if n.IsInt64() {
		return n.Int64()
	}
	return n
}

// digitsPerByte is less than how many decimal digits a byte is worth.
const digitsPerByte = 2

func (r *reader) intText(text string) error {
	if digits := strings.TrimLeft(text, "+-"); len(digits) > 1 && digits[0] == '0' {
		return r.fail("no integer")
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return r.push(n)
	}
	digits := strings.TrimLeft(text, "+-")
	if len(text)-len(digits) > 1 || digits == "" || strings.Trim(digits, "0123456789") != "" {
		return r.fail("no integer")
	}
	if r.lim.MaxIntBytes > 0 && len(digits)/digitsPerByte > 2*r.lim.MaxIntBytes {
		return ErrIntTooLong
	}
	n, _ := new(big.Int).SetString(text, 10) // has been looked at
	return r.push(small(n))
}

func (r *reader) float() error {
	b, err := r.line()
	if err != nil {
		return err
	}
	text := string(b)
	if strings.ContainsAny(text, "xX_pP") {
		return r.fail("no float")
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) { // out of range gives an infinity, as in Python
		return r.fail("no float")
	}
	return r.push(f)
}

func (r *reader) bytes(op byte) error {
	width := map[byte]int{opShortBinBytes: 1, opBinBytes: 4, opBinBytes8: 8, opByteArray8: 8}[op]
	b, err := r.counted(width)
	if err != nil {
		return err
	}
	if op == opByteArray8 {
		return r.push(&ByteArray{Bytes: b})
	}
	return r.push(b)
}

func (r *reader) text(op byte) error {
	var b []byte
	var err error
	switch op {
	case opString, opUnicode:
		b, err = r.line()
	case opShortBinString, opShortBinUnicode:
		b, err = r.counted(1)
	case opBinString, opBinUnicode:
		b, err = r.counted(4)
	default:
		b, err = r.counted(8)
	}
	if err != nil {
		return err
	}
	switch op {
	case opUnicode:
		return r.rawUnicode(b)
	case opString:
		if b, err = r.quoted(b); err != nil {
			return err
		}
		return r.ascii(b)
	case opBinString, opShortBinString:
		return r.ascii(b)
	default:
		if !ValidText(b) {
			return r.fail("text is not UTF-8")
		}
		return r.push(string(b))
	}
}

// ascii is the str of Python 2, which Python 3 takes only when it is ASCII.
func (r *reader) ascii(b []byte) error {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return r.fail("text of Python 2 is not ASCII")
		}
	}
	return r.push(string(b))
}

// quoted undoes the repr of a str of Python 2.
func (r *reader) quoted(b []byte) ([]byte, error) {
	if len(b) < 2 || b[0] != b[len(b)-1] || b[0] != '\'' && b[0] != '"' {
		return nil, r.fail("text without quotes")
	}
	b = b[1 : len(b)-1]
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			out = append(out, b[i])
			continue
		}
		if i++; i == len(b) {
			return nil, r.fail("invalid escape")
		}
		const from, to = `\'"abfnrtv`, "\\'\"\a\b\f\n\r\t\v"
		switch c := b[i]; {
		case strings.IndexByte(from, c) >= 0:
			out = append(out, to[strings.IndexByte(from, c)])
		case c == 'x':
			n, err := strconv.ParseUint(string(b[i+1:min(i+3, len(b))]), 16, 8)
			if err != nil || i+3 > len(b) {
				return nil, r.fail("invalid escape")
			}
			out = append(out, byte(n))
			i += 2
		case c >= '0' && c <= '7':
			n := 0
			for j := 0; j < 3 && i < len(b) && b[i] >= '0' && b[i] <= '7'; j++ {
				n = n<<3 | int(b[i]-'0')
				i++
			}
			i--
			out = append(out, byte(n))
		default:
			out = append(out, '\\', c)
		}
	}
	return out, nil
}

// rawUnicode decodes Python's raw-unicode-escape: Latin-1 with \uXXXX and
// \UXXXXXXXX.
func (r *reader) rawUnicode(b []byte) error {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' || i+1 == len(b) {
			out = utf8.AppendRune(out, rune(b[i]))
			continue
		}
		i++
		n := map[byte]int{'u': 4, 'U': 8}[b[i]]
		if n == 0 {
			out = utf8.AppendRune(append(out, '\\'), rune(b[i]))
			continue
		}
		if i+n >= len(b) {
			return r.fail("invalid escape")
		}
		code, err := strconv.ParseUint(string(b[i+1:i+1+n]), 16, 32)
		if err != nil || code > utf8.MaxRune {
			return r.fail("invalid escape")
		}
		out = appendRune(out, rune(code))
		i += n
	}
	return r.push(string(out))
}

// appendRune is utf8.AppendRune that also takes a lone surrogate.
func appendRune(dst []byte, c rune) []byte {
	if c >= 0xd800 && c <= 0xdfff {
		return append(dst, 0xe0|byte(c>>12), 0x80|byte(c>>6)&0x3f, 0x80|byte(c)&0x3f)
	}
	return utf8.AppendRune(dst, c)
}

// ValidText tells whether b is UTF-8 in which surrogates may stand alone, as
// Python's "surrogatepass" has it.
func ValidText(b []byte) bool {
	for len(b) > 0 {
		c, n := utf8.DecodeRune(b)
		if c == utf8.RuneError && n == 1 {
			if len(b) < 3 || b[0] != 0xed || b[1]&0xe0 != 0xa0 || b[2]&0xc0 != 0x80 {
				return false
			}
			n = 3
		}
		b = b[n:]
	}
	return true
}
