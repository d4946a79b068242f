package celeryproto

import (
	"encoding/base64"
	"errors"
	"math/big"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
)

// The types of typed values (kombu 5.7, utils/json.py, _register_default_types).
const (
	typeDatetime = "datetime"
	typeDate     = "date"
	typeTime     = "time"
	typeDecimal  = "decimal"
	typeUUID     = "uuid"
	typeBytes    = "bytes"
	typeBase64   = "base64"
)

// DecodeValue converts a JSON value, with kombu's typed values in it, to Go:
//
//	null, true            nil, bool
//	5, 10**30             int64, *big.Int when it does not fit
//	1.5, NaN, 1e400       float64
//	"text"                string (lone surrogates as in Raw.Text)
//	[…], {…}              []any, map[string]any (the last of duplicates counts)
//	datetime              time.Time when aware, NaiveTime when naive
//	date, time            Date, TimeOfDay
//	Decimal               Decimal
//	UUID                  uuid.UUID
//	bytes                 []byte
//
// The error is a *SyntaxError, an *UnknownTypeError, or a *DecodeError whose
// Field is the type of a typed value that Python would not take either.
func DecodeValue(r Raw) (any, error) {
	if err := CheckJSON(r, JSONLimits{}); err != nil {
		return nil, err
	}
	d := valueDecoder{scanner: newScanner(r, JSONLimits{})}
	d.space()
	return d.decode()
}

// valueDecoder converts a text that has been scanned: syntax is not checked again.
type valueDecoder struct {
	scanner
	ordered bool // a dict for each object instead of a map
}

func (d *valueDecoder) decode() (any, error) {
	start := d.pos
	switch kindAt(d.b, start) {
	case KindObject:
		return d.decodeObject()
	case KindArray:
		return d.decodeArray()
	case KindString:
		escaped, ok := d.text()
		if !ok {
			return nil, d.err
		}
		return unquote(d.b[start:d.pos], escaped), nil
	default:
		if !d.value() {
			return nil, d.err
		}
		return decodeScalar(d.b[start:d.pos]), nil
	}
}

func decodeScalar(b []byte) any {
	switch b[0] {
	case 'n':
		return nil
	case 't':
		return true
	case 'f':
		return false
	default:
		return parseNumber(b)
	}
}

// next moves behind a comma, or behind the closing bracket: then it is false.
func (d *valueDecoder) next() bool {
	d.space()
	d.pos++
	more := d.b[d.pos-1] == ','
	d.space()
	return more
}

func (d *valueDecoder) decodeArray() (any, error) {
	elements := []any{}
	d.pos++
	d.space()
	if d.b[d.pos] == ']' {
		d.pos++
		return elements, nil
	}
	for more := true; more; more = d.next() {
		v, err := d.decode()
		if err != nil {
			return nil, err
		}
		elements = append(elements, v)
	}
	return elements, nil
}

func (d *valueDecoder) decodeObject() (any, error) {
	start := d.pos
	if d.ordered {
		return d.decodeDict(start)
	}
	members := map[string]any{}
	if err := d.members(func(key string, v any) { members[key] = v }); err != nil {
		return nil, err
	}
	typ, hasType := members[keyType]
	value, hasValue := members[keyValue]
	if !hasType || !hasValue || len(members) != 2 {
		return members, nil
	}
	return decodeTypedAt(typ, value, start)
}

func (d *valueDecoder) decodeDict(start int) (any, error) {
	members := dict{}
	if err := d.members(func(key string, v any) { members = append(members, dictEntry{key, v}) }); err != nil {
		return nil, err
	}
	if members = members.merged(); len(members) == 2 {
		typ, value := members[0], members[1]
		if typ.key == keyValue {
			typ, value = value, typ
		}
		if typ.key == keyType && value.key == keyValue {
			return decodeTypedAt(typ.value, value.value, start)
		}
	}
	return members, nil
}

// members decodes the members of the object that starts at pos.
func (d *valueDecoder) members(each func(key string, v any)) error {
	d.pos++
	d.space()
	if d.b[d.pos] == '}' {
		d.pos++
		return nil
	}
	for more := true; more; more = d.next() {
		keyStart := d.pos
		escaped, ok := d.text()
		if !ok {
			return d.err
		}
		key := unquote(d.b[keyStart:d.pos], escaped)
		d.space()
		d.pos++
		d.space()
		v, err := d.decode()
		if err != nil {
			return err
		}
		each(key, v)
	}
	return nil
}

