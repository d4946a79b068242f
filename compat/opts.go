package compat

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/dfws/dfws/celeryproto"
)

// Timedelta is a duration among the options of a signal. A browser gets it as Django writes a timedelta, "P1DT02H03M04.000005S"; so does a
// worker, whose own JSON knows no durations. (A plain time.Duration is refused: nobody can tell nanoseconds from seconds.)
type Timedelta time.Duration

// String returns the duration as django.utils.duration.duration_iso_string does, in microseconds.
func (d Timedelta) String() string {
	micros := time.Duration(d).Microseconds()
	sign := ""
	if micros < 0 {
		sign, micros = "-", -micros
	}
	seconds, micros := micros/1e6, micros%1e6
	fraction := ""
	if micros != 0 {
		fraction = fmt.Sprintf(".%06d", micros)
	}
	return fmt.Sprintf("%sP%dDT%02dH%02dM%02d%sS", sign, seconds/86400, seconds/3600%24, seconds/60%60, seconds%60, fraction)
}

// MarshalText implements encoding.TextMarshaler.
func (d Timedelta) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// EncodeOpts encodes the options of a signal for a browser, as json.dumps does with Django's DjangoJSONEncoder: dates in ISO 8601 with
// milliseconds, decimals and UUIDs as texts. v is what celeryproto.EncodeValue takes (a struct, a map, nil), or a celeryproto.Raw as a task carries it,
// whose typed values become what Python would make of them. nil and null are {}. Bytes are refused, as in Python.
func EncodeOpts(v any) (celeryproto.Raw, error) {
	raw, isRaw := v.(celeryproto.Raw)
	if !isRaw {
		var err error
		if raw, err = celeryproto.EncodeValue(v); err != nil {
			return nil, fmt.Errorf("compat: options: %w", err)
		}
	}
	if len(raw) == 0 {
		return celeryproto.Raw(emptyObject), nil
	}
	facts, err := celeryproto.Inspect(raw, celeryproto.JSONLimits{})
	if err != nil {
		return nil, fmt.Errorf("compat: options: %w", err)
	}
	switch {
	case facts.Kind == celeryproto.KindNull:
		return celeryproto.Raw(emptyObject), nil
	case facts.TypedMarker:
		return appendTyped(make([]byte, 0, len(raw)), raw)
	case isRaw:
		return appendNormal(make([]byte, 0, len(raw)+len(raw)/8), raw), nil
	default:
		return raw, nil
	}
}

// appendNormal appends checked JSON with the separators of json.dumps and everything outside of ASCII escaped. Numbers stay as they are.
func appendNormal(dst []byte, raw celeryproto.Raw) []byte {
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; c {
		case ' ', '\t', '\r', '\n':
		case ',', ':':
			dst = append(dst, c, ' ')
		case '"':
			end, plain := stringEnd(raw, i)
			dst = appendText(dst, raw[i:end], plain)
			i = end - 1
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// stringEnd returns where the text that starts at i ends, and whether json.dumps would write it the same way.
func stringEnd(raw celeryproto.Raw, i int) (end int, plain bool) {
	plain = true
	for end = i + 1; end < len(raw) && raw[end] != '"'; end++ {
		switch c := raw[end]; {
		case c == '\\':
			plain = false
			end++
		case c >= 0x7f:
			plain = false
		}
	}
	return min(end+1, len(raw)), plain
}

// appendText appends a JSON text, given with its quotes.
func appendText(dst []byte, quoted celeryproto.Raw, plain bool) []byte {
	if !plain {
		if s, err := quoted.Text(); err == nil {
			return celeryproto.AppendString(dst, s)
		}
	}
	return append(dst, quoted...)
}

// appendTyped is appendNormal for options with typed values somewhere. Such options come from workers, never from browsers.
func appendTyped(dst []byte, raw celeryproto.Raw) ([]byte, error) {
	switch raw.Kind() {
	case celeryproto.KindArray:
		elements, err := raw.Array()
		if err != nil {
			return nil, fmt.Errorf("compat: options: %w", err)
		}
		dst = append(dst, '[')
		for i, element := range elements {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			if dst, err = appendTyped(dst, element); err != nil {
				return nil, err
			}
		}
		return append(dst, ']'), nil
	case celeryproto.KindObject:
		return appendTypedObject(dst, raw)
	default:
		return appendNormal(dst, raw), nil
	}
}

// Keys of a typed value (kombu 5.7, utils/json.py).
const (
	markerType  = "__type__"
	markerValue = "__value__"
)

func appendTypedObject(dst []byte, raw celeryproto.Raw) ([]byte, error) {
	members, err := raw.Object()
	if err != nil {
		return nil, fmt.Errorf("compat: options: %w", err)
	}
	members = mergeDuplicates(members)
	_, hasType := members.Get(markerType)
	_, hasValue := members.Get(markerValue)
	if len(members) == 2 && hasType && hasValue {
		text, err := browserText(raw)
		if err != nil {
			return nil, fmt.Errorf("compat: options: %w", err)
		}
		return celeryproto.AppendString(dst, text), nil
	}
	dst = append(dst, '{')
	for i, m := range members {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = celeryproto.AppendString(dst, m.Key)
		dst = append(dst, ": "...)
		if dst, err = appendTyped(dst, m.Value); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

var (
	errBytes     = errors.New("bytes cannot be sent to a browser")
	errAwareTime = errors.New("a time of day with a timezone cannot be sent to a browser")
)

// browserText is what DjangoJSONEncoder makes of a typed value.
func browserText(marker celeryproto.Raw) (string, error) {
	v, err := celeryproto.DecodeValue(marker)
	if err != nil {
		return "", err
	}
	switch v := v.(type) {
	case time.Time:
		return jsonDatetime(celeryproto.FormatISOTime(v), v.Nanosecond()/1000), nil
	case celeryproto.NaiveTime:
		return jsonDatetime(v.String(), v.Microsecond), nil
	case celeryproto.Date:
		return v.String(), nil
	case celeryproto.TimeOfDay:
		if v.Aware {
			return "", errAwareTime
		}
		text := v.String()
		if v.Microsecond != 0 {
			text = text[:len("15:04:05.000")]
		}
		return text, nil
	case celeryproto.Decimal:
		return string(v), nil
	case uuid.UUID:
		return v.String(), nil
	case []byte:
		return "", errBytes
	default:
		return "", errors.New("a typed value of type " + strconv.Quote(fmt.Sprintf("%T", v)) + " cannot be sent to a browser")
	}
}

// jsonDatetime cuts an isoformat to milliseconds and writes UTC as Z (ECMA-262, date time string format).
func jsonDatetime(iso string, micros int) string {
	const toMillis, toMicros = len("2006-01-02T15:04:05.000"), len("2006-01-02T15:04:05.000000")
	if micros != 0 {
		iso = iso[:toMillis] + iso[toMicros:]
	}
	const utc = "+00:00"
	if len(iso) > len(utc) && iso[len(iso)-len(utc):] == utc {
		iso = iso[:len(iso)-len(utc)] + "Z"
	}
	return iso
}
