package worker

import (
	"errors"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/dfws/dfws/celeryproto"
)

type point struct {
	X int `arg:"x"`
	Y int `arg:"y,omitempty"`
}

type everything struct {
	Int     int                    `arg:"int,omitempty"`
	Small   int8                   `arg:"small,omitempty"`
	Uint    uint64                 `arg:"uint,omitempty"`
	Float   float64                `arg:"float,omitempty"`
	Single  float32                `arg:"single,omitempty"`
	Big     *big.Int               `arg:"big"`
	Text    string                 `arg:"text,omitempty"`
	Bool    bool                   `arg:"bool,omitempty"`
	Any     any                    `arg:"any,omitempty"`
	Raw     celeryproto.Raw        `arg:"raw,omitempty"`
	Bytes   []byte                 `arg:"bytes,omitempty"`
	Time    time.Time              `arg:"time,omitempty"`
	TimePtr *time.Time             `arg:"time_ptr"`
	Naive   *celeryproto.NaiveTime `arg:"naive"`
	Date    *celeryproto.Date      `arg:"date"`
	Clock   *celeryproto.TimeOfDay `arg:"clock"`
	Decimal celeryproto.Decimal    `arg:"decimal,omitempty"`
	UUID    uuid.UUID              `arg:"uuid,omitempty"`
	Point   point                  `arg:"point,omitempty"`
	Points  []point                `arg:"points,omitempty"`
	ByName  map[string]point       `arg:"by_name,omitempty"`
	Ints    []int                  `arg:"ints,omitempty"`
	Pair    [2]int                 `arg:"pair,omitempty"`
	Blobs   [][]byte               `arg:"blobs,omitempty"`
	Times   []time.Time            `arg:"times,omitempty"`
	Typed   int                    `arg:"typed,text,omitempty"`
	TypedF  *float64               `arg:"typed_f,text"`
}

func bindKwargs[A any](t *testing.T, kwargs string) (A, error) {
	t.Helper()
	return bindBoth[A](t, "", kwargs)
}

func bindBoth[A any](t *testing.T, args, kwargs string) (A, error) {
	t.Helper()
	var a A
	p, err := planFor(reflect.TypeFor[A]())
	if err != nil {
		t.Fatal(err)
	}
	return a, p.bind(reflect.ValueOf(&a).Elem(), celeryproto.Raw(args), celeryproto.Raw(kwargs))
}

