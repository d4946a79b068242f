package celeryproto

import (
	"errors"
	"math/big"
	"strconv"
)

// Raw is one JSON value in Python's dialect: beside standard JSON it may have
// NaN, Infinity and -Infinity, integers of any size, lone surrogates and
// duplicate keys. It is relayed byte for byte and never handed to
// encoding/json, which would refuse or change all of these.
//
// The methods scan what they need and never panic, whatever the bytes. What
// they return shares the memory of r.
type Raw []byte

// rawNull is the JSON null.
var rawNull = Raw("null")

// String returns the JSON text.
func (r Raw) String() string { return string(r) }

// Kind is the kind of a JSON value.
type Kind uint8

// The kinds of a JSON value. NaN and the infinities are numbers.
const (
	KindInvalid Kind = iota
	KindNull
	KindBool
	KindNumber
	KindString
	KindArray
	KindObject
)

var kindNames = [...]string{"invalid", "null", "bool", "number", "string", "array", "object"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "kind " + strconv.Itoa(int(k))
}

// Kind tells the kind of the value by its first byte, KindInvalid when no value
// starts like this.
func (r Raw) Kind() Kind {
	if k := kindAt(r, 0); k != KindInvalid {
		return k
	}
	s := scanner{b: r}
	s.space()
	return kindAt(r, s.pos)
}

func kindAt(b []byte, i int) Kind {
	if i >= len(b) {
		return KindInvalid
	}
	switch b[i] {
	case '{':
		return KindObject
	case '[':
		return KindArray
	case '"':
		return KindString
	case 't', 'f':
		return KindBool
	case 'n':
		return KindNull
	case 'N', 'I', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return KindNumber
	default:
		return KindInvalid
	}
}

// IsNull tells whether r is the JSON null or absent (empty).
func (r Raw) IsNull() bool {
	return len(r) == 0 || r.Kind() == KindNull
}

// errKind says that a value is of another kind than asked for.
func errKind(want, got Kind) error {
	return errors.New("expected " + want.String() + ", got " + got.String())
}

// begin positions a scanner on a value of the wanted kind.
func (r Raw) begin(want Kind) (scanner, error) {
	s := newScanner(r, JSONLimits{})
	s.space()
	if got := kindAt(r, s.pos); got != want {
		return s, errKind(want, got)
	}
	return s, nil
}

// end checks that nothing follows the value.
func (s *scanner) end(ok bool) error {
	if ok {
		s.space()
		ok = s.pos == len(s.b) || s.fail(s.pos, "extra data after the value")
	}
	if !ok {
		return s.err
	}
	return nil
}

// Text returns what a JSON string stands for. A surrogate that stands alone,
// which Python allows in a str, is kept in its three-byte form (WTF-8);
// AppendString writes it back. Use utf8.ValidString where that matters.
func (r Raw) Text() (string, error) {
	if len(r) > 0 && r[0] == '"' {
		s := scanner{b: r}
		if escaped, ok := s.text(); ok && s.pos == len(r) {
			return unquote(r, escaped), nil
		}
	}
	s, err := r.begin(KindString)
	if err != nil {
		return "", err
	}
	start := s.pos
	escaped, ok := s.text()
	stop := s.pos
	if err := s.end(ok); err != nil {
		return "", err
	}
	return unquote(r[start:stop], escaped), nil
}

// unquote decodes a scanned string, given with its quotes.
func unquote(quoted []byte, escaped bool) string {
	inner := quoted[1 : len(quoted)-1]
	if !escaped {
		if text := usualTexts.find(inner); text != "" {
			return text
		}
		return string(inner)
	}
	return string(appendUnquoted(make([]byte, 0, len(inner)), inner))
}

// usualTexts are values of most messages, which need no memory of their own.
var usualTexts = newKeySet(ContentTypeJSON, EncodingUTF8, BodyBase64, "py", LangGo, "{}")

// unquoteKey is unquote without an allocation for the keys that every message has.
func unquoteKey(quoted []byte, escaped bool) string {
	if !escaped {
		if key := knownKeys.find(quoted[1 : len(quoted)-1]); key != "" {
			return key
		}
	}
	return unquote(quoted, escaped)
}

