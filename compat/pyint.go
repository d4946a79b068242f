package compat

import (
	"errors"
	"math"
	"strings"
	"time"
	"unicode"

	"github.com/dfws/dfws/celeryproto"
)

// Bounds of a delay in seconds. Celery refuses less than minDelay (app/amqp.py, INT_MIN); more than maxDelay, 292 years, is beyond
// time.Duration, and little more is beyond Python's datetime.
const (
	minDelay = math.MinInt32
	maxDelay = int64(math.MaxInt64 / time.Second)
)

var (
	errNotInt     = errors.New("not a number")
	errOutOfRange = errors.New("out of range")
)

// delay is int(value) seconds of a countdown or an expires, in the range of both Celery and Go. Absent is 0.
func delay(value celeryproto.Raw) (time.Duration, error) {
	seconds, err := pythonInt(value)
	if err != nil {
		return 0, err
	}
	if seconds < minDelay || seconds > maxDelay {
		return 0, errOutOfRange
	}
	return time.Duration(seconds) * time.Second, nil
}

// pythonInt is Python's int() of a JSON value: numbers are cut towards zero, true is 1, texts are read as int literals; null, lists,
// objects, NaN and infinities fail. Absent is 0. What does not fit int64 is out of range.
func pythonInt(value celeryproto.Raw) (int64, error) {
	if value == nil {
		return 0, nil
	}
	switch value.Kind() {
	case celeryproto.KindNumber:
		return numberInt(value)
	case celeryproto.KindBool:
		if truth(value) {
			return 1, nil
		}
		return 0, nil
	case celeryproto.KindString:
		s, err := value.Text()
		if err != nil {
			return 0, err
		}
		return parsePythonInt(s)
	default:
		return 0, errNotInt
	}
}

func numberInt(value celeryproto.Raw) (int64, error) {
	n, err := value.Number()
	if err != nil {
		return 0, err
	}
	switch n := n.(type) {
	case int64:
		return n, nil
	case float64:
		if math.IsNaN(n) || math.IsInf(n, 0) {
			return 0, errNotInt
		}
		if n >= math.MaxInt64 || n <= math.MinInt64 {
			return 0, errOutOfRange
		}
		return int64(n), nil
	default:
		return 0, errOutOfRange
	}
}

// parsePythonInt reads a text as CPython's int(text) does: blanks around, a sign, decimal digits of any script, single underscores between
// digits.
func parsePythonInt(s string) (int64, error) {
	s = strings.TrimFunc(s, isPythonSpace)
	negative := strings.HasPrefix(s, "-")
	if negative || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	var n int64
	tooBig := false
	digits := 0
	underscore := true // none at the start
	for _, r := range s {
		if r == '_' && !underscore {
			underscore = true
			continue
		}
		digit := decimalDigit(r)
		if digit < 0 {
			return 0, errNotInt
		}
		underscore = false
		if digits++; digits > celeryproto.DefaultMaxIntDigits {
			return 0, errNotInt
		}
		if n > (math.MaxInt64-digit)/10 {
			tooBig = true
			continue
		}
		n = n*10 + digit
	}
	switch {
	case underscore:
		return 0, errNotInt // empty, or an underscore at the end
	case tooBig:
		return 0, errOutOfRange
	case negative:
		return -n, nil
	default:
		return n, nil
	}
}

// decimalDigit returns the value of a digit of any script, -1 for anything else. In each script the ten digits (category Nd) stand in
// order in one run, so the value is the distance from the zero.
func decimalDigit(r rune) int64 {
	if r >= '0' && r <= '9' {
		return int64(r - '0')
	}
	if r < 0x80 || !unicode.Is(unicode.Nd, r) {
		return -1
	}
	return int64(digitOf(r))
}

// digitOf looks the rune's run of digits up in Unicode's table of category Nd. Runs of several scripts may touch; each has ten digits.
func digitOf(r rune) rune {
	for _, run := range unicode.Nd.R16 {
		if rune(run.Lo) <= r && r <= rune(run.Hi) {
			return (r - rune(run.Lo)) % 10
		}
	}
	for _, run := range unicode.Nd.R32 {
		if rune(run.Lo) <= r && r <= rune(run.Hi) {
			return (r - rune(run.Lo)) % 10
		}
	}
	return -1
}
