package celeryproto

import (
	"errors"
	"time"
)

// NaiveTime is a Python datetime without a timezone.
type NaiveTime struct {
	Year                 int
	Month                time.Month
	Day                  int
	Hour, Minute, Second int
	Microsecond          int
}

// NaiveTimeOf is what clocks show at t in t's location.
func NaiveTimeOf(t time.Time) NaiveTime {
	n := NaiveTime{Microsecond: t.Nanosecond() / 1000}
	n.Year, n.Month, n.Day = t.Date()
	n.Hour, n.Minute, n.Second = t.Clock()
	return n
}

// In is the instant at which clocks in loc show n.
func (n NaiveTime) In(loc *time.Location) time.Time {
	return time.Date(n.Year, n.Month, n.Day, n.Hour, n.Minute, n.Second, n.Microsecond*1000, loc)
}

// String is Python's isoformat.
func (n NaiveTime) String() string { return string(n.appendISO(nil)) }

func (n NaiveTime) appendISO(dst []byte) []byte {
	dst = append(n.date().appendISO(dst), 'T')
	return n.clock().appendClock(dst)
}

func (n NaiveTime) date() Date { return Date{n.Year, n.Month, n.Day} }

func (n NaiveTime) clock() TimeOfDay {
	return TimeOfDay{Hour: n.Hour, Minute: n.Minute, Second: n.Second, Microsecond: n.Microsecond}
}

func (n NaiveTime) validate() error {
	return errors.Join(n.date().validate(), n.clock().validate())
}

// Date is a Python date.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

// String is Python's isoformat.
func (d Date) String() string { return string(d.appendISO(nil)) }

func (d Date) appendISO(dst []byte) []byte {
	dst = append(appendDigits(dst, d.Year, 4), '-')
	dst = append(appendDigits(dst, int(d.Month), 2), '-')
	return appendDigits(dst, d.Day, 2)
}

// Python's datetime.MINYEAR and MAXYEAR.
const (
	minYear = 1
	maxYear = 9999
)

func (d Date) validate() error {
	if d.Year < minYear || d.Year > maxYear {
		return errors.New("year is not in 1..9999")
	}
	t := time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC)
	if t.Year() != d.Year || t.Month() != d.Month || t.Day() != d.Day {
		return errors.New("no such day")
	}
	return nil
}

// TimeOfDay is a Python time.
type TimeOfDay struct {
	Hour, Minute, Second int
	Microsecond          int
	// Aware says that Offset counts.
	Aware bool
	// Offset from UTC, in whole microseconds, less than a day either way.
	Offset time.Duration
}

// String is Python's isoformat.
func (t TimeOfDay) String() string { return string(t.appendISO(nil)) }

func (t TimeOfDay) appendISO(dst []byte) []byte {
	dst = t.appendClock(dst)
	if t.Aware {
		dst = appendOffset(dst, t.Offset)
	}
	return dst
}

func (t TimeOfDay) appendClock(dst []byte) []byte {
	dst = append(appendDigits(dst, t.Hour, 2), ':')
	dst = append(appendDigits(dst, t.Minute, 2), ':')
	dst = appendDigits(dst, t.Second, 2)
	return appendFraction(dst, t.Microsecond)
}

func (t TimeOfDay) validate() error {
	switch {
	case t.Hour < 0 || t.Hour > 23 || t.Minute < 0 || t.Minute > 59 || t.Second < 0 || t.Second > 59:
		return errors.New("no such time of day")
	case t.Microsecond < 0 || t.Microsecond > 999_999:
		return errors.New("microsecond is not in 0..999999")
	case t.Aware && (t.Offset <= -24*time.Hour || t.Offset >= 24*time.Hour):
		return errors.New("offset is not less than a day")
	case t.Aware && t.Offset%time.Microsecond != 0:
		return errors.New("offset is not in whole microseconds")
	case !t.Aware && t.Offset != 0:
		return errors.New("offset of a time that is not aware")
	}
	return nil
}

// Decimal is a Python decimal.Decimal as its str() gives it: "1.10", "-1E+5",
// "NaN", "-Infinity".
type Decimal string

func (d Decimal) validate() error {
	if !isDecimal(string(d)) {
		return errors.New("not a decimal number")
	}
	return nil
}

// FormatISOTime writes t as Python's datetime.isoformat writes an aware
// datetime: "2026-11-23T09:01:45.339778+00:00", without fraction when that is
// zero, truncated to microseconds.
func FormatISOTime(t time.Time) string { return string(appendTime(nil, t)) }

func appendTime(dst []byte, t time.Time) []byte {
	dst = NaiveTimeOf(t).appendISO(dst)
	_, offset := t.Zone()
	return appendOffset(dst, time.Duration(offset)*time.Second)
}

// validateTime tells whether Python has such a datetime.
func validateTime(t time.Time) error {
	_, offset := t.Zone()
	n := NaiveTimeOf(t)
	clock := n.clock()
	clock.Aware, clock.Offset = true, time.Duration(offset)*time.Second
	return errors.Join(n.date().validate(), clock.validate())
}

func appendDigits(dst []byte, n, width int) []byte {
	var buf [20]byte
	i := len(buf)
	for n = max(n, 0); n > 0 || len(buf)-i < width; n /= 10 {
		i--
		buf[i] = byte('0' + n%10)
	}
	return append(dst, buf[i:]...)
}

func appendFraction(dst []byte, micro int) []byte {
	if micro == 0 {
		return dst
	}
	return appendDigits(append(dst, '.'), micro, 6)
}

func appendOffset(dst []byte, offset time.Duration) []byte {
	sign := byte('+')
	if offset < 0 {
		sign, offset = '-', -offset
	}
	dst = appendDigits(append(dst, sign), int(offset/time.Hour), 2)
	dst = appendDigits(append(dst, ':'), int(offset/time.Minute%60), 2)
	if offset%time.Minute != 0 {
		dst = appendDigits(append(dst, ':'), int(offset/time.Second%60), 2)
		dst = appendFraction(dst, int(offset%time.Second/time.Microsecond))
	}
	return dst
}
