package channelslayer

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonWriter writes what Python's json.dumps writes with its defaults (3.11, json/encoder.py): ", " and ": ", everything but
// printable ASCII escaped, repr of floats, NaN and Infinity as they are.
type jsonWriter struct {
	b []byte
}

// message writes m in the order that packer.message has, then __asgi_channel__ unless channels is nil.
func (w *jsonWriter) message(m Message, channels any) error {
	w.b = append(w.b, '{')
	for i, key := range orderedKeys(m) {
		if i > 0 {
			w.b = append(w.b, ", "...)
		}
		if err := w.entry(key, m[key], key, 1); err != nil {
			return err
		}
	}
	if channels != nil {
		if w.b[len(w.b)-1] != '{' {
			w.b = append(w.b, ", "...)
		}
		if err := w.entry(channelKeyName, channels, channelKeyName, 1); err != nil {
			return err
		}
	}
	w.b = append(w.b, '}')
	return nil
}

func (w *jsonWriter) entry(key string, v any, path string, depth int) error {
	if err := w.text(key, path); err != nil {
		return err
	}
	w.b = append(w.b, ": "...)
	return w.value(v, path, depth)
}

func (w *jsonWriter) value(v any, path string, depth int) error {
	switch v := v.(type) {
	case nil:
		w.b = append(w.b, "null"...)
		return nil
	case bool:
		w.b = strconv.AppendBool(w.b, v)
		return nil
	case string:
		return w.text(v, path)
	case float64:
		w.b = appendPythonFloat(w.b, v)
		return nil
	case float32:
		w.b = appendPythonFloat(w.b, float64(v))
		return nil
	case *big.Int:
		if v == nil {
			w.b = append(w.b, "null"...)
			return nil
		}
		w.b = v.Append(w.b, 10)
		return nil
	}
	if n, ok := signed(v); ok {
		w.b = strconv.AppendInt(w.b, n, 10)
		return nil
	}
	if n, ok := unsigned(v); ok {
		w.b = strconv.AppendUint(w.b, n, 10)
		return nil
	}
	if depth >= MaxDepth {
		return &ValueError{Path: path, Reason: "nested too deep"}
	}
	return w.container(v, path, depth)
}

func (w *jsonWriter) container(v any, path string, depth int) error {
	switch v := v.(type) {
	case []any:
		return writeJSONArray(w, v, path, depth)
	case []string:
		return writeJSONArray(w, v, path, depth)
	case []map[string]any:
		return writeJSONArray(w, v, path, depth)
	case []int:
		return writeJSONArray(w, v, path, depth)
	case map[string]any:
		return writeJSONObject(w, v, path, depth)
	case Message:
		return writeJSONObject(w, v, path, depth)
	case map[string]string:
		return writeJSONObject(w, v, path, depth)
	default:
		return &ValueError{Path: path, Reason: fmt.Sprintf("type %T has no JSON form in Python's defaults", v)}
	}
}

func writeJSONArray[E any](w *jsonWriter, list []E, path string, depth int) error {
	w.b = append(w.b, '[')
	for i, e := range list {
		if i > 0 {
			w.b = append(w.b, ", "...)
		}
		if err := w.value(e, path+"["+strconv.Itoa(i)+"]", depth+1); err != nil {
			return err
		}
	}
	w.b = append(w.b, ']')
	return nil
}

func writeJSONObject[M ~map[string]E, E any](w *jsonWriter, m M, path string, depth int) error {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	w.b = append(w.b, '{')
	for i, key := range keys {
		if i > 0 {
			w.b = append(w.b, ", "...)
		}
		if err := w.entry(key, m[key], path+"."+key, depth+1); err != nil {
			return err
		}
	}
	w.b = append(w.b, '}')
	return nil
}

// text writes a string. It must be UTF-8, as for msgpack: a Go text has no lone surrogates, and Python could not read anything
// else.
func (w *jsonWriter) text(s, path string) error {
	if !utf8.ValidString(s) {
		return &ValueError{Path: strings.ToValidUTF8(path, "�"), Reason: "text is not valid UTF-8"}
	}
	w.b = append(w.b, '"')
	for _, r := range s {
		switch {
		case r == '"', r == '\\':
			w.b = append(w.b, '\\', byte(r))
		case r >= ' ' && r <= '~':
			w.b = append(w.b, byte(r))
		case r == '\n':
			w.b = append(w.b, `\n`...)
		case r == '\r':
			w.b = append(w.b, `\r`...)
		case r == '\t':
			w.b = append(w.b, `\t`...)
		case r == '\b':
			w.b = append(w.b, `\b`...)
		case r == '\f':
			w.b = append(w.b, `\f`...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			w.b = appendEscape(appendEscape(w.b, high), low)
		default:
			w.b = appendEscape(w.b, r)
		}
	}
	w.b = append(w.b, '"')
	return nil
}

func appendEscape(b []byte, unit rune) []byte {
	const hex = "0123456789abcdef"
	return append(b, '\\', 'u', hex[unit>>12&15], hex[unit>>8&15], hex[unit>>4&15], hex[unit&15])
}

// appendPythonFloat is repr(float): the shortest text that gives the same number, with an exponent outside of 1e-4 to 1e16.
func appendPythonFloat(b []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(b, "NaN"...)
	case math.IsInf(f, 1):
		return append(b, "Infinity"...)
	case math.IsInf(f, -1):
		return append(b, "-Infinity"...)
	}
	if abs := math.Abs(f); abs != 0 && (abs < 1e-4 || abs >= 1e16) {
		return strconv.AppendFloat(b, f, 'e', -1, 64)
	}
	start := len(b)
	b = strconv.AppendFloat(b, f, 'f', -1, 64)
	if !slices.Contains(b[start:], '.') {
		b = append(b, ".0"...)
	}
	return b
}
