package celeryproto

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// structField is one field of a struct as encoding/json sees it.
type structField struct {
	name      string
	index     []int
	tagged    bool
	omitEmpty bool
	omitZero  bool
}

// in finds the field in a struct; ok is false when it is to be left out.
func (f *structField) in(v reflect.Value) (value reflect.Value, ok bool) {
	for _, i := range f.index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return v, false
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	if f.omitZero && isZero(v) || f.omitEmpty && isEmpty(v) {
		return v, false
	}
	return v, true
}

func isZero(v reflect.Value) bool {
	if z, ok := v.Interface().(interface{ IsZero() bool }); ok {
		if v.Kind() == reflect.Pointer && v.IsNil() {
			return true
		}
		zero := false
		err := guarded(z, "IsZero", func() error { zero = z.IsZero(); return nil })
		return err == nil && zero // what cannot tell is written
	}
	return v.IsZero()
}

func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	default:
		return v.IsZero()
	}
}

type structInfo struct {
	fields []structField
	err    error
}

// structCache keeps what the tags of a type say: types are few and fixed.
var structCache sync.Map // reflect.Type → structInfo

func structFields(t reflect.Type) ([]structField, error) {
	if info, ok := structCache.Load(t); ok {
		return info.(structInfo).fields, info.(structInfo).err
	}
	var all []structField
	err := collectFields(t, nil, map[reflect.Type]bool{}, &all)
	info := structInfo{fields: visibleFields(all), err: err}
	structCache.Store(t, info)
	return info.fields, info.err
}

// collectFields lists the fields of t and of the structs embedded in it.
func collectFields(t reflect.Type, index []int, active map[reflect.Type]bool, all *[]structField) error {
	if active[t] {
		return nil
	}
	active[t] = true
	defer delete(active, t)
	for i := range t.NumField() {
		sf := t.Field(i)
		tag := sf.Tag.Get("json")
		if tag == "-" {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		at := append(slices.Clone(index), i)
		if sf.Anonymous && name == "" {
			inner := sf.Type
			if inner.Kind() == reflect.Pointer {
				if !sf.IsExported() {
					continue
				}
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct {
				if err := collectFields(inner, at, active, all); err != nil {
					return err
				}
				continue
			}
		}
		if !sf.IsExported() {
			continue
		}
		f := structField{name: cmp.Or(name, sf.Name), index: at, tagged: name != ""}
		for option := range strings.SplitSeq(options, ",") {
			switch option {
			case "":
			case "omitempty":
				f.omitEmpty = true
			case "omitzero":
				f.omitZero = true
			default:
				return &EncodeError{Err: fmt.Errorf("%s.%s: json tag option %q is not supported", t, sf.Name, option)}
			}
		}
		*all = append(*all, f)
	}
	return nil
}

// visibleFields applies Go's rules for names that occur several times: the
// shallowest wins, then the tagged one; else none of them counts.
func visibleFields(all []structField) []structField {
	best := map[string]int{} // name → index of its winner, -1 for none
	for i, f := range all {
		j, seen := best[f.name]
		if !seen {
			best[f.name] = i
			continue
		}
		if j < 0 {
			j = -j - 1
		}
		old := all[j]
		switch {
		case len(f.index) < len(old.index), len(f.index) == len(old.index) && f.tagged && !old.tagged:
			best[f.name] = i
		case len(f.index) == len(old.index) && f.tagged == old.tagged:
			best[f.name] = -j - 1 // ambiguous until a better one comes
		}
	}
	var visible []structField
	for i, f := range all {
		if best[f.name] == i {
			visible = append(visible, f)
		}
	}
	return visible
}
