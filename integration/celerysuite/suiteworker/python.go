package main

import (
	"fmt"
	"math/big"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/worker"
)

// pythonError is an exception of Python's own.
func pythonError(class, format string, args ...any) error {
	return &worker.Exception{Type: class, Args: []any{fmt.Sprintf(format, args...)}}
}

// className is what Python calls the type of a decoded value.
func className(v any) string {
	switch v.(type) {
	case nil:
		return "NoneType"
	case bool:
		return "bool"
	case int64, *big.Int:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case []any:
		return "list"
	case map[string]any:
		return "dict"
	case []byte:
		return "bytes"
	default:
		return fmt.Sprintf("%T", v)
	}
}

// plus is Python's a + b for what tests add: numbers, texts and lists.
func plus(a, b any) (any, error) {
	switch x := a.(type) {
	case string:
		if y, ok := b.(string); ok {
			return x + y, nil
		}
	case []any:
		if y, ok := b.([]any); ok {
			return append(append(make([]any, 0, len(x)+len(y)), x...), y...), nil
		}
	}
	return arithmetic("+", a, b, func(x, y float64) float64 { return x + y }, (*big.Int).Add)
}

// times is Python's a * b for numbers.
func times(a, b any) (any, error) {
	return arithmetic("*", a, b, func(x, y float64) float64 { return x * y }, (*big.Int).Mul)
}

func arithmetic(
	operator string, a, b any, floats func(x, y float64) float64, integers func(z, x, y *big.Int) *big.Int,
) (any, error) {
	x, xIsInt := integer(a)
	y, yIsInt := integer(b)
	if xIsInt && yIsInt {
		z := integers(new(big.Int), x, y)
		if z.IsInt64() {
			return z.Int64(), nil
		}
		return z, nil
	}
	v, xIsNumber := float(a)
	w, yIsNumber := float(b)
	if !xIsNumber || !yIsNumber {
		return nil, pythonError("TypeError", "unsupported operand type(s) for %s: '%s' and '%s'", operator, className(a), className(b))
	}
	return floats(v, w), nil
}

func integer(v any) (*big.Int, bool) {
	switch n := v.(type) {
	case int64:
		return big.NewInt(n), true
	case *big.Int:
		return n, true
	case bool:
		if n {
			return big.NewInt(1), true
		}
		return new(big.Int), true
	default:
		return nil, false
	}
}

func float(v any) (float64, bool) {
	if x, ok := v.(float64); ok {
		return x, true
	}
	n, ok := integer(v)
	if !ok {
		return 0, false
	}
	x, _ := new(big.Float).SetInt(n).Float64()
	return x, true
}

// sum is Python's sum(values).
func sum(values any) (any, error) {
	list, ok := values.([]any)
	if !ok {
		return nil, pythonError("TypeError", "'%s' object is not iterable", className(values))
	}
	var total any = int64(0)
	for _, v := range list {
		var err error
		if total, err = plus(total, v); err != nil {
			return nil, err
		}
	}
	return total, nil
}

// truth is Python's bool(v).
func truth(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	default:
		return true
	}
}

// orNone is a text, None when it is empty: what a request has of an ID that is not set.
func orNone(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// keywords reads the keyword arguments of a function with *args: those that it has by name, the rest refused as Python does.
type keywords struct {
	function string
	members  celeryproto.Members
	err      error
}

// take removes a keyword argument and returns its value, or def when it was not given.
func (k *keywords) take(name string, def any) any {
	raw, given := k.members.Get(name)
	if !given || k.err != nil {
		return def
	}
	k.members.Delete(name)
	v, err := celeryproto.DecodeValue(raw)
	if err != nil {
		k.err = err
	}
	return v
}

// end returns the error of what was read, or of what is left.
func (k *keywords) end() error {
	if k.err == nil && len(k.members) > 0 {
		return pythonError("TypeError", "%s() got an unexpected keyword argument '%s'", k.function, k.members[0].Key)
	}
	return k.err
}
