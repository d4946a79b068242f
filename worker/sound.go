package worker

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/dfws/dfws/celeryproto"
)

// mostWrapped is how many errors one may wrap; beyond, it wraps itself.
const mostWrapped = 1000

// errProbe is what no error is.
var errProbe = &probe{}

type probe struct{}

func (*probe) Error() string { return "probe" }

// sound asks the error of a handler for all that the worker will ask it for later on, where nobody would catch it: an error whose
// methods panic, as those of a nil pointer do, does it now. One that wraps itself is another error.
func sound(err error) error {
	if err == nil {
		return nil
	}
	left := mostWrapped
	if !ask(err, &left) {
		return fmt.Errorf("%T: wraps more than %d errors", err, mostWrapped)
	}
	errors.Is(err, errProbe)
	errors.AsType[*probe](err)
	return err
}

// ask calls the methods of an error and of those that it wraps; false when there are more than left.
func ask(err error, left *int) bool {
	if *left--; *left < 0 {
		return false
	}
	_ = err.Error()
	switch wrapper := err.(type) { //nolint:errorlint // this one is looked at, not what it wraps
	case interface{ Unwrap() error }:
		if inner := wrapper.Unwrap(); inner != nil {
			return ask(inner, left)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range wrapper.Unwrap() {
			if inner != nil && !ask(inner, left) {
				return false
			}
		}
	}
	return true
}

// valueText describes any value, whose methods may panic and which may contain itself: in JSON where it has no text of its own, else by
// its type.
func valueText(v any) (text string) {
	defer func() {
		if recover() != nil {
			text = fmt.Sprintf("(%T)", v)
		}
	}()
	switch v := v.(type) {
	case error:
		return v.Error()
	case fmt.Stringer:
		return v.String()
	case string:
		return v
	}
	if raw, err := celeryproto.EncodeValue(v); err == nil {
		return raw.String()
	}
	if v := reflect.ValueOf(v); v.CanComplex() {
		return fmt.Sprint(v)
	}
	return fmt.Sprintf("(%T)", v)
}