// Array returns the elements of a JSON array.
func (r Raw) Array() ([]Raw, error) {
	s, err := r.begin(KindArray)
	if err != nil {
		return nil, err
	}
	elements := []Raw{}
	ok := s.array(func(start, end int) {
		if len(elements) == 0 {
			elements = make([]Raw, 0, 3) // a body has three
		}
		elements = append(elements, r[start:end:end])
	})
	if err := s.end(ok); err != nil {
		return nil, err
	}
	return elements, nil
}

// triple is Array for three elements; n is how many there are.
func (r Raw) triple() (elements [3]Raw, n int, err error) {
	s, err := r.begin(KindArray)
	if err != nil {
		return elements, 0, err
	}
	ok := s.array(func(start, end int) {
		if n < len(elements) {
			elements[n] = r[start:end:end]
		}
		n++
	})
	return elements, n, s.end(ok)
}

// Object returns the members of a JSON object in the order of the wire,
// duplicates kept. Python takes the last of duplicates, as Members.Get does.
func (r Raw) Object() (Members, error) { return r.object(usualMembers) }

// usualMembers is how many members an object has of which nothing is known.
const usualMembers = 8

// object is Object with room for n members.
func (r Raw) object(n int) (Members, error) {
	s, err := r.begin(KindObject)
	if err != nil {
		return nil, err
	}
	members, ok := s.members(n)
	if err := s.end(ok); err != nil {
		return nil, err
	}
	return members, nil
}

// members scans the object that starts at pos.
func (s *scanner) members(n int) (Members, bool) { return s.membersWith(n, nil) }

// membersWith is members whose values inner may scan, see objectWith.
func (s *scanner) membersWith(n int, inner func(key []byte) bool) (Members, bool) {
	members := Members{}
	r := Raw(s.b)
	ok := s.objectWith(func(m member) {
		if len(members) == 0 {
			members = make(Members, 0, n)
		}
		members = append(members, Member{
			Key:   unquoteKey(r[m.keyStart:m.keyEnd], m.escaped),
			Value: r[m.start:m.end:m.end],
		})
	}, inner)
	return members, ok
}

// Lookup finds the members of a JSON object that have the given keys: values[i]
// becomes the value of keys[i] (the last one of duplicates), nil when there is
// none. It allocates nothing, for the frames of browsers.
func (r Raw) Lookup(keys []string, values []Raw) error {
	clear(values)
	s, err := r.begin(KindObject)
	if err != nil {
		return err
	}
	ok := s.object(func(m member) {
		quoted := r[m.keyStart:m.keyEnd]
		for i, key := range keys {
			if keyIs(quoted, m.escaped, key) {
				values[i] = r[m.start:m.end:m.end]
			}
		}
	})
	return s.end(ok)
}

// keyIs compares a scanned key, given with its quotes, with a text.
func keyIs(quoted []byte, escaped bool, key string) bool {
	inner := quoted[1 : len(quoted)-1]
	if !escaped {
		return string(inner) == key
	}
	if len(inner) > 6*len(key) {
		return false
	}
	var buf [64]byte
	return string(appendUnquoted(buf[:0], inner)) == key
}

// Bool returns a JSON true or false.
func (r Raw) Bool() (bool, error) {
	s, err := r.begin(KindBool)
	if err != nil {
		return false, err
	}
	start := s.pos
	return r[start] == 't', s.end(s.value())
}

// Number returns a JSON number as Python reads it: an int64, or a *big.Int when
// it does not fit, or a float64 when it has a point or an exponent or is NaN or
// an infinity.
func (r Raw) Number() (any, error) {
	s, err := r.begin(KindNumber)
	if err != nil {
		return nil, err
	}
	start := s.pos
	ok := s.value()
	stop := s.pos
	if err := s.end(ok); err != nil {
		return nil, err
	}
	return parseNumber(r[start:stop]), nil
}

// parseNumber converts a scanned number.
func parseNumber(b []byte) any {
	isFloat := false
	for _, c := range b {
		if c == '.' || c|0x20 == 'e' || c == 'N' || c == 'I' {
			isFloat = true
			break
		}
	}
	text := string(b)
	if isFloat {
		// Out of range gives an infinity, as in Python; the error says only that.
		f, _ := strconv.ParseFloat(text, 64)
		return f
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n
	}
	n, _ := new(big.Int).SetString(text, 10)
	return n
}

// Member is one member of a JSON object.
type Member struct {
	// Key with its escapes decoded; lone surrogates as in Raw.Text.
	Key string
	// Value is the JSON text of the value.
	Value Raw
}