func TestBindValues(t *testing.T) {
	t.Parallel()
	huge, _ := new(big.Int).SetString("1000000000000000000000000000000", 10)
	utc := time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
	id := uuid.MustParse("12345678-1234-5678-1234-567812345678")
	one := 1.5
	for name, tc := range map[string]struct {
		kwargs string
		want   everything
	}{
		"int":               {`{"int": 5}`, everything{Int: 5}},
		"int of 5.0":        {`{"int": 5.0}`, everything{Int: 5}},
		"int of 1e3":        {`{"int": 1e3}`, everything{Int: 1000}},
		"smallest int8":     {`{"small": -128}`, everything{Small: -128}},
		"largest uint64":    {`{"uint": 18446744073709551615}`, everything{Uint: math.MaxUint64}},
		"float of 5":        {`{"float": 5}`, everything{Float: 5}},
		"float of 10**30":   {`{"float": 1000000000000000000000000000000}`, everything{Float: 1e30}},
		"infinity":          {`{"float": Infinity, "single": -Infinity}`, everything{Float: math.Inf(1), Single: float32(math.Inf(-1))}},
		"big of 5":          {`{"big": 5}`, everything{Big: big.NewInt(5)}},
		"big of 10**30":     {`{"big": 1000000000000000000000000000000}`, everything{Big: huge}},
		"null big":          {`{"big": null}`, everything{}},
		"text and bool":     {`{"text": "\u00e9", "bool": true}`, everything{Text: "é", Bool: true}},
		"any":               {`{"any": [1, null]}`, everything{Any: []any{int64(1), nil}}},
		"null any":          {`{"any": null}`, everything{}},
		"raw":               {`{"raw": {"a": NaN}}`, everything{Raw: celeryproto.Raw(`{"a": NaN}`)}},
		"bytes":             {`{"bytes": {"__type__": "bytes", "__value__": "ab"}}`, everything{Bytes: []byte("ab")}},
		"datetime":          {`{"time": {"__type__": "datetime", "__value__": "2026-01-02T03:04:05.678901+00:00"}}`, everything{Time: utc}},
		"datetime pointer":  {`{"time_ptr": {"__type__": "datetime", "__value__": "2026-01-02T03:04:05.678901+00:00"}}`, everything{TimePtr: &utc}},
		"time of a browser": {`{"time": "2026-01-02T03:04:05.678901Z"}`, everything{Time: utc}},
		"naive": {
			`{"naive": {"__type__": "datetime", "__value__": "2026-01-02T03:04:05"}}`,
			everything{Naive: &celeryproto.NaiveTime{Year: 2026, Month: 1, Day: 2, Hour: 3, Minute: 4, Second: 5}},
		},
		"date": {`{"date": {"__type__": "date", "__value__": "2026-01-02"}}`, everything{Date: &celeryproto.Date{Year: 2026, Month: 1, Day: 2}}},
		"time of day": {
			`{"clock": {"__type__": "time", "__value__": "03:04:05"}}`,
			everything{Clock: &celeryproto.TimeOfDay{Hour: 3, Minute: 4, Second: 5}},
		},
		"decimal":         {`{"decimal": {"__type__": "decimal", "__value__": "1.10"}}`, everything{Decimal: "1.10"}},
		"decimal of int":  {`{"decimal": 7}`, everything{Decimal: "7"}},
		"decimal of text": {`{"decimal": "-1E+5"}`, everything{Decimal: "-1E+5"}},
		"uuid":            {`{"uuid": {"__type__": "uuid", "__value__": {"hex": "12345678123456781234567812345678"}}}`, everything{UUID: id}},
		"uuid of text":    {`{"uuid": "12345678-1234-5678-1234-567812345678"}`, everything{UUID: id}},
		"struct":          {`{"point": {"x": 1}}`, everything{Point: point{X: 1}}},
		"structs":         {`{"points": [{"x": 1}, {"x": 2.0, "y": 3}]}`, everything{Points: []point{{X: 1}, {X: 2, Y: 3}}}},
		"map of structs":  {`{"by_name": {"a": {"x": 1}}}`, everything{ByName: map[string]point{"a": {X: 1}}}},
		"ints and pair":   {`{"ints": [1, 2, 3], "pair": [4, 5]}`, everything{Ints: []int{1, 2, 3}, Pair: [2]int{4, 5}}},
		"nested bytes":    {`{"blobs": [{"__type__": "bytes", "__value__": "ab"}]}`, everything{Blobs: [][]byte{[]byte("ab")}}},
		"nested times":    {`{"times": ["2026-01-02T03:04:05.678901Z"]}`, everything{Times: []time.Time{utc}}},
		"text as number":  {`{"typed": " 12 ", "typed_f": "1.5"}`, everything{Typed: 12, TypedF: &one}},
		"number as such":  {`{"typed": 12, "typed_f": 1.5}`, everything{Typed: 12, TypedF: &one}},
		"last duplicate":  {`{"int": 1, "int": 2}`, everything{Int: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := bindKwargs[everything](t, tc.kwargs)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, cmp.Comparer(func(a, b *big.Int) bool {
				return a == b || a != nil && b != nil && a.Cmp(b) == 0
			})); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// secretText must never appear in an error.
const secretText = "s3cr3t"

func TestBindRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ kwargs, argument, fact string }{
		"fraction":           {`{"int": 5.7}`, "int", "a number with a fraction, want an integer"},
		"NaN as int":         {`{"int": NaN}`, "int", "fraction"},
		"true as int":        {`{"int": true}`, "int", "a boolean, want an integer"},
		"text as int":        {`{"int": "5"}`, "int", "a text, want an integer"},
		"null as int":        {`{"int": null}`, "int", "null, want an integer"},
		"too big":            {`{"int": 9223372036854775808}`, "int", "out of range for int"},
		"too big float":      {`{"int": 1e19}`, "int", "out of range"},
		"int8 overflow":      {`{"small": 128}`, "small", "out of range for int8"},
		"negative uint":      {`{"uint": -1}`, "uint", "out of range"},
		"float32 overflow":   {`{"single": 1e300}`, "single", "out of range"},
		"int as bool":        {`{"bool": 1}`, "bool", "an integer, want a boolean"},
		"int as text":        {`{"text": 1}`, "text", "an integer, want a text"},
		"decimal as text":    {`{"text": {"__type__": "decimal", "__value__": "1"}}`, "text", "a decimal, want a text"},
		"naive as time":      {`{"time": {"__type__": "datetime", "__value__": "2026-01-02T03:04:05"}}`, "time", "a datetime without offset"},
		"text as time":       {`{"time": "` + secretText + `"}`, "time", "RFC 3339"},
		"text as bytes":      {`{"bytes": "` + secretText + `"}`, "bytes", "a text, want bytes"},
		"text as uuid":       {`{"uuid": "` + secretText + `"}`, "uuid", "not a UUID"},
		"float as decimal":   {`{"decimal": 1.5}`, "decimal", "a number, want a decimal"},
		"text as decimal":    {`{"decimal": "` + secretText + `"}`, "decimal", "not a decimal"},
		"unknown type":       {`{"any": {"__type__": "money", "__value__": "` + secretText + `"}}`, "any", `unknown __type__ "money"`},
		"unknown argument":   {`{"nobody": "` + secretText + `"}`, "nobody", "unknown argument"},
		"member missing":     {`{"point": {"y": 1}}`, "point", `member "x" is missing`},
		"member unknown":     {`{"point": {"x": 1, "z": "` + secretText + `"}}`, "point", `unknown member "z"`},
		"member null":        {`{"point": {"x": null}}`, "point", `member "x" is null`},
		"nested kind":        {`{"points": [{"x": 1}, {"x": "` + secretText + `"}]}`, "points", `[1].x: a text, want an integer`},
		"map key hidden":     {`{"by_name": {"` + secretText + `": {"x": "a"}}}`, "by_name", `[…].x: a text`},
		"element null":       {`{"ints": [1, null]}`, "ints", "element 1 is null"},
		"pair too long":      {`{"pair": [1, 2, 3]}`, "pair", "a list of 3, want 2"},
		"object as list":     {`{"ints": {}}`, "ints", "an object, want a list"},
		"list as struct":     {`{"point": []}`, "point", "a list, want an object"},
		"text not a number":  {`{"typed": "` + secretText + `"}`, "typed", "not a number"},
		"text with fraction": {`{"typed": "5.5"}`, "typed", "fraction"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := bindKwargs[everything](t, tc.kwargs)
			bad, ok := errors.AsType[*BindError](err)
			if !ok {
				t.Fatalf("error %v, want a *BindError", err)
			}
			if bad.Argument != tc.argument || !strings.Contains(err.Error(), tc.fact) {
				t.Errorf("error %q, want argument %q and %q", err, tc.argument, tc.fact)
			}
			if strings.Contains(err.Error(), secretText) {
				t.Errorf("error %q shows the value", err)
			}
		})
	}
}

