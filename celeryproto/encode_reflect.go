package celeryproto

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

var (
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// reflected writes a value of any other type.
func (e *encoder) reflected(v reflect.Value) error {
	if v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			e.raw("null")
			return nil
		}
	}
	switch {
	case v.Type().Implements(jsonMarshaler):
		return e.marshaler(v)
	case v.Type().Implements(textMarshaler):
		var text []byte
		err := guarded(v.Interface(), "MarshalText", func() (err error) {
			text, err = v.Interface().(encoding.TextMarshaler).MarshalText()
			return err
		})
		if err != nil {
			return errValue(v.Interface(), err)
		}
		e.dst = AppendString(e.dst, string(text))
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return e.nested(func() error { return e.encode(v.Elem().Interface()) })
	case reflect.String:
		e.dst = AppendString(e.dst, v.String())
	case reflect.Bool:
		e.bool(v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		e.dst = strconv.AppendInt(e.dst, v.Int(), 10)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		e.dst = strconv.AppendUint(e.dst, v.Uint(), 10)
	case reflect.Float32:
		if f := v.Float(); !math.IsNaN(f) && !math.IsInf(f, 0) {
			e.dst = appendFloatRepr(e.dst, f, 32)
			return nil
		}
		e.dst = AppendFloat(e.dst, v.Float())
	case reflect.Float64:
		e.dst = AppendFloat(e.dst, v.Float())
	case reflect.Slice, reflect.Array:
		return e.list(v)
	case reflect.Map:
		return e.object(v)
	case reflect.Struct:
		return e.structure(v)
	default:
		return &EncodeError{Err: fmt.Errorf("%s has no counterpart in JSON", v.Type())}
	}
	return nil
}

func (e *encoder) marshaler(v reflect.Value) error {
	var b []byte
	err := guarded(v.Interface(), "MarshalJSON", func() (err error) {
		b, err = v.Interface().(json.Marshaler).MarshalJSON()
		return err
	})
	if err == nil {
		err = checkRaw(b, e.limits())
	}
	if err != nil {
		return errValue(v.Interface(), err)
	}
	e.dst = append(e.dst, b...)
	return nil
}

// nested runs one level deeper.
func (e *encoder) nested(f func() error) error {
	if e.depth++; e.depth > DefaultMaxDepth {
		return &EncodeError{Err: ErrTooDeep}
	}
	err := f()
	e.depth--
	return err
}

// list writes a slice or an array; bytes of any named type are bytes.
func (e *encoder) list(v reflect.Value) error {
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
		e.bytes(v.Bytes())
		return nil
	}
	return e.array(v)
}

func (e *encoder) array(v reflect.Value) error {
	if v.Kind() == reflect.Slice && v.IsNil() {
		e.raw("null")
		return nil
	}
	return e.nested(func() error {
		e.raw("[")
		for i := range v.Len() {
			if i > 0 {
				e.raw(", ")
			}
			if err := e.encode(v.Index(i).Interface()); err != nil {
				return within("["+strconv.Itoa(i)+"]", err)
			}
		}
		e.raw("]")
		return nil
	})
}

// object writes a map with its keys sorted.
func (e *encoder) object(v reflect.Value) error {
	if v.IsNil() {
		e.raw("null")
		return nil
	}
	type entry struct {
		key   string
		value reflect.Value
	}
	entries := make([]entry, 0, v.Len())
	for iter := v.MapRange(); iter.Next(); {
		key, err := mapKey(iter.Key())
		if err != nil {
			return err
		}
		entries = append(entries, entry{key, iter.Value()})
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	start := len(e.dst)
	var seen markerKeys
	err := e.nested(func() error {
		e.raw("{")
		for i, entry := range entries {
			if i > 0 {
				e.raw(", ")
			}
			seen |= markerOf(entry.key)
			if err := e.member(entry.key, entry.value); err != nil {
				return err
			}
		}
		e.raw("}")
		return nil
	})
	if err != nil {
		return err
	}
	return e.readable(seen, start)
}

// readable checks the object that was written from start on, when it has the keys of a typed value.
func (e *encoder) readable(seen markerKeys, start int) error {
	if seen != markerBoth {
		return nil
	}
	if err := checkTyped(e.dst[start:]); err != nil {
		return &EncodeError{Err: err}
	}
	return nil
}

func (e *encoder) member(key string, v reflect.Value) error {
	e.dst = AppendString(e.dst, key)
	e.raw(": ")
	if err := e.encode(v.Interface()); err != nil {
		return within("."+key, err)
	}
	return nil
}

// mapKey is what Python's json makes of a key that is no string.
func mapKey(k reflect.Value) (string, error) {
	switch k.Kind() {
	case reflect.String:
		return k.String(), nil
	case reflect.Bool:
		return strconv.FormatBool(k.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(k.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return strconv.FormatUint(k.Uint(), 10), nil
	case reflect.Interface:
		if !k.IsNil() {
			return mapKey(k.Elem())
		}
	}
	return "", &EncodeError{Err: fmt.Errorf("map key of type %s", k.Type())}
}

// structure writes the exported fields of a struct.
func (e *encoder) structure(v reflect.Value) error {
	fields, err := structFields(v.Type())
	if err != nil {
		return err
	}
	start := len(e.dst)
	var seen markerKeys
	err = e.nested(func() error {
		e.raw("{")
		for _, f := range fields {
			value, ok := f.in(v)
			if !ok {
				continue
			}
			if seen != 0 {
				e.raw(", ")
			}
			seen |= markerOf(f.name)
			if err := e.member(f.name, value); err != nil {
				return err
			}
		}
		e.raw("}")
		return nil
	})
	if err != nil {
		return err
	}
	return e.readable(seen, start)
}

// within puts the place in front of the path of an error.
func within(place string, err error) error {
	inner, ok := errors.AsType[*EncodeError](err)
	if !ok {
		return &EncodeError{Path: strings.TrimPrefix(place, "."), Err: err}
	}
	path := place
	if inner.Path != "" && !strings.HasPrefix(inner.Path, "[") {
		path += "."
	}
	path = strings.TrimPrefix(path+inner.Path, ".")
	if len(path) > maxPath {
		path = strings.ToValidUTF8(path[:maxPath], "") + "…"
	}
	return &EncodeError{Path: path, Err: inner.Err}
}

// maxPath bounds the path of an error in bytes: that of a circle would be as long as it may be deep.
const maxPath = 200
