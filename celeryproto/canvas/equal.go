package canvas

import (
	"bytes"
	"math/big"
	"slices"
	"strings"

	"github.com/dfws/dfws/celeryproto"
)

// manyItems is from where on add looks for an item by its key instead of
// comparing it with each.
const manyItems = 16

// add appends what is not there yet, by Python's ==.
func (l *list) add(v value) {
	if len(l.items) < manyItems {
		for _, item := range l.items {
			if equal(item, v, maxNesting) {
				return
			}
		}
		l.items = append(l.items, v)
		return
	}
	if len(l.keys) == 0 {
		l.keys = make(map[string]bool, 2*len(l.items))
		for _, item := range l.items {
			l.keys[equalKey(item)] = true
		}
	}
	if key := equalKey(v); !l.keys[key] {
		l.keys[key] = true
		l.items = append(l.items, v)
	}
}

// equalKey is the same text for values that are equal, as far as signatures
// go: numbers in different forms have different ones.
func equalKey(v value) string { return string(appendKey(nil, v, maxNesting)) }

func appendKey(dst []byte, v value, depth int) []byte {
	if depth == 0 {
		return dst
	}
	switch v := comparable(v).(type) {
	case *list:
		open := byte('[')
		if v.tuple {
			open = '('
		}
		dst = append(dst, open)
		for _, item := range v.items {
			dst = append(appendKey(dst, item, depth-1), ',')
		}
		return append(dst, ']')
	case *dict:
		v.open()
		order := make([]int, len(v.entries))
		for i := range order {
			order[i] = i
		}
		slices.SortFunc(order, func(a, b int) int { return strings.Compare(v.entries[a].key, v.entries[b].key) })
		dst = append(dst, '{')
		for _, i := range order {
			dst = append(celeryproto.AppendString(dst, v.entries[i].key), ':')
			dst = append(appendKey(dst, v.entries[i].val, depth-1), ',')
		}
		return append(dst, '}')
	case celeryproto.Raw:
		if text, ok := textOf(v); ok {
			return celeryproto.AppendString(dst, text)
		}
		return append(dst, bytes.Trim(v, " \t\r\n")...)
	}
	return dst
}

// equal is Python's a == b. What is nested too deeply is equal to nothing.
func equal(a, b value, depth int) bool {
	if a == nil || b == nil || depth == 0 {
		return a == nil && b == nil
	}
	a, b = comparable(a), comparable(b)
	switch a := a.(type) {
	case *list:
		other, ok := b.(*list)
		return ok && a.equal(other, depth-1)
	case *dict:
		other, ok := b.(*dict)
		return ok && a.equal(other, depth-1)
	case celeryproto.Raw:
		other, ok := b.(celeryproto.Raw)
		return ok && equalScalar(a, other)
	}
	return false
}

// comparable reduces a value to a list, a dict or a scalar.
func comparable(v value) value {
	switch v := v.(type) {
	case *Signature:
		return v.d
	case arguments:
		l, ok := opened(v.raw).(*list)
		if !ok {
			return v.raw
		}
		l.tuple = v.tuple
		return l
	default:
		return opened(v)
	}
}

func (l *list) equal(other *list, depth int) bool {
	if l == other {
		return true
	}
	if len(l.items) != len(other.items) || l.tuple != other.tuple {
		return false
	}
	for i := range l.items {
		if !equal(l.items[i], other.items[i], depth) {
			return false
		}
	}
	return true
}

func (d *dict) equal(other *dict, depth int) bool {
	if d == other || d.raw != nil && bytes.Equal(d.raw, other.raw) {
		return true
	}
	if d.len() != other.len() {
		return false
	}
	for _, e := range d.entries {
		if !equal(e.val, other.get(e.key), depth) {
			return false
		}
	}
	return true
}

// equalScalar compares texts, numbers, booleans and None. As in Python, True is 1.
func equalScalar(a, b celeryproto.Raw) bool {
	if a.Kind() == celeryproto.KindString || b.Kind() == celeryproto.KindString {
		x, okX := textOf(a)
		y, okY := textOf(b)
		return okX && okY && x == y
	}
	if bytes.Equal(bytes.Trim(a, " \t\r\n"), bytes.Trim(b, " \t\r\n")) {
		return true
	}
	x, okX := numberOf(a)
	y, okY := numberOf(b)
	return okX && okY && x.Cmp(y) == 0
}

// numberOf is a number or boolean as a rational; ok is false for others, for NaN
// and for the infinities.
func numberOf(r celeryproto.Raw) (n *big.Rat, ok bool) {
	if b, err := r.Bool(); err == nil {
		if b {
			return big.NewRat(1, 1), true
		}
		return new(big.Rat), true
	}
	v, err := r.Number()
	if err != nil {
		return nil, false
	}
	switch v := v.(type) {
	case int64:
		return new(big.Rat).SetInt64(v), true
	case *big.Int:
		return new(big.Rat).SetInt(v), true
	case float64:
		n = new(big.Rat).SetFloat64(v)
		return n, n != nil
	}
	return nil, false
}
