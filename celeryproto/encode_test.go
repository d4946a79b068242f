package celeryproto

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"
)

type inner struct {
	Deep   int
	Hidden string `json:"-"`
}

type outer struct {
	inner
	*Embedded
	Name    string    `json:"name"`
	Empty   []int     `json:"empty,omitempty"`
	Zero    time.Time `json:"zero,omitzero"`
	Pointer *int      `json:"pointer"`
	Price   Decimal   `json:"price"`
	Any     any       `json:"any"`
	unseen  int
	Deep    string `json:"deep"`
}

type Embedded struct{ Shallow bool }

type color int

func (c color) MarshalText() ([]byte, error) { return []byte("<red>"), nil }

type marshaler string

func (m marshaler) MarshalJSON() ([]byte, error) { return []byte(m), nil }

func TestEncodeGoValues(t *testing.T) {
	t.Parallel()
	n := 7
	_ = outer{}.unseen
	for want, v := range map[string]any{
		`{"1": "a", "2": "b"}`:    map[int]string{2: "b", 1: "a"},
		`{"false": 0, "true": 1}`: map[bool]int{true: 1, false: 0},
		`{"a": 1, "b": [2]}`:      map[any]any{"b": []int8{2}, "a": uint16(1)},
		`{"x": 1.5}`:              map[color]float64{},
		`null`:                    (*int)(nil),
		`7`:                       &n,
		`0.1`:                     float32(0.1),
		`"<red>"`:                 color(1),
		`[1, 2]`:                  [2]byte{1, 2},
		`{"a":  1}`:               Raw(`{"a":  1}`),
		`1e400`:                   json.Number("1e400"),
		`[null, null, null]`:      []any{[]any(nil), map[string]any(nil), Raw(nil)},
		`"127.0.0.1"`:             netip.MustParseAddr("127.0.0.1"),
		`{"k":1}`:                 marshaler(`{"k":1}`),
		`NaN`:                     float32(math.NaN()),
		`-5`:                      *big.NewInt(-5),
		`{"__type__": "bytes", "__value__": "x"}`: []byte("x"),
		`{"Deep": 1, "Shallow": true, "name": "n", "pointer": 7, "price": {"__type__": "decimal", "__value__": "1.10"}, "any": [1], "deep": "d"}`: outer{
			inner: inner{Deep: 1}, Embedded: &Embedded{true}, Name: "n", Pointer: &n, Price: "1.10", Any: []int{1}, Deep: "d"},
		`{"Deep": 0, "name": "", "pointer": null, "price": {"__type__": "decimal", "__value__": "0"}, "any": null, "deep": ""}`: &outer{Price: "0"},
	} {
		if _, skip := v.(map[color]float64); skip {
			v, want = map[string]float64{"x": 1.5}, `{"x": 1.5}`
		}
		got, err := EncodeValue(v)
		if err != nil || string(got) != want {
			t.Errorf("%T: %v\n got %s\nwant %s", v, err, got, want)
		}
	}
}

// panicking panics when it is encoded, panickingText as well.
type (
	panicking     struct{}
	panickingText struct{}
)

func (panicking) MarshalJSON() ([]byte, error)     { panic("no") }
func (panickingText) MarshalText() ([]byte, error) { panic(errors.New("no")) }

// zeroPanics has a method that omitzero asks.
type zeroPanics int

func (zeroPanics) IsZero() bool { panic("no") }

// What looks like a typed value and is one, or has a key more, is written.
func TestEncodeTyped(t *testing.T) {
	t.Parallel()
	for want, v := range map[string]any{
		`{"__type__": "date", "__value__": "2020-01-01"}`: map[string]any{"__type__": "date", "__value__": "2020-01-01"},
		`{"__type__": "money", "__value__": 1, "x": 1}`:   map[string]any{"__type__": "money", "__value__": 1, "x": 1},
		`{"__type__": "money"}`:                           map[string]any{"__type__": "money"},
		`{"n": 0}`: struct {
			N zeroPanics `json:"n,omitzero"`
		}{},
	} {
		if got, err := EncodeValue(v); err != nil || string(got) != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
}

func TestEncodeRefused(t *testing.T) {
	t.Parallel()
	cycle := map[string]any{}
	cycle["self"] = []any{cycle}
	huge := new(big.Int).Exp(big.NewInt(10), big.NewInt(4300), nil)
	for path, v := range map[string]any{
		"a.b[1]":  map[string]any{"a": map[string]any{"b": []any{1, func() {}}}},
		"[0]":     []any{time.Second},
		"x":       map[string]any{"x": 1i},
		"[1]":     []any{1, huge},
		"[2].d":   []any{1, 2, map[string]any{"d": Date{2023, 2, 29}}},
		"raw":     map[string]any{"raw": Raw(`{`)},
		"marshal": map[string]any{"marshal": marshaler(`{`)},
		"number":  map[string]any{"number": json.Number("x")},
		"decimal": map[string]any{"decimal": Decimal("x")},
		"far":     map[string]any{"far": time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"clock":   map[string]any{"clock": TimeOfDay{Hour: 24}},
		"":        map[float64]int{1.5: 1},
		"tag": map[string]any{"tag": struct {
			A int `json:",string"`
		}{}},
		"naive":       map[string]any{"naive": NaiveTime{}},
		"money":       map[string]any{"money": map[string]any{"__type__": "money", "__value__": 1}},
		"empty type":  map[string]any{"empty type": map[string]string{"__type__": "", "__value__": ""}},
		"no datetime": map[string]any{"no datetime": map[string]any{"__type__": "datetime", "__value__": "tomorrow"}},
		"struct": map[string]any{"struct": struct {
			Type  string `json:"__type__"`
			Value int    `json:"__value__"`
		}{"money", 1}},
		"raw money": map[string]any{"raw money": money},
		"marshaled": map[string]any{"marshaled": marshaler(money)},
		"panics":    map[string]any{"panics": panicking{}},
		"as text":   map[string]any{"as text": panickingText{}},
	} {
		dst := []byte("kept")
		got, err := AppendValue(dst, v)
		fault, ok := errors.AsType[*EncodeError](err)
		if !ok || fault.Path != path || string(got) != "kept" {
			t.Errorf("%s: %v, %s", path, err, got)
		}
	}
	if _, err := EncodeValue(cycle); !errors.Is(err, ErrTooDeep) {
		t.Errorf("cycle: %v", err)
	}
	deep := Raw(strings.Repeat("[", 500) + strings.Repeat("]", 500))
	if _, err := EncodeValue([]any{deep}); err != nil {
		t.Errorf("depth 501: %v", err)
	}
	if _, err := EncodeValue([][][][][][][][][][][][][]any{{{{{{{{{{{{{deep}}}}}}}}}}}}}); !errors.Is(err, ErrTooDeep) {
		t.Errorf("depth 513: %v", err)
	}
}

type (
	left  struct{ Same, Only int }
	right struct{ Same int }
)

func TestEncodeAmbiguousFieldsAreLeftOut(t *testing.T) {
	t.Parallel()
	v := struct {
		left
		right
	}{left{1, 2}, right{3}}
	if got := must(EncodeValue(v))(t); string(got) != `{"Only": 2}` {
		t.Errorf("got %s", got)
	}
}
