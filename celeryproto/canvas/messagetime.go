package canvas

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

// minSeconds is how far in the past countdown and expires may be (celery 5.7,
// app/amqp.py, INT_MIN).
const minSeconds = math.MinInt32

// maxSeconds keeps a time.Duration from overflowing: about 292 years.
const maxSeconds = math.MaxInt64 / int64(time.Second)

// times are eta and expires as as_task_v2 writes them.
func (b *builder) times() error {
	b.eta, b.expires = none, none
	if countdown, ok := b.named[optCountdown]; ok && rawTruth(countdown) {
		seconds, err := secondsOf(countdown)
		if err != nil {
			return fmt.Errorf("option countdown: %w", err)
		}
		b.eta = timeText(b.later(seconds))
	} else if eta, ok := b.named[optETA]; ok && (eta.Kind() == celeryproto.KindString || rawTruth(eta)) {
		text, _, err := b.timeOf(eta)
		if err != nil {
			return fmt.Errorf("option eta: %w", err)
		}
		b.eta = text
	}
	expires, ok := b.named[optExpires]
	if !ok {
		return nil
	}
	if err := b.expire(expires); err != nil {
		return fmt.Errorf("option expires: %w", err)
	}
	return nil
}

// expire reads expires: seconds, or a time. The property expiration is the rest
// in milliseconds.
func (b *builder) expire(expires celeryproto.Raw) error {
	var seconds float64
	var err error
	switch expires.Kind() {
	case celeryproto.KindNumber, celeryproto.KindBool:
		if seconds, err = secondsOf(expires); err == nil {
			b.expires = timeText(b.later(seconds))
		}
	default:
		var at time.Time
		if b.expires, at, err = b.timeOf(expires); err == nil {
			seconds = float64(at.Sub(b.now()).Microseconds()) / 1e6
		}
	}
	if err != nil {
		return err
	}
	b.expiration = strconv.FormatInt(int64(max(seconds, 0)*1000), 10)
	return nil
}

// now is the time as Python's datetime has it.
func (b *builder) now() time.Time {
	loc := b.def.Location
	if loc == nil {
		loc = time.UTC
	}
	return b.def.Now.Truncate(time.Microsecond).In(loc)
}

// later is add_seconds_to_datetime: a timedelta is rounded to microseconds.
func (b *builder) later(seconds float64) time.Time {
	whole, fraction := math.Modf(seconds)
	micro := math.RoundToEven(fraction * 1e6)
	return b.now().Add(time.Duration(whole)*time.Second + time.Duration(micro)*time.Microsecond)
}

func secondsOf(r celeryproto.Raw) (float64, error) {
	if yes, err := r.Bool(); err == nil {
		if yes {
			return 1, nil
		}
		return 0, nil
	}
	n, err := r.Number()
	if err != nil {
		return 0, err
	}
	var seconds float64
	switch n := n.(type) {
	case int64:
		seconds = float64(n)
	case float64:
		seconds = n
	default:
		return 0, errors.New("out of range")
	}
	if !(seconds >= minSeconds && seconds < float64(maxSeconds)) { // NaN is neither
		return 0, errors.New("out of range")
	}
	return seconds, nil
}

// timeOf reads a time: a text, which stays as it is, or kombu's datetime, of
// which a naive one stays naive.
func (b *builder) timeOf(r celeryproto.Raw) (text celeryproto.Raw, at time.Time, err error) {
	v, err := celeryproto.DecodeValue(r)
	if err != nil {
		return nil, at, err
	}
	switch v := v.(type) {
	case string:
		at, err = celeryproto.ParseISOTime(v)
		return r, at, err
	case time.Time:
		return timeText(v), v, nil
	case celeryproto.NaiveTime:
		return textValue(v.String()), v.In(time.UTC), nil
	}
	return nil, at, errors.New("expected a datetime or a text in ISO 8601")
}

func timeText(t time.Time) celeryproto.Raw { return textValue(celeryproto.FormatISOTime(t)) }
