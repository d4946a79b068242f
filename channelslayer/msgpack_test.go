package channelslayer

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	deep := any("x")
	for range MaxDepth {
		deep = []any{deep}
	}
	type named string
	for name, tt := range map[string]struct {
		m    Message
		path string
	}{
		"time":          {Message{"type": "t", "at": time.Now()}, "at"},
		"struct":        {Message{"opts": map[string]any{"list": []any{1, struct{}{}}}}, "opts.list[1]"},
		"named":         {Message{"v": named("x")}, "v"},
		"complex":       {Message{"v": complex(1, 2)}, "v"},
		"not UTF-8":     {Message{"v": "\xff"}, "v"},
		"key not UTF-8": {Message{"\xff": 1}, "�"},
		"surrogate":     {Message{"v": "\xed\xa0\x80"}, "v"},
		"too deep":      {Message{"v": deep}, "v" + strings.Repeat("[0]", MaxDepth-1)},
	} {
		_, err := codec{}.encode(tt.m, "")
		v, ok := errors.AsType[*ValueError](err)
		if !ok || v.Path != tt.path {
			t.Errorf("%s: %v, want a ValueError at %s", name, err, tt.path)
		}
	}
}

func TestEncodeGoTypes(t *testing.T) {
	t.Parallel()
	for want, values := range map[string][]any{
		"\x05":                              {5, int8(5), int16(5), int32(5), int64(5), uint(5), uint8(5), uint16(5), uint32(5), uint64(5)},
		"\xff":                              {-1, int8(-1), int16(-1), int32(-1), int64(-1)},
		"\xcb?\xf8\x00\x00\x00\x00\x00\x00": {1.5, float32(1.5)},
		"\x92\xa1a\xa1b":                    {[]string{"a", "b"}, []any{"a", "b"}},
		"\x91\x01":                          {[]int{1}},
		"\x82\xa1a\xa0\xa1b\xa0":            {map[string]string{"b": "", "a": ""}, Message{"b": "", "a": ""}, map[string]any{"a": "", "b": ""}},
		"\x91\x80":                          {[]map[string]any{{}}},
		"\xc4\x00":                          {[]byte{}, []byte(nil)},
		"\x90":                              {[]any(nil)},
		"\x80":                              {map[string]any(nil)},
	} {
		for _, v := range values {
			got, err := codec{}.encode(Message{"": v}, "")
			if err != nil || got != "\x81\xa0"+want {
				t.Errorf("%T %v: %x, %v; want %x", v, v, got, err, want)
			}
		}
	}
}

func TestEncodeOrder(t *testing.T) {
	t.Parallel()
	got, err := codec{}.encode(Message{"z": 1, "message": "m", "a": 2, "type": "t", channelKeyName: "old"}, "c!d")
	want := "\x85\xa4type\xa1t\xa7message\xa1m\xa1a\x02\xa1z\x01\xb0__asgi_channel__\xa3c!d"
	if err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

func TestRandomPrefix(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 4, 12, 17} {
		seen := map[string]bool{}
		for range 20 {
			b, err := codec{randomLength: n}.encode(Message{}, "")
			if err != nil || len(b) != n+1 || b[n] != 0x80 {
				t.Fatalf("length %d: %q, %v", n, b, err)
			}
			seen[b] = true
		}
		if n >= 4 && len(seen) != 20 {
			t.Errorf("length %d: %d of 20 differ", n, len(seen))
		}
	}
}
