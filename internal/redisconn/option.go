package redisconn

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// DecodeBool takes true, false, and the numbers that Python takes for them.
func DecodeBool(value json.RawMessage) (bool, error) {
	var v any
	if err := json.Unmarshal(value, &v); err != nil {
		return false, err
	}
	switch v := v.(type) {
	case bool:
		return v, nil
	case float64:
		return v != 0, nil
	default:
		return false, errors.New("must be true or false")
	}
}

// DecodeOption sets a target, which is a pointer or a function that takes the JSON; durations from numbers of seconds. Its errors do
// not quote the value.
func DecodeOption(value json.RawMessage, target any) error {
	switch target := target.(type) {
	case func(json.RawMessage) error:
		return target(value)
	case *time.Duration:
		var seconds float64
		if err := DecodeOption(value, &seconds); err != nil {
			return err
		}
		if math.Abs(seconds) > float64(math.MaxInt64)/float64(time.Second)/2 {
			return errors.New("out of range")
		}
		*target = time.Duration(seconds * float64(time.Second))
		return nil
	}
	err := json.Unmarshal(value, target)
	if mistyped, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		kind, _, _ := strings.Cut(mistyped.Value, " ") // a number may follow
		return fmt.Errorf("a JSON %s does not fit here", kind)
	}
	return err
}
