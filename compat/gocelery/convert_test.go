package gocelery

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

func TestDecodeWhatPythonWrites(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]any{
		"null": nil, " true ": true, "5": 5.0, "-0": math.Copysign(0, -1), "1e400": math.Inf(1), "-1e400": math.Inf(-1),
		"NaN": math.NaN(), "-Infinity": math.Inf(-1), `"\ud800x"`: "\uFFFDx", `"ü"`: "ü", "[]": []any{}, "{}": map[string]any{},
		"9007199254740993": 9007199254740992.0, strings.Repeat("9", 400): math.Inf(1),
		`[1, [NaN], {"a": Infinity, "a": 2, "\ud800": "\ud800"}]`: []any{1.0, []any{math.NaN()}, map[string]any{"a": 2.0, "\uFFFD": "\uFFFD"}},
		`{"__type__": "datetime", "__value__": "2024-01-02T03:04:05"}`: map[string]any{
			"__type__": "datetime", "__value__": "2024-01-02T03:04:05",
		},
	} {
		got, err := decode(celeryproto.Raw(text))
		if err != nil || !same(got, want) {
			t.Errorf("%s: %#v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "nul", "[1,", `{"a": NaN`, "Infinit", `"`, "NaN 5"} {
		if got, err := decode(celeryproto.Raw(text)); err == nil {
			t.Errorf("%q: %#v", text, got)
		}
	}
}

// same is reflect.DeepEqual where NaN equals NaN and a zero its sign.
func same(a, b any) bool {
	switch a := a.(type) {
	case float64:
		b, ok := b.(float64)
		return ok && (math.Float64bits(a) == math.Float64bits(b) || math.IsNaN(a) && math.IsNaN(b))
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !same(a[i], b[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for key := range a {
			if _, there := b[key]; !there || !same(a[key], b[key]) {
				return false
			}
		}
		return true
	default:
		return reflect.DeepEqual(a, b)
	}
}

type (
	level  int8
	point  struct{ X, Y int }
	parsed struct{ text string }
)

func (p *parsed) UnmarshalText(b []byte) error {
	p.text = string(b)
	return nil
}

func TestArgument(t *testing.T) {
	t.Parallel()
	five := 5
	for _, c := range []struct {
		text string
		want any
	}{
		{"5", 5}, {"5.0", 5}, {"2.9", 2}, {"-2.9", -2}, {"1e3", 1000}, {"9007199254740993", 9007199254740993},
		{"-9223372036854775808", int64(math.MinInt64)}, {"127", int8(127)}, {"5", level(5)}, {"200.7", uint8(200)}, {"-0.5", uint(0)},
		{"18446744073709551615", uint64(math.MaxUint64)}, {"5", 5.0}, {"0.1", float32(0.1)}, {"Infinity", math.Inf(1)}, {"1e400", math.Inf(1)},
		{`"x"`, "x"}, {"5", json.Number("5")}, {"false", false}, {"null", []int(nil)}, {"null", map[string]any(nil)}, {"null", (*int)(nil)},
		{"5", &five}, {"[1, 2]", []int{1, 2}}, {"[1, 2]", []any{1.0, 2.0}}, {"[NaN]", []any{math.NaN()}}, {`{"a": 1}`, map[string]any{"a": 1.0}},
		{`{"a": 1}`, map[string]int{"a": 1}}, {`{"X": 1, "y": 2}`, point{1, 2}}, {`"aGk="`, []byte("hi")}, {`"t"`, parsed{"t"}},
		{`"2024-01-02T03:04:05Z"`, time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)},
	} {
		got, err := argument(celeryproto.Raw(c.text), reflect.TypeOf(c.want))
		if err != nil || !same(got.Interface(), c.want) {
			t.Errorf("%s as %T: %#v, %v", c.text, c.want, got, err)
		}
	}
	for _, c := range []struct {
		text string
		into any
		fact string
	}{
		{"null", 0, "null, want int"}, {"null", "", "null, want string"}, {`"5"`, 0, "string, want int"}, {"true", 0, "bool, want int"},
		{"1e300", 0, "out of range"}, {"NaN", 0, "out of range"}, {"Infinity", uint(0), "out of range"}, {"9223372036854775808", 0, "out of range"},
		{"128", int8(0), "out of range"}, {"-1", uint(0), "out of range"}, {"256", uint8(0), "out of range"},
		{"5", "", "number, want string"}, {"5", false, "number, want bool"}, {"[5]", map[string]any{}, "array, want map[string]interface {}"},
		{`["secret"]`, []int{}, "array, want []int"}, {"[NaN]", []float64{}, "array, want []float64"}, {`"secret"`, time.Time{}, "string, want time.Time"},
		{`"`, "", "not a JSON value"}, {"12x", 0, "not a JSON value"}, {"12x", uint(0), "not a JSON value"},
	} {
		got, err := argument(celeryproto.Raw(c.text), reflect.TypeOf(c.into))
		if err == nil || !strings.Contains(err.Error(), c.fact) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s as %T: %v, %v", c.text, c.into, got, err)
		}
	}
}

// FuzzDecode holds decode to encoding/json, and to what celeryproto takes for JSON.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{
		"null", "true", "5", "-0.0", "NaN", "-Infinity", "1e400", `"\ud800"`, "[1, [NaN]]", `{"a": {"b": Infinity}, "a": []}`, "[", " 5 ", "\"\x7f\"",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		raw := celeryproto.Raw(b)
		got, err := decode(raw)
		var want any
		if json.Unmarshal(b, &want) == nil {
			if err != nil || !same(got, want) {
				t.Errorf("%#v, %v; encoding/json: %#v", got, err, want)
			}
		}
		if _, syntax := celeryproto.EncodeValue(raw); syntax == nil && err != nil {
			t.Errorf("JSON of Python, and %v", err)
		}
	})
}

// FuzzArgument looks for texts that no error is found in and that a call then panics with.
func FuzzArgument(f *testing.F) {
	types := []reflect.Type{
		reflect.TypeFor[int](), reflect.TypeFor[int8](), reflect.TypeFor[uint16](), reflect.TypeFor[float32](), reflect.TypeFor[string](),
		reflect.TypeFor[bool](), reflect.TypeFor[any](), reflect.TypeFor[[]any](), reflect.TypeFor[map[string]any](), reflect.TypeFor[*int](),
		reflect.TypeFor[[]string](), reflect.TypeFor[point](), reflect.TypeFor[time.Time](), reflect.TypeFor[level](), reflect.TypeFor[parsed](),
	}
	for i, text := range []string{"5", "300", "2.5", "NaN", `"x"`, "true", "null", "[1]", `{"a": 1}`, "null", `["x"]`, `{"X": 1}`, `"2024"`, "9"} {
		f.Add([]byte(text), uint8(i))
	}
	f.Fuzz(func(t *testing.T, b []byte, n uint8) {
		typ := types[int(n)%len(types)]
		v, err := argument(celeryproto.Raw(b), typ)
		if err == nil && !v.Type().AssignableTo(typ) {
			t.Errorf("%s for a %s", v.Type(), typ)
		}
		var number float64 // what gocelery does with it
		if typ.Kind() == reflect.Int && json.Unmarshal(b, &number) == nil && math.Abs(number) < 1<<53 && strings.TrimSpace(string(b)) != "null" {
			if err != nil || v.Int() != int64(number) {
				t.Errorf("%v, %v, want %d", v, err, int64(number))
			}
		}
	})
}
