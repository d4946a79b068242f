package celeryproto

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckJSON(t *testing.T) {
	t.Parallel()
	// What CPython 3.11's json.loads says of each.
	for text, valid := range map[string]bool{
		`null`: true, `true`: true, `false`: true, ` [ ] `: true, "\t{\r}\n": true,
		`NaN`: true, `Infinity`: true, `-Infinity`: true, `[NaN,-Infinity]`: true,
		`0`: true, `-0`: true, `-0.0`: true, `1e400`: true, `1E-7`: true, `1.5e+3`: true,
		`"\ud83d\ude00"`: true, `"\ud800"`: true, `"\uDC00x"`: true, `"é€😀"`: true, "\"\x7f\"": true,
		`{"a":1,"a":2}`: true, `{"":[]}`: true, `"\/\b\f\n\r\t\"\\"`: true,
		strings.Repeat("1", 4300): true, "-" + strings.Repeat("1", 4300): true,
		strings.Repeat("1", 5000) + ".0":                    true,
		strings.Repeat("[", 512) + strings.Repeat("]", 512): true,
		``: false, ` `: false, `nul`: false, `nulL`: false, `tru`: false, `nan`: false, `+1`: false, `-`: false, `--1`: false,
		`01`: false, `-01`: false, `1.`: false, `.5`: false, `1e`: false, `1e+`: false, `0x1`: false, `1_0`: false,
		`-NaN`: false, `Inf`: false, `-Inf`: false, `infinity`: false,
		`[1,]`: false, `[,1]`: false, `[1 2]`: false, `{"a":1,}`: false, `{a:1}`: false, `{'a':1}`: false, `{"a" 1}`: false,
		`{"a"}`: false, `[`: false, `{`: false, `{"a":`: false, `[1`: false, `]`: false, `[]]`: false, `1 1`: false,
		`"a`: false, `"\`: false, `"\x41"`: false, `"\u12"`: false, `"\u12g4"`: false, `"\u 123"`: false, `"\u+123"`: false,
		"\"\n\"": false, "\"\x00\"": false, "\"\x1f\"": false, "\"\xff\"": false, "\"\xc3\"": false,
		"\"\xed\xa0\x80\"": false, "\xef\xbb\xbf[]": false, "\v1": false, "[1]\x00": false, "/**/1": false,
		strings.Repeat("1", 4301):                                     false,
		"-" + strings.Repeat("1", 4301):                               false,
		strings.Repeat("[", 513) + strings.Repeat("]", 513):           false,
		strings.Repeat(`{"a":`, 513) + "1" + strings.Repeat("}", 513): false,
	} {
		err := CheckJSON([]byte(text), JSONLimits{})
		if (err == nil) != valid {
			t.Errorf("%.60q: %v", text, err)
		}
		if _, ok := errors.AsType[*SyntaxError](err); err != nil && !ok {
			t.Errorf("%.60q: error is a %T", text, err)
		}
	}
}

// TestCheckJSONPlaces moves a fault through a string: the scanner looks at
// eight bytes at once.
func TestCheckJSONPlaces(t *testing.T) {
	t.Parallel()
	for length := range 40 {
		for at := range length {
			for _, c := range []string{"\n", "\xff", "\x00", `\q`} {
				text := `"` + strings.Repeat("a", at) + c + strings.Repeat("b", length-at) + `"`
				fault, ok := errors.AsType[*SyntaxError](CheckJSON([]byte(text), JSONLimits{}))
				if !ok || fault.Offset != int64(at+1) {
					t.Fatalf("%q: %v", text, fault)
				}
			}
			for _, c := range []string{"é", "\x7f", `\n`, "😀"} {
				text := `"` + strings.Repeat("a", at) + c + strings.Repeat("b", length-at) + `"`
				if err := CheckJSON([]byte(text), JSONLimits{}); err != nil {
					t.Fatalf("%q: %v", text, err)
				}
			}
		}
	}
}

func TestJSONLimits(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text string
		lim  JSONLimits
		want error
	}{
		{`[[1]]`, JSONLimits{MaxDepth: 2}, nil},
		{`[[[1]]]`, JSONLimits{MaxDepth: 2}, ErrTooDeep},
		{`[{"a":{}}]`, JSONLimits{MaxDepth: 2}, ErrTooDeep},
		{`12345`, JSONLimits{MaxIntDigits: 4}, ErrIntTooLong},
		{`-1234`, JSONLimits{MaxIntDigits: 4}, nil},
		{`12345.0`, JSONLimits{MaxIntDigits: 4}, nil},
		{strings.Repeat("1", 9999), JSONLimits{MaxIntDigits: -1}, nil},
		{strings.Repeat("[", 20_000), JSONLimits{MaxDepth: 1 << 40}, ErrTooDeep},
	} {
		if err := CheckJSON([]byte(tc.text), tc.lim); !errors.Is(err, tc.want) {
			t.Errorf("%.20s: %v", tc.text, err)
		}
	}
}

func TestHasTypedMarker(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`{"__type__":"date","__value__":"2024-02-29"}`: true,
		`{"__value__":1,"__type__":null}`:              true,
		`[{"a":{"__type__":1,"__value__":2}}]`:         true,
		`{"__type__":{"__type__":1,"__value__":2}}`:    true,
		`{"\u005f_type__":1,"__val\u0075e__":2}`:       true,
		`{"__type__":1,"__type__":2,"__value__":3}`:    true,
		`{"\u005f\u005f\u0074\u0079\u0070\u0065\u005f\u005f":1,"\u005f\u005f\u0076\u0061\u006c\u0075\u0065\u005f\u005f":2}`: true,
		`{"__type__":1}`:                                      false,
		`{"__value__":1}`:                                     false,
		`{"__type__":1,"__value__":2,"x":3}`:                  false,
		`{"x":3,"__type__":1,"__value__":2}`:                  false,
		`{"__type__":1,"__value__":2,"\u0078":3}`:             false,
		`["__type__","__value__"]`:                            false,
		`{"__type__":"__value__"}`:                            false,
		`{"__type__":1,"a":{"__value__":2}}`:                  false,
		`{"__type__":1,"` + strings.Repeat(`\n`, 99) + `":2}`: false,
		`{}`: false, `1`: false,
		`{"__type__":1,"__value__":2`: true, // no JSON: it cannot be ruled out
		strings.Repeat("[", 600) + `{"__type__":1,"__value__":2}` + strings.Repeat("]", 600): true,
		strings.Repeat("[", 600) + `{"__type__":1}` + strings.Repeat("]", 600):               false,
		strings.Repeat("[", 1<<20): true,
	} {
		if got := HasTypedMarker(Raw(text)); got != want {
			t.Errorf("%.80s: got %v", text, got)
		}
	}
}

func TestScannerAllocatesNothing(t *testing.T) {
	text := []byte(frame)
	keys, values := []string{"signal", "opts"}, make([]Raw, 2)
	allocs := testing.AllocsPerRun(100, func() {
		if CheckJSON(text, JSONLimits{}) != nil || HasTypedMarker(text) || Raw(text).Lookup(keys, values) != nil {
			t.Fatal("frame refused")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	if string(values[0]) != `"demo.hello"` || values[1].Kind() != KindObject {
		t.Errorf("values %q", values)
	}
}
