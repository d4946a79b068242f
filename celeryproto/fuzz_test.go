package celeryproto

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"testing"
	"unicode/utf8"
)

// seeds adds the values of all goldens, and the bodies of the envelopes.
func seeds(f *testing.F) {
	f.Helper()
	for _, g := range mustGoldens(f, `{`, `[`, compressedMarker) {
		f.Add(g.value)
	}
	for _, g := range mustEnvelopes(f) {
		e := must(DecodeEnvelope(g.value))(f)
		if body, err := e.Payload(Limits{}); err == nil {
			f.Add(body)
		}
	}
	for text := range pythonValues() {
		f.Add([]byte(text))
	}
	for _, text := range []string{frame, `"\ud83d\ude00\ud800"`, `[NaN, -Infinity, 1e400, -0]`, `{"a":1,"\u0061":2}`} {
		f.Add([]byte(text))
	}
}

// FuzzCheckJSON compares with encoding/json where the two dialects agree.
func FuzzCheckJSON(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		err := CheckJSON(b, JSONLimits{})
		if err == nil && !utf8.Valid(b) {
			t.Fatalf("invalid UTF-8 was accepted")
		}
		if err != nil && utf8.Valid(b) && json.Valid(b) && len(b) < DefaultMaxDepth {
			t.Fatalf("standard JSON was refused: %v", err)
		}
		if err == nil && !json.Valid(b) && !bytes.Contains(b, []byte("NaN")) && !bytes.Contains(b, []byte("Infinity")) {
			t.Fatal("more than Python's dialect was accepted")
		}
		if err == nil {
			equal := equalRaw(t, b, append(Raw(" "), b...))
			if !equal {
				t.Fatal("not equal to itself")
			}
		}
		HasTypedMarker(b)
		Repr(b)
	})
}

func FuzzDecodeValue(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := DecodeValue(b)
		if err != nil {
			return
		}
		text, err := EncodeValue(v)
		if err != nil {
			t.Fatalf("decoded to %#v, which cannot be encoded: %v", v, err)
		}
		again, err := DecodeValue(text)
		if err != nil {
			t.Fatalf("encoded to %s, which cannot be decoded: %v", text, err)
		}
		if twice := must(EncodeValue(again))(t); !bytes.Equal(text, twice) {
			t.Fatalf("%s\n%s", text, twice)
		}
		if !hasNaN(v) && !reflect.DeepEqual(normal(t, v), normal(t, again)) {
			t.Fatalf("%#v\n%#v", v, again)
		}
		for _, c := range text {
			if c < ' ' || c > '~' {
				t.Fatalf("wrote byte %x", c)
			}
		}
	})
}

func hasNaN(v any) bool {
	switch v := v.(type) {
	case float64:
		return math.IsNaN(v)
	case []any:
		for _, element := range v {
			if hasNaN(element) {
				return true
			}
		}
	case map[string]any:
		for _, element := range v {
			if hasNaN(element) {
				return true
			}
		}
	}
	return false
}

// normal replaces what DeepEqual cannot compare: times with their own zones.
func normal(t *testing.T, v any) any {
	t.Helper()
	switch v := v.(type) {
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = normal(t, v[i])
		}
		return list
	case map[string]any:
		object := map[string]any{}
		for key := range v {
			object[key] = normal(t, v[key])
		}
		return object
	case interface{ Zone() (string, int) }:
		return string(must(EncodeValue(v))(t))
	default:
		return v
	}
}

func FuzzDecodeEnvelope(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeEnvelope(b)
		if err != nil {
			return
		}
		text, err := e.Append(nil)
		if err != nil {
			t.Fatalf("cannot be encoded: %v", err)
		}
		if !e.BodyIsBytes && !equalRaw(t, b, text) {
			t.Fatalf("changed:\n%s\n%s", b, text)
		}
		again := must(DecodeEnvelope(text))(t)
		if again.Body != e.Body || again.Properties.DeliveryTag != e.Properties.DeliveryTag {
			t.Fatalf("%+v\n%+v", e, again)
		}
	})
}

func FuzzDecodeTask(f *testing.F) {
	seeds(f)
	for name := range contentGoldens {
		f.Add(mustGolden(f, name, `{"body": `))
	}
	for _, headers := range []string{minimalHeaders, `{}`} {
		for _, body := range []string{minimalBody, `{"task":"t","id":"i","args":[1],"eta":"2026-11-23T09:01:45"}`} {
			f.Add([]byte(envelopeWith(headers, body)))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeEnvelope(b)
		if err != nil {
			// Take it for the body of an otherwise good message.
			e = must(DecodeEnvelope([]byte(envelopeWith(minimalHeaders, ""))))(t)
			if err := e.setPayload(b, false, ""); err != nil {
				t.Fatal(err)
			}
		}
		e.TaskID()
		lim := fuzzLimits
		task, err := DecodeTaskLimits(e, lim)
		if err != nil {
			return
		}
		out, err := task.Envelope()
		if err != nil {
			t.Fatalf("cannot be encoded: %v", err)
		}
		if out.Body != e.Body || !equalRaw(t, out.Headers.Append(nil), e.Headers.Append(nil)) {
			t.Fatalf("changed:\n%+v\n%+v", e, out)
		}
		task.src = nil
		task.SetQueue("q") // a readable message can lack it, a new one cannot
		fresh, err := task.Envelope()
		if errors.Is(err, ErrTooDeep) || task.validateNew() != nil {
			return // passed on, but not sent
		}
		if err != nil {
			t.Fatalf("cannot be written anew: %v", err)
		}
		again, err := DecodeTaskLimits(fresh, lim)
		if err != nil {
			t.Fatalf("written anew, cannot be decoded: %v", err)
		}
		one, two := must(task.encode())(t), must(again.encode())(t)
		if !bytes.Equal(one.body, two.body) {
			t.Fatalf("%s\n%s", one.body, two.body)
		}
	})
}

func FuzzDecodeResult(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeResultLimits(b, Limits{MaxDecompressed: 1 << 20})
		if err != nil {
			return
		}
		compression := m.Compression
		m.Compression = ""
		text, err := m.Append(nil)
		if err != nil {
			t.Fatalf("cannot be encoded: %v", err)
		}
		if compression == "" && !equalRaw(t, b, text) {
			t.Fatalf("changed:\n%s\n%s", b, text)
		}
		again := must(DecodeResult(text))(t)
		if again.Status != m.Status || !bytes.Equal(again.Result, m.Result) {
			t.Fatalf("%+v\n%+v", m, again)
		}
		if e, err := m.Exception(); err == nil {
			must(e.Raw())(t)
			_ = e.Error()
		}
	})
}
