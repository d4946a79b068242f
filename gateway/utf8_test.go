package gateway

import (
	"testing"
	"unicode/utf8"
)

// FuzzCheckUTF8: however a text is cut, the verdict is that of its whole, and it falls no later than at the end.
func FuzzCheckUTF8(f *testing.F) {
	for _, v := range validTexts {
		f.Add([]byte(v.text), uint8(1))
	}
	for _, v := range invalidTexts {
		f.Add([]byte(v.text), uint8(2))
	}
	f.Fuzz(func(t *testing.T, text []byte, step uint8) {
		in, ok := incoming{}, true
		for n := int(step); n < len(text) && ok && step > 0; n += int(step) {
			ok = in.checkUTF8(text[:n], false)
			if valid := utf8.Valid(text[:n]); valid && !ok {
				t.Fatalf("%q was refused after %d bytes, which are UTF-8", text, n)
			}
		}
		if ok {
			ok = in.checkUTF8(text, true)
		}
		if want := utf8.Valid(text); ok != want {
			t.Errorf("%q in steps of %d: %v, want %v", text, step, ok, want)
		}
	})
}
