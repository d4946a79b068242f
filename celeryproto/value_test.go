package celeryproto

import (
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// pythonValues are texts that kombu 5.7 writes, with what they decode to.
func pythonValues() map[string]any {
	huge, _ := new(big.Int).SetString("1000000000000000000000000000000", 10)
	return map[string]any{
		`null`: nil, `true`: true, `-1`: int64(-1), `1.5`: 1.5, `"h\u00e9"`: "hé", `[]`: []any{}, `{}`: map[string]any{},
		`1000000000000000000000000000000`: huge,
		`1e+300`:                          1e300, `1e-05`: 1e-5, `0.0001`: 1e-4, `1e+16`: 1e16, `1000000000000000.0`: 1e15,
		`-0.0`: math.Copysign(0, -1), `Infinity`: math.Inf(1), `-Infinity`: math.Inf(-1),
		`[1, [2, {"a": null}]]`: []any{int64(1), []any{int64(2), map[string]any{"a": nil}}},
		`{"__type__": "datetime", "__value__": "2024-02-29T12:30:45"}`:                   NaiveTime{2024, 2, 29, 12, 30, 45, 0},
		`{"__type__": "datetime", "__value__": "2024-02-29T12:30:45.123456"}`:            NaiveTime{2024, 2, 29, 12, 30, 45, 123456},
		`{"__type__": "datetime", "__value__": "2024-02-29T12:30:45+00:00"}`:             time.Date(2024, 2, 29, 12, 30, 45, 0, time.UTC),
		`{"__type__": "datetime", "__value__": "2024-07-01T08:00:00.500000+02:00"}`:      time.Date(2024, 7, 1, 8, 0, 0, 5e8, time.FixedZone("", 7200)),
		`{"__type__": "date", "__value__": "0001-01-01"}`:                                Date{1, 1, 1},
		`{"__type__": "time", "__value__": "23:59:59.000001"}`:                           TimeOfDay{Hour: 23, Minute: 59, Second: 59, Microsecond: 1},
		`{"__type__": "time", "__value__": "01:02:03-05:30"}`:                            TimeOfDay{Hour: 1, Minute: 2, Second: 3, Aware: true, Offset: -5*time.Hour - 30*time.Minute},
		`{"__type__": "decimal", "__value__": "-1E+5"}`:                                  Decimal("-1E+5"),
		`{"__type__": "decimal", "__value__": "NaN"}`:                                    Decimal("NaN"),
		`{"__type__": "uuid", "__value__": {"hex": "12345678123456781234567812345678"}}`: uuid.MustParse("12345678-1234-5678-1234-567812345678"),
		`{"__type__": "bytes", "__value__": ""}`:                                         []byte{},
		`{"__type__": "bytes", "__value__": "h\u00e9"}`:                                  []byte("hé"),
		`{"__type__": "base64", "__value__": "//4AAQ=="}`:                                []byte{0xff, 0xfe, 0, 1},
	}
}

func TestValuesBothWays(t *testing.T) {
	t.Parallel()
	bigInts := cmp.Comparer(func(a, b *big.Int) bool { return a.Cmp(b) == 0 })
	for text, want := range pythonValues() {
		got, err := DecodeValue(Raw(text))
		if diff := cmp.Diff(want, got, bigInts); err != nil || diff != "" {
			t.Errorf("%s: %v %s", text, err, diff)
		}
		if back := must(EncodeValue(want))(t); string(back) != text {
			t.Errorf("%s: written as %s", text, back)
		}
	}
	if got := must(EncodeValue(math.NaN()))(t); string(got) != "NaN" {
		t.Errorf("NaN is written as %s", got)
	}
}

func TestDecodeForeignValues(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]any{
		`{"__type__":"datetime","__value__":"2024-02-29T12:30:45.123456789Z"}`:           time.Date(2024, 2, 29, 12, 30, 45, 123456000, time.UTC),
		`{"__type__":"date","__value__":"2024-02-29T00:00:00"}`:                          Date{2024, 2, 29},
		`{"__type__":"time","__value__":"T12"}`:                                          TimeOfDay{Hour: 12},
		`{"__type__":"decimal","__value__":5}`:                                           Decimal("5"),
		`{"__type__":"uuid","__value__":{"hex":"12345678-1234-5678-1234-56781234567F"}}`: uuid.MustParse("12345678-1234-5678-1234-56781234567f"),
		`{"a":1,"a":2}`: map[string]any{"a": int64(2)},
		`{"__type__":"date","__value__":1,"x":{}}`: map[string]any{"__type__": "date", "__value__": int64(1), "x": map[string]any{}},
	} {
		got, err := DecodeValue(Raw(text))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", text, err, diff)
		}
	}
}

func TestDecodeValueRefused(t *testing.T) {
	t.Parallel()
	for text, field := range map[string]string{
		`[{"__type__":"datetime","__value__":"soon"}]`:              "datetime",
		`{"__type__":"datetime","__value__":5}`:                     "datetime",
		`{"__type__":"date","__value__":"2023-02-29"}`:              "date",
		`{"__type__":"time","__value__":"25:00"}`:                   "time",
		`{"__type__":"decimal","__value__":"1,5"}`:                  "decimal",
		`{"__type__":"decimal","__value__":"+-5"}`:                  "decimal",
		`{"__type__":"decimal","__value__":""}`:                     "decimal",
		`{"__type__":"uuid","__value__":"x"}`:                       "uuid",
		`{"__type__":"uuid","__value__":{"hex":"123"}}`:             "uuid",
		`{"__type__":"bytes","__value__":"\ud800"}`:                 "bytes",
		`{"__type__":"base64","__value__":"*"}`:                     "base64",
		`{"__type__":"datetime","__value__":"0000-01-01T00:00:00"}`: "datetime",
	} {
		_, err := DecodeValue(Raw(text))
		if fault, ok := errors.AsType[*DecodeError](err); !ok || fault.Field != field {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{
		`{"__type__":"money","__value__":1}`, `{"__type__":5,"__value__":1}`, `{"__type__":null,"__value__":1}`,
		`{"__type__":"` + strings.Repeat("x", 1000) + `","__value__":1}`,
	} {
		_, err := DecodeValue(Raw(text))
		if unknown, ok := errors.AsType[*UnknownTypeError](err); !ok || len(unknown.Type) > 100 {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := DecodeValue(Raw(`[`)); err == nil {
		t.Error("no error")
	}
}
