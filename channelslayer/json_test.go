package channelslayer

import (
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var compareBig = cmp.Comparer(func(a, b *big.Int) bool { return a.Cmp(b) == 0 })

func TestGoldenJSONValues(t *testing.T) {
	t.Parallel()
	g := mustGolden[struct {
		Values []struct {
			Value any     `json:"value"`
			JSON  *string `json:"json"`
		} `json:"values"`
	}](t, "serializer_values")
	checked := 0
	for _, v := range g.Values {
		if v.JSON == nil || v.Value == nil && !strings.Contains(*v.JSON, "null") {
			continue
		}
		want := Message{"type": "t", "v": fromJSON(t, v.Value)}
		r, _, err := scanJSON(*v.JSON)
		if err != nil {
			t.Errorf("%s: %v", *v.JSON, err)
			continue
		}
		m, err := r.Map()
		if err != nil {
			t.Errorf("%s: Map: %v", *v.JSON, err)
			continue
		}
		checked++
		if diff := cmp.Diff(want, m, compareBig); diff != "" {
			t.Errorf("%s (-want +got):\n%s", *v.JSON, diff)
		}
		if got, err := (codec{format: formatJSON}).encode(m, ""); err != nil || got != *v.JSON {
			t.Errorf("encoded again: %s, %v, want %s", got, err, *v.JSON)
		}
	}
	if checked < 15 {
		t.Errorf("%d values checked", checked)
	}
}

// What json.dumps writes for values that a golden file cannot hold.
func TestJSONWritesPython(t *testing.T) {
	t.Parallel()
	huge, _ := new(big.Int).SetString("-340282366920938463463374607431768211456", 10)
	for want, v := range map[string]any{
		"NaN": math.NaN(), "Infinity": math.Inf(1), "-Infinity": math.Inf(-1), "-0.0": math.Copysign(0, -1), "1e+16": 1e16, "1e-05": 1e-5,
		"0.0001": 1e-4, "1234567890123456.0": 1234567890123456.0, "1.5e+300": 1.5e300, "-340282366920938463463374607431768211456": huge,
		`"\"\\/\n\r\t\b\f\u0000\u007f\u00e9\ud83c\udf88"`: "\"\\/\n\r\t\b\f\x00\x7fé🎈", "18446744073709551615": uint64(math.MaxUint64),
		`{"a": [], "b": [1, 2], "c": {}}`: map[string]any{"b": []int{1, 2}, "a": []any{}, "c": map[string]string{}},
	} {
		got, err := codec{format: formatJSON}.encode(Message{"v": v}, "")
		if err != nil || got != `{"v": `+want+`}` {
			t.Errorf("%v: %s, %v", v, got, err)
		}
	}
	for _, v := range []any{[]byte("x"), "\xff", struct{}{}, map[string]any{"\xff": 1}, []any{[]byte("x")}} {
		if _, err := (codec{format: formatJSON}).encode(Message{"v": v}, ""); err == nil {
			t.Errorf("%T was written", v)
		} else if _, ok := errors.AsType[*ValueError](err); !ok {
			t.Errorf("%T: %v", v, err)
		}
	}
}

func TestJSONReads(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]any{
		`NaN`: nil, `Infinity`: math.Inf(1), `-Infinity`: math.Inf(-1), `1e400`: math.Inf(1), `-0`: int64(0), `-0.0`: math.Copysign(0, -1), `1E2`: 100.0,
		`18446744073709551616`: new(big.Int).Lsh(big.NewInt(1), 64), `"\ud800"`: "�", `"\ud83c\ud800x"`: "��x", `"\ud83c\udf88\/"`: "🎈/",
		` [ 1 , { "a" : "b" , "a" : "c" } ] `: []any{int64(1), map[string]any{"a": "c"}}, `""`: "", `[]`: []any{}, `false`: false,
	} {
		r, _, err := scanJSON(" {\"v\"\t:\r\n" + text + "} ")
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		m, err := r.Map()
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if f, ok := m["v"].(float64); ok && math.IsNaN(f) && text == "NaN" {
			continue
		}
		if diff := cmp.Diff(want, m["v"], compareBig); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, text := range []string{
		``, `+1`, `01`, `1.`, `.5`, `1e`, `-`, `--1`, `-NaN`, `nul`, `"x`, "\"\n\"", `"\x"`, `"\u12"`, `"\u12g4"`, `[1,]`, `[1 2]`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{1:2}`,
		`'a'`, "\"\xff\"", deep(MaxDepth), strings.Repeat("9", maxIntDigits+1),
	} {
		if _, _, err := scanJSON(`{"v":` + text + `}`); err == nil {
			t.Errorf("%.40q was read", text)
		}
	}
	for _, body := range []string{``, `[]`, `null`, `{"a": 1} x`, `{"a": 1`, `{`, "\xef\xbb\xbf{}"} {
		if _, _, err := scanJSON(body); err == nil {
			t.Errorf("%q was read", body)
		}
	}
	if _, _, err := scanJSON(`{"v":` + deep(MaxDepth-1) + `}`); err != nil {
		t.Error(err)
	}
}

func FuzzScanJSON(f *testing.F) {
	for _, s := range []string{
		`{"type": "ws_message", "message": "x", "__asgi_channel__": ["specific.a!b"]}`, `{"type": "t", "v": [1, 1.5, null, true, {"a": "\ud83c\udf88"}]}`,
		`{"v": NaN, "w": -Infinity, "x": 18446744073709551616}`, `{"__asgi_channel__": "a"}`, `{"__asgi_channel__": 1}`, "{", `{"a":"\`,
	} {
		f.Add(s)
	}
	c := codec{format: formatJSON}
	f.Fuzz(func(t *testing.T, body string) {
		r, names, err := scanJSON(body)
		if err != nil {
			if _, ok := errors.AsType[*DecodeError](err); !ok {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		names.each(func(string) {})
		m, err := r.Map()
		if err != nil {
			t.Fatal(err)
		}
		text, ok := m["message"].(string)
		if got, has := r.Text(); got != text || has != ok {
			t.Fatalf("Text %q, %t; in the map %v", got, has, m["message"])
		}
		once, err := c.encode(m, "")
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := scanJSON(once)
		if err != nil {
			t.Fatalf("%q: %v", once, err)
		}
		m, err = again.Map()
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := c.encode(m, ""); err != nil || twice != once {
			t.Fatalf("%q became %q, %v", once, twice, err)
		}
	})
}
