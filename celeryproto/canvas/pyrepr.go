package canvas

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dfws/dfws/celeryproto"
)

// ReprException is Python's repr of a stored exception, as it stands in the text
// of a ChordError: "ValueError('x')". Python makes the exception anew from its
// class; where that class has a repr of its own, and is not Celery's, or does
// not take the arguments, the text differs.
func ReprException(exc *celeryproto.Exception) string {
	name := exc.Type[strings.LastIndexByte(exc.Type, '.')+1:]
	args := make([]string, len(exc.Message))
	for i, arg := range exc.Message {
		args[i] = Repr(arg)
	}
	plain := name + "(" + strings.Join(args, ", ") + ")"
	if exc.Module != "celery.exceptions" {
		return plain
	}
	switch name { // those that have a __repr__ (celery 5.7, exceptions.py)
	case "NotRegistered":
		return "Task of kind " + exceptionText(exc, args) + " never registered, please make sure it's imported."
	case "Reject":
		reason, requeue := "None", "False"
		if len(exc.Message) > 0 {
			reason = strOf(exc.Message[0])
		}
		if len(exc.Message) > 1 {
			requeue = args[1]
		}
		return "reject requeue=" + requeue + ": " + reason
	case "BackendGetMetaError":
		return plain + " task_id:"
	case "BackendStoreError":
		return plain + " state: task_id:"
	}
	return plain
}

// exceptionText is str() of a KeyError.
func exceptionText(exc *celeryproto.Exception, args []string) string {
	if len(args) == 1 {
		return args[0]
	}
	return exc.Text()
}

// strOf is Python's str(v).
func strOf(r celeryproto.Raw) string {
	if text, ok := textOf(r); ok {
		return text
	}
	return Repr(r)
}

// Repr is Python's repr of a JSON value, typed values as the objects that they
// become: complete and with Python's quotes, unlike celeryproto.Repr, which is
// for logs. It is "" for what is no JSON.
func Repr(r celeryproto.Raw) string {
	if celeryproto.CheckJSON(r, celeryproto.JSONLimits{}) != nil {
		return ""
	}
	return string(appendRepr(nil, r))
}

func appendRepr(dst []byte, r celeryproto.Raw) []byte {
	switch r.Kind() {
	case celeryproto.KindArray:
		elements, _ := r.Array() // has been scanned
		dst = append(dst, '[')
		for i, element := range elements {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = appendRepr(dst, element)
		}
		return append(dst, ']')
	case celeryproto.KindObject:
		return appendObjectRepr(dst, r)
	case celeryproto.KindString:
		text, _ := r.Text() // has been scanned
		return appendQuoted(dst, text)
	}
	return append(dst, celeryproto.Repr(r)...)
}

func appendObjectRepr(dst []byte, r celeryproto.Raw) []byte {
	d := &dict{raw: r}
	if d.len() == 2 && celeryproto.HasTypedMarker(r) {
		v, err := celeryproto.DecodeValue(r)
		if b, isBytes := v.([]byte); isBytes {
			return appendBytesRepr(dst, b)
		}
		if _, plain := v.(map[string]any); err == nil && !plain {
			return append(dst, celeryproto.Repr(r)...)
		}
	}
	dst = append(dst, '{')
	for i, e := range d.entries {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = append(appendQuoted(dst, e.key), ": "...)
		dst = appendRepr(dst, e.val.(celeryproto.Raw)) // a dict that was just taken apart
	}
	return append(dst, '}')
}

// quoteFor is the quote that repr puts around a text.
func quoteFor(text string) byte {
	if strings.Contains(text, "'") && !strings.Contains(text, `"`) {
		return '"'
	}
	return '\''
}

// appendQuoted is repr(str) (CPython 3.11, Objects/unicodeobject.c, unicode_repr).
func appendQuoted(dst []byte, text string) []byte {
	quote := quoteFor(text)
	dst = append(dst, quote)
	for i := 0; i < len(text); {
		c, n := utf8.DecodeRuneInString(text[i:])
		if c == utf8.RuneError && n == 1 {
			// Half of a surrogate pair, in the form that celeryproto gives it.
			if len(text)-i >= 3 {
				c = rune(text[i]&0xf)<<12 | rune(text[i+1]&0x3f)<<6 | rune(text[i+2]&0x3f)
				n = 3
			}
			dst = fmt.Appendf(dst, `\u%04x`, c)
			i += n
			continue
		}
		i += n
		switch {
		case c == rune(quote) || c == '\\':
			dst = append(dst, '\\', byte(c))
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		case unicode.IsPrint(c):
			dst = utf8.AppendRune(dst, c)
		case c < 0x100:
			dst = fmt.Appendf(dst, `\x%02x`, c)
		case c < 0x10000:
			dst = fmt.Appendf(dst, `\u%04x`, c)
		default:
			dst = fmt.Appendf(dst, `\U%08x`, c)
		}
	}
	return append(dst, quote)
}

// appendBytesRepr is repr(bytes).
func appendBytesRepr(dst, b []byte) []byte {
	quote := quoteFor(string(b))
	dst = append(dst, 'b', quote)
	for _, c := range b {
		switch {
		case c == quote || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		case c < ' ' || c >= 0x7f:
			dst = fmt.Appendf(dst, `\x%02x`, c)
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, quote)
}
