package channelslayer

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxIntDigits is how long an integer may be: Python refuses longer ones (sys.int_info.default_max_str_digits).
const maxIntDigits = 4300

// jsonScanner reads what Python's json.loads reads with its defaults: NaN and Infinity, integers of any size, the last of equal
// keys. The text must be UTF-8, which is what json.dumps writes; loads would take UTF-16 and UTF-32, too. A lone surrogate,
// which no Go text can hold, becomes U+FFFD.
type jsonScanner struct {
	s   string
	pos int
}

// jsonConstants are the words of JSON, with the two that only Python writes.
var jsonConstants = []struct {
	text  string
	value any
}{
	{"null", nil}, {"true", true}, {"false", false}, {"NaN", math.NaN()}, {"Infinity", math.Inf(1)},
}

func (sc *jsonScanner) fail() error { return &DecodeError{Reason: DropUndecodable, Offset: sc.pos} }

// scanJSON is scanMessage for the json serializer.
func scanJSON(body string) (Received, channelNames, error) {
	r := Received{body: body, format: formatJSON}
	var names channelNames
	sc := jsonScanner{s: body}
	if !utf8.ValidString(body) {
		return r, names, sc.fail()
	}
	sc.space()
	err := sc.object(func(key string) error {
		var v any
		var err error
		if v, err = sc.value(1); err != nil {
			return err
		}
		switch key {
		case typeKeyName:
			r.typ, _ = v.(string)
		case messageKeyName:
			r.text, r.hasText = v.(string)
		case channelKeyName:
			if names, err = channelNamesOf(v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return r, names, err
	}
	if sc.space(); sc.pos != len(sc.s) {
		return r, names, sc.fail()
	}
	return r, names, nil
}

// channelNamesOf reads the value of __asgi_channel__.
func channelNamesOf(v any) (channelNames, error) {
	switch v := v.(type) {
	case string:
		return channelNames{present: true, one: v}, nil
	case []any:
		names := make([]string, len(v))
		for i, e := range v {
			name, ok := e.(string)
			if !ok {
				return channelNames{}, &DecodeError{Reason: DropChannelType, Offset: -1}
			}
			names[i] = name
		}
		return channelNames{present: len(names) > 0, names: names}, nil
	default:
		return channelNames{}, &DecodeError{Reason: DropChannelType, Offset: -1}
	}
}

// decodeJSON builds a message. body has been through scanJSON.
func decodeJSON(body string) (Message, error) {
	sc := jsonScanner{s: body}
	sc.space()
	v, err := sc.value(0)
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, &DecodeError{Reason: DropUndecodable, Offset: 0}
	}
	return m, nil
}

func (sc *jsonScanner) space() {
	for sc.pos < len(sc.s) {
		switch sc.s[sc.pos] {
		case ' ', '\t', '\n', '\r':
			sc.pos++
		default:
			return
		}
	}
}

// take reports whether the text goes on with word, which it walks over then.
func (sc *jsonScanner) take(word string) bool {
	if !strings.HasPrefix(sc.s[sc.pos:], word) {
		return false
	}
	sc.pos += len(word)
	return true
}

// value reads one value, nested at depth.
func (sc *jsonScanner) value(depth int) (any, error) {
	if sc.pos >= len(sc.s) {
		return nil, sc.fail()
	}
	switch c := sc.s[sc.pos]; {
	case c == '"':
		return sc.text()
	case c == '{', c == '[':
		if depth >= MaxDepth {
			return nil, &DecodeError{Reason: DropTooDeep, Offset: sc.pos}
		}
		if c == '[' {
			return sc.array(depth)
		}
		m := map[string]any{}
		err := sc.object(func(key string) error {
			v, err := sc.value(depth + 1)
			m[key] = v
			return err
		})
		return m, err
	case c >= '0' && c <= '9', c == '-':
		return sc.number()
	}
	for _, c := range jsonConstants {
		if sc.take(c.text) {
			return c.value, nil
		}
	}
	return nil, sc.fail()
}

// object reads an object; member reads the value of each key.
func (sc *jsonScanner) object(member func(key string) error) error {
	if !sc.take("{") {
		return sc.fail()
	}
	sc.space()
	if sc.take("}") {
		return nil
	}
	for {
		if sc.pos >= len(sc.s) || sc.s[sc.pos] != '"' {
			return sc.fail()
		}
		key, err := sc.text()
		if err != nil {
			return err
		}
		if sc.space(); !sc.take(":") {
			return sc.fail()
		}
		sc.space()
		if err := member(key); err != nil {
			return err
		}
		sc.space()
		switch {
		case sc.take("}"):
			return nil
		case !sc.take(","):
			return sc.fail()
		}
		sc.space()
	}
}

func (sc *jsonScanner) array(depth int) (any, error) {
	list := []any{}
	sc.pos++
	sc.space()
	if sc.take("]") {
		return list, nil
	}
	for {
		v, err := sc.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		sc.space()
		switch {
		case sc.take("]"):
			return list, nil
		case !sc.take(","):
			return nil, sc.fail()
		}
		sc.space()
	}
}

// number reads an integer or a float (json/scanner.py, NUMBER_RE), or -Infinity.
func (sc *jsonScanner) number() (any, error) {
	start := sc.pos
	sc.take("-")
	switch {
	case sc.take("Infinity"): // after a minus: value has seen to the rest
		return math.Inf(-1), nil
	case sc.take("0"):
	case sc.digits() == 0:
		return nil, sc.fail()
	}
	end, isFloat := sc.pos, false
	if sc.take(".") {
		if sc.digits() == 0 {
			sc.pos = end
		} else {
			end, isFloat = sc.pos, true
		}
	}
	if sc.take("e") || sc.take("E") {
		_ = sc.take("+") || sc.take("-")
		if sc.digits() == 0 {
			sc.pos = end
		} else {
			end, isFloat = sc.pos, true
		}
	}
	text := sc.s[start:end]
	if isFloat {
		f, _ := strconv.ParseFloat(text, 64) // what is too large is infinite, as in Python
		return f, nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, nil
	}
	if n, err := strconv.ParseUint(text, 10, 64); err == nil {
		return n, nil
	}
	if len(strings.TrimPrefix(text, "-")) > maxIntDigits {
		return nil, sc.fail()
	}
	n, ok := new(big.Int).SetString(text, 10)
	if !ok {
		return nil, sc.fail()
	}
	return n, nil
}

func (sc *jsonScanner) digits() int {
	start := sc.pos
	for sc.pos < len(sc.s) && sc.s[sc.pos] >= '0' && sc.s[sc.pos] <= '9' {
		sc.pos++
	}
	return sc.pos - start
}

// text reads a string. One without escapes shares memory with the input.
func (sc *jsonScanner) text() (string, error) {
	sc.pos++
	start := sc.pos
	for sc.pos < len(sc.s) {
		switch c := sc.s[sc.pos]; {
		case c == '"':
			sc.pos++
			return sc.s[start : sc.pos-1], nil
		case c == '\\':
			return sc.escapedText(start)
		case c < ' ':
			return "", sc.fail()
		}
		sc.pos++
	}
	return "", sc.fail()
}

// escapedText goes on where the first backslash is.
func (sc *jsonScanner) escapedText(start int) (string, error) {
	b := append(make([]byte, 0, 2*(sc.pos-start)+32), sc.s[start:sc.pos]...)
	for sc.pos < len(sc.s) {
		c := sc.s[sc.pos]
		sc.pos++
		switch {
		case c == '"':
			return string(b), nil
		case c < ' ':
			return "", sc.fail()
		case c != '\\':
			b = append(b, c)
			continue
		}
		r, err := sc.escape()
		if err != nil {
			return "", err
		}
		b = utf8.AppendRune(b, r)
	}
	return "", sc.fail()
}

// escape reads what follows a backslash.
func (sc *jsonScanner) escape() (rune, error) {
	if sc.pos >= len(sc.s) {
		return 0, sc.fail()
	}
	c := sc.s[sc.pos]
	sc.pos++
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
		return rune("\"\\/\b\f\n\r\t"[i]), nil
	}
	if c != 'u' {
		return 0, sc.fail()
	}
	high, err := sc.unit()
	if err != nil || !utf16.IsSurrogate(high) {
		return high, err
	}
	before := sc.pos
	if sc.take(`\u`) {
		low, err := sc.unit()
		if err != nil {
			return 0, err
		}
		if r := utf16.DecodeRune(high, low); r != utf8.RuneError {
			return r, nil
		}
		sc.pos = before // it stands for itself
	}
	return utf8.RuneError, nil
}

// unit reads four hexadecimal digits.
func (sc *jsonScanner) unit() (rune, error) {
	if len(sc.s)-sc.pos < 4 {
		return 0, sc.fail()
	}
	n := rune(0)
	for range 4 {
		switch c := sc.s[sc.pos]; {
		case c >= '0' && c <= '9':
			n = n<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			n = n<<4 | rune(c-'A'+10)
		default:
			return 0, sc.fail()
		}
		sc.pos++
	}
	return n, nil
}
