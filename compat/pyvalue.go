package compat

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/dfws/dfws/celeryproto"
)

// mergeDuplicates does what Python's dict does with duplicate keys: the first keeps its place and gets the last value.
func mergeDuplicates(members celeryproto.Members) celeryproto.Members {
	at := make(map[string]int, len(members))
	merged := members[:0]
	for _, m := range members {
		if i, seen := at[m.Key]; seen {
			merged[i].Value = m.Value
			continue
		}
		at[m.Key] = len(merged)
		merged = append(merged, m)
	}
	return merged
}

// textOf reads a member that is usually a text.
func textOf(raw celeryproto.Raw) text {
	s, err := raw.Text()
	return text{s, err == nil}
}

// truth is Python's bool() of a JSON value. A typed value (a date, a UUID) counts as true.
func truth(raw celeryproto.Raw) bool {
	switch raw.Kind() {
	case celeryproto.KindNull:
		return false
	case celeryproto.KindBool:
		return raw.String() == "true"
	case celeryproto.KindNumber:
		f, err := strconv.ParseFloat(raw.String(), 64)
		return err != nil || f != 0 // NaN, Infinity and overflows are true
	case celeryproto.KindString:
		s, err := raw.Text()
		return err != nil || s != ""
	case celeryproto.KindArray:
		elements, err := raw.Array()
		return err != nil || len(elements) > 0
	default:
		members, err := raw.Object()
		return err != nil || len(members) > 0
	}
}

// printed is Python's str() of a primary key: integers and texts as they are, typed values as their Python type prints them.
func printed(raw celeryproto.Raw) string {
	switch raw.Kind() {
	case celeryproto.KindString:
		if s, err := raw.Text(); err == nil {
			return s
		}
	case celeryproto.KindBool:
		if raw.String() == "true" {
			return "True"
		}
		return "False"
	case celeryproto.KindObject:
		if v, err := celeryproto.DecodeValue(raw); err == nil {
			return fmt.Sprint(v)
		}
	}
	return strings.TrimSpace(raw.String())
}
