package gocelery

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/dfws/dfws/celeryproto"
)

// decode is what encoding/json makes of a JSON value, and so what gocelery gives to tasks and returns as results: nil, bool,
// float64, string, []any, map[string]any. NaN, the infinities and numbers out of range, which Python writes and encoding/json
// refuses, are float64 too. kombu's typed values are the maps that they are written as.
func decode(r celeryproto.Raw) (any, error) {
	var v any
	if err := json.Unmarshal(r, &v); err == nil {
		return v, nil
	}
	return decodeLoose(r)
}

// decodeLoose is decode for values with numbers that encoding/json refuses.
func decodeLoose(r celeryproto.Raw) (any, error) {
	switch r.Kind() {
	case celeryproto.KindNumber:
		return float(r)
	case celeryproto.KindArray:
		elements, err := r.Array()
		if err != nil {
			return nil, errSyntax
		}
		list := make([]any, len(elements))
		for i, element := range elements {
			if list[i], err = decodeLoose(element); err != nil {
				return nil, err
			}
		}
		return list, nil
	case celeryproto.KindObject:
		members, err := r.Object()
		if err != nil {
			return nil, errSyntax
		}
		m := make(map[string]any, len(members))
		for _, member := range members {
			v, err := decodeLoose(member.Value)
			if err != nil {
				return nil, err
			}
			m[strings.ToValidUTF8(member.Key, "\uFFFD")] = v
		}
		return m, nil
	default:
		var v any
		if err := json.Unmarshal(r, &v); err != nil {
			return nil, errSyntax
		}
		return v, nil
	}
}

// Errors of values that a task cannot be given. They do not contain the value.
var (
	errSyntax = errors.New("not a JSON value")
	errRange  = errors.New("number out of range")
)

// float is a number as float64; one out of range is an infinity.
func float(r celeryproto.Raw) (float64, error) {
	f, err := strconv.ParseFloat(strings.TrimSpace(r.String()), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, errSyntax
	}
	return f, nil
}

// argument converts an argument for a parameter of type t. Where gocelery can do it the result is the same: float64 cut off for
// an int, float64 rounded for a float32, and decode's types for parameters of these types. Integers keep all their digits. Other
// parameters, with which gocelery's worker ends in a panic, are filled by encoding/json.
func argument(r celeryproto.Raw, t reflect.Type) (reflect.Value, error) {
	v := reflect.New(t).Elem()
	kind := r.Kind()
	switch {
	case kind == celeryproto.KindNull:
		if !takesNull(t) {
			return v, fmt.Errorf("null, want %s", t)
		}
		return v, nil
	case decodesItself(t):
	case kind == celeryproto.KindNumber && v.CanInt():
		return v, setInt(v, r)
	case kind == celeryproto.KindNumber && v.CanUint():
		return v, setUint(v, r)
	case kind == celeryproto.KindNumber && v.CanFloat():
		f, err := float(r)
		v.SetFloat(f)
		return v, err
	default:
		decoded, err := decode(r)
		if err != nil {
			return v, err
		}
		if d := reflect.ValueOf(decoded); d.Type().AssignableTo(t) {
			return d, nil
		}
	}
	if err := json.Unmarshal(r, v.Addr().Interface()); err != nil {
		return v, fmt.Errorf("%s, want %s", kind, t) // encoding/json's error has the value in it
	}
	return v, nil
}

func takesNull(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Slice, reflect.Map:
		return true
	default:
		return false
	}
}

var (
	unmarshalerType     = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// decodesItself tells whether a type has a method for encoding/json.
func decodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(unmarshalerType) || p.Implements(textUnmarshalerType)
}

// setInt sets an integer, with the fraction cut off.
func setInt(v reflect.Value, r celeryproto.Raw) error {
	n, err := strconv.ParseInt(strings.TrimSpace(r.String()), 10, 64)
	if err != nil {
		f, err := float(r)
		if err != nil {
			return err
		}
		if f = math.Trunc(f); !(f >= -1<<63 && f < 1<<63) { // NaN is neither
			return errRange
		}
		n = int64(f)
	}
	if v.OverflowInt(n) {
		return errRange
	}
	v.SetInt(n)
	return nil
}

// setUint is setInt for integers without sign.
func setUint(v reflect.Value, r celeryproto.Raw) error {
	n, err := strconv.ParseUint(strings.TrimSpace(r.String()), 10, 64)
	if err != nil {
		f, err := float(r)
		if err != nil {
			return err
		}
		if f = math.Trunc(f); !(f >= 0 && f < 1<<64) {
			return errRange
		}
		n = uint64(f)
	}
	if v.OverflowUint(n) {
		return errRange
	}
	v.SetUint(n)
	return nil
}
