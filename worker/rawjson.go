package worker

import (
	"strconv"

	"github.com/dfws/dfws/celeryproto"
)

// JSON values of the messages of remote control, in Python's dialect.
var rawNull = celeryproto.Raw("null")

func rawText(s string) celeryproto.Raw { return celeryproto.AppendString(nil, s) }

func rawInt(n int64) celeryproto.Raw { return strconv.AppendInt(nil, n, 10) }

func rawFloat(f float64) celeryproto.Raw { return celeryproto.AppendFloat(nil, f) }

func rawBool(b bool) celeryproto.Raw { return strconv.AppendBool(nil, b) }

// rawTextOrNull is null for "".
func rawTextOrNull(s string) celeryproto.Raw {
	if s == "" {
		return rawNull
	}
	return rawText(s)
}

// rawList is an array.
func rawList(elements ...celeryproto.Raw) celeryproto.Raw {
	raw := celeryproto.Raw{'['}
	for i, element := range elements {
		if i > 0 {
			raw = append(raw, ", "...)
		}
		raw = append(raw, element...)
	}
	return append(raw, ']')
}

func rawTexts(texts []string) celeryproto.Raw {
	elements := make([]celeryproto.Raw, len(texts))
	for i, text := range texts {
		elements[i] = rawText(text)
	}
	return rawList(elements...)
}

// object builds a JSON object member by member.
type object struct{ members celeryproto.Members }

func (o *object) raw(key string, value celeryproto.Raw) *object {
	o.members = append(o.members, celeryproto.Member{Key: key, Value: value})
	return o
}

func (o *object) text(key, value string) *object { return o.raw(key, rawText(value)) }

func (o *object) int(key string, value int64) *object { return o.raw(key, rawInt(value)) }

func (o *object) json() celeryproto.Raw { return o.members.Append(nil) }