func TestBindPositional(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ args, kwargs, fact string }{
		"positional":      {`[1, 2]`, `{}`, ""},
		"mixed":           {`[1]`, `{"y": 2}`, ""},
		"by name":         {`[]`, `{"x": 1, "y": 2}`, ""},
		"too many":        {`[1, 2, 3]`, `{}`, "3 positional arguments, want at most 2"},
		"twice":           {`[1]`, `{"x": 1}`, `argument "x": given by position and by name`},
		"missing":         {`[]`, `{"y": 2}`, `argument "x": missing`},
		"not a list":      {`{}`, `{}`, "positional arguments are not a list"},
		"kwargs a list":   {`[1]`, `[]`, "keyword arguments are not an object"},
		"several at once": {`[]`, `{"y": "a"}`, `argument "x": missing; argument "y": a text`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := bindBoth[point](t, tc.args, tc.kwargs)
			switch {
			case tc.fact == "" && (err != nil || got != point{X: 1, Y: 2}):
				t.Errorf("got %+v, %v", got, err)
			case tc.fact != "" && (err == nil || !strings.Contains(err.Error(), tc.fact)):
				t.Errorf("error %v, want %q", err, tc.fact)
			}
		})
	}
}

func TestBindShapes(t *testing.T) {
	t.Parallel()
	type base struct {
		UserName string
	}
	type shaped struct {
		Nested   base `arg:",squash"`
		Skip     int  `arg:"-"`
		HTTPPort *int
		Rest     map[string]any `arg:",remain"`
	}
	got, err := bindKwargs[shaped](t, `{"user_name": "a", "http_port": 3, "more": [1], "skip": 2}`)
	if err != nil {
		t.Fatal(err)
	}
	three := 3
	want := shaped{Nested: base{"a"}, HTTPPort: &three, Rest: map[string]any{"more": []any{int64(1)}, "skip": int64(2)}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(shaped{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	all, err := bindKwargs[map[string]any](t, `{"a": 1}`)
	if err != nil || !cmp.Equal(all, map[string]any{"a": int64(1)}) {
		t.Errorf("map: %v, %v", all, err)
	}
	if _, err := bindKwargs[struct{}](t, `{"a": 1}`); err == nil {
		t.Error("struct{} takes an argument")
	}
}

func TestPlanFaults(t *testing.T) {
	t.Parallel()
	for name, typ := range map[string]reflect.Type{
		"not a struct": reflect.TypeFor[int](),
		"two of a name": reflect.TypeFor[struct {
			A, B int `arg:"a"`
		}](),
		"unknown option": reflect.TypeFor[struct {
			A int `arg:"a,maybe"`
		}](),
		"text on text": reflect.TypeFor[struct {
			A string `arg:"a,text"`
		}](),
		"remain on text": reflect.TypeFor[struct {
			A string `arg:",remain"`
		}](),
		"squash on text": reflect.TypeFor[struct {
			A string `arg:",squash"`
		}](),
		"unexported": reflect.TypeFor[struct {
			a int `arg:"a"`
		}](),
	} {
		if _, err := planFor(typ); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSnake(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"X": "x", "UserName": "user_name", "HTTPPort": "http_port", "UserID": "user_id", "ID": "id", "Already_Snake": "already_snake",
	} {
		if got := snake(name); got != want {
			t.Errorf("snake(%q) = %q, want %q", name, got, want)
		}
	}
}

func FuzzBind(f *testing.F) {
	f.Add(`[1]`, `{"point": {"x": 1}, "points": [{"x": 2}], "int": 5.5}`)
	f.Add(`[]`, `{"by_name": {"a]b[": {"x": "`+secretText+`"}}, "times": ["x"], "blobs": [1]}`)
	p, err := planFor(reflect.TypeFor[everything]())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, args, kwargs string) {
		var a everything
		err := p.bind(reflect.ValueOf(&a).Elem(), celeryproto.Raw(args), celeryproto.Raw(kwargs))
		if err != nil && strings.Contains(err.Error(), secretText) && strings.Count(kwargs, secretText) == 1 &&
			strings.Contains(kwargs, `"`+secretText+`"}`) {
			t.Errorf("error %q shows a value", err)
		}
	})
}
