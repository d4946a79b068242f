package celeryproto

import (
	"errors"
	"strings"
)

// Exception is a Python exception as the JSON result serializer stores it.
type Exception struct {
	// Type is the qualified class name, "ValueError" or "Outer.Inner".
	Type string
	// Module of the class, "builtins"; "" is null.
	Module string
	// Message are the arguments of the exception, JSON values.
	Message []Raw
}

// Keys of a stored exception (celery 5.7, backends/base.py, prepare_exception).
const (
	keyExcType    = "exc_type"
	keyExcMessage = "exc_message"
	keyExcModule  = "exc_module"
)

// NewException is an exception with texts as its arguments.
func NewException(module, typ string, message ...string) *Exception {
	e := &Exception{Type: typ, Module: module}
	for _, text := range message {
		e.Message = append(e.Message, Raw(AppendString(nil, text)))
	}
	return e
}

// Exception reads the result as the exception of a FAILURE, RETRY or REVOKED.
// The error is a *DecodeError when it is none; Python could not read it either.
func (m *ResultMeta) Exception() (*Exception, error) {
	if m.Result.Kind() != KindObject {
		return nil, &DecodeError{Part: PartResult, Field: keyResult, Offset: -1, Err: errKind(KindObject, m.Result.Kind())}
	}
	members, err := m.Result.Object()
	if err != nil {
		return nil, decodeError(PartResult, err)
	}
	r := fieldReader{part: PartResult, prefix: keyResult + ".", members: members}
	e := &Exception{Type: r.needText(keyExcType), Module: r.text(keyExcModule)}
	switch message := r.raw(keyExcMessage); message.Kind() {
	case KindInvalid:
	case KindArray:
		if e.Message, err = message.Array(); err != nil {
			r.fail(keyExcMessage, err)
		}
	default:
		e.Message = []Raw{message} // a single argument, as Python takes it
	}
	if r.err != nil {
		return nil, r.err
	}
	return e, nil
}

// Error is like the last line of a Python traceback: "ValueError: boom".
func (e *Exception) Error() string {
	name := e.Type
	if e.Module != "" && e.Module != "builtins" {
		name = e.Module + "." + name
	}
	if text := e.Text(); text != "" {
		return name + ": " + text
	}
	return name
}

// Text is what Python's str() shows: the argument when there is one, a tuple
// when there are several.
func (e *Exception) Text() string {
	if len(e.Message) == 1 {
		if s, err := e.Message[0].Text(); err == nil {
			return s
		}
		return Repr(e.Message[0])
	}
	if len(e.Message) == 0 {
		return ""
	}
	texts := make([]string, len(e.Message))
	for i, arg := range e.Message {
		texts[i] = Repr(arg)
	}
	return "(" + strings.Join(texts, ", ") + ")"
}

// Raw is the exception as the result backend stores it.
func (e *Exception) Raw() (Raw, error) {
	if e.Type == "" {
		return nil, &EncodeError{Path: keyExcType, Err: errors.New("empty")}
	}
	f := &fieldSet{}
	f.text(keyExcType, e.Type)
	f.append(keyExcMessage, func(dst []byte) []byte {
		dst = append(dst, '[')
		for i, arg := range e.Message {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = appendRaw(dst, arg)
		}
		return append(dst, ']')
	})
	f.textOrNull(keyExcModule, e.Module)
	r := Raw(f.members().Append(nil))
	if err := CheckJSON(r, JSONLimits{}); err != nil {
		return nil, &EncodeError{Path: keyExcMessage, Err: err}
	}
	return r, nil
}