func decodeTypedAt(typ, value any, start int) (any, error) {
	name, _ := typ.(string)
	v, err := decodeTyped(name, value)
	if err == nil {
		return v, nil
	}
	if _, unknown := errors.AsType[*UnknownTypeError](err); unknown {
		return nil, err
	}
	return nil, &DecodeError{Part: PartValue, Field: name, Offset: int64(start), Err: err}
}

func decodeTyped(name string, v any) (any, error) {
	switch name {
	case typeDatetime, typeDate, typeTime, typeDecimal, typeBytes, typeBase64:
		s, ok := v.(string)
		if n, isInt := v.(int64); isInt && name == typeDecimal {
			s, ok = big.NewInt(n).String(), true
		}
		if !ok {
			return nil, errors.New("__value__ is no string")
		}
		return decodeTypedText(name, s)
	case typeUUID:
		return decodeTypedUUID(v)
	default:
		return nil, &UnknownTypeError{Type: shorten(name)}
	}
}

func decodeTypedUUID(v any) (any, error) {
	var hex any
	n := 0
	switch fields := v.(type) {
	case map[string]any:
		hex, n = fields["hex"], len(fields)
	case dict:
		hex, n = fields.get("hex"), len(fields)
	}
	s, ok := hex.(string)
	if !ok || n != 1 {
		return nil, errors.New(`__value__ is not {"hex": "…"}`)
	}
	return parseUUID(s)
}

func decodeTypedText(name, s string) (any, error) {
	switch name {
	case typeDatetime:
		iso, err := parseISO(s)
		if err != nil {
			return nil, err
		}
		if !iso.aware {
			return iso.NaiveTime, nil
		}
		return iso.time()
	case typeDate:
		iso, err := parseISO(s)
		return iso.date(), err
	case typeTime:
		return parseISOClock(strings.TrimPrefix(s, "T"))
	case typeDecimal:
		d := Decimal(s)
		return d, d.validate()
	case typeBytes:
		if !utf8.ValidString(s) {
			return nil, errors.New("text with a lone surrogate")
		}
		return []byte(s), nil
	default:
		return base64.StdEncoding.DecodeString(s)
	}
}

// parseUUID reads the hexadecimal digits of a UUID with or without dashes.
func parseUUID(s string) (uuid.UUID, error) {
	var u uuid.UUID
	s = strings.ReplaceAll(s, "-", "")
	if len(s) != 2*len(u) {
		return u, errors.New("not a UUID")
	}
	for i := range u {
		b := hexValue([]byte{'0', '0', s[2*i], s[2*i+1]})
		if b < 0 {
			return uuid.UUID{}, errors.New("not a UUID")
		}
		u[i] = byte(b)
	}
	return u, nil
}

// maxName is how much of a name from a message goes into an error.
const maxName = 64

func shorten(s string) string {
	if len(s) <= maxName {
		return s
	}
	return s[:maxName] + "…"
}

// isDecimal tells whether s is a number as Python's str(Decimal) writes it.
func isDecimal(s string) bool {
	if s != "" && (s[0] == '+' || s[0] == '-') {
		s = s[1:]
	}
	return s != "" && (isDecimalSpecial(s) || isDecimalNumber(s))
}

func isDecimalSpecial(s string) bool {
	s = strings.ToLower(s)
	if s == "inf" || s == "infinity" {
		return true
	}
	s, isNaN := strings.CutPrefix(strings.TrimPrefix(s, "s"), "nan")
	_, payload := digits(s)
	return isNaN && (s == "" || payload)
}

// maxDecimalExponent is how many digits an exponent may have: CPython's
// decimal.MAX_EMAX has 18.
const maxDecimalExponent = 18

func isDecimalNumber(s string) bool {
	whole := cutDigits(&s)
	fraction := 0
	if strings.HasPrefix(s, ".") {
		s = s[1:]
		fraction = cutDigits(&s)
	}
	if whole+fraction == 0 {
		return false
	}
	if s == "" {
		return true
	}
	if s[0] != 'e' && s[0] != 'E' {
		return false
	}
	s = s[1:]
	if s != "" && (s[0] == '+' || s[0] == '-') {
		s = s[1:]
	}
	n := cutDigits(&s)
	return n > 0 && n <= maxDecimalExponent && s == ""
}

// cutDigits removes leading digits and counts them.
func cutDigits(s *string) int {
	n := 0
	for n < len(*s) && isDigit((*s)[n]) {
		n++
	}
	*s = (*s)[n:]
	return n
}

// checkTyped tells whether kombu can read the typed values in a scanned value.
func checkTyped(r Raw) error {
	_, err := DecodeValue(r)
	return err
}
