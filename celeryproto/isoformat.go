package celeryproto

import (
	"errors"
	"strings"
	"time"
	"unicode/utf8"
)

var errISO = errors.New("not an ISO 8601 time")

// isoTime is what an ISO 8601 text says.
type isoTime struct {
	NaiveTime
	aware  bool
	offset time.Duration
}

// ParseISOTime reads an eta or expires as a Python worker does: any form of
// parseISO, a naive one taken as UTC.
func ParseISOTime(s string) (time.Time, error) {
	iso, err := parseISO(s)
	if err != nil {
		return time.Time{}, err
	}
	return iso.time()
}

// time is the instant; naive is UTC.
func (iso isoTime) time() (time.Time, error) {
	if iso.offset%time.Second != 0 {
		return time.Time{}, errors.New("offset with a fraction of a second is not supported")
	}
	loc := time.UTC
	if iso.offset != 0 {
		loc = time.FixedZone("", int(iso.offset/time.Second))
	}
	return iso.In(loc), nil
}

// parseISO reads what datetime.fromisoformat of Python 3.11 reads: dates as
// YYYY-MM-DD, YYYYMMDD, YYYY-Www[-D] and YYYYWww[D]; then, after any one
// character, a time as parseISOClock reads it.
func parseISO(s string) (isoTime, error) {
	sep, err := isoSeparator(s)
	if err != nil {
		return isoTime{}, err
	}
	date, err := parseISODate(s[:sep])
	if err != nil {
		return isoTime{}, err
	}
	iso := isoTime{NaiveTime: NaiveTime{Year: date.Year, Month: date.Month, Day: date.Day}}
	if sep == len(s) {
		return iso, nil
	}
	_, n := utf8.DecodeRuneInString(s[sep:])
	clock, err := parseISOClock(s[sep+n:])
	if err != nil {
		return isoTime{}, err
	}
	iso.Hour, iso.Minute, iso.Second, iso.Microsecond = clock.Hour, clock.Minute, clock.Second, clock.Microsecond
	iso.aware, iso.offset = clock.Aware, clock.Offset
	return iso, nil
}

// isoSeparator finds the end of the date (CPython 3.11, _datetimemodule.c,
// _find_isoformat_datetime_separator).
func isoSeparator(s string) (int, error) {
	const (
		basic    = len("YYYYMMDD")
		extended = len("YYYY-MM-DD")
		week     = len("YYYYWww")
	)
	if len(s) < week {
		return 0, errISO
	}
	at := basic
	switch {
	case s[4] == '-' && s[5] != 'W':
		at = extended
	case s[4] == '-':
		// YYYY-Www, or YYYY-Www-D when a digit follows that starts no time.
		at = basic
		if len(s) > basic && s[basic] == '-' {
			switch {
			case len(s) == basic+1:
				return 0, errISO
			case len(s) > extended && isDigit(s[extended]):
				// YYYY-Www-HHMM: the dash is the separator.
			default:
				at = extended
			}
		}
	case s[4] == 'W':
		// YYYYWww or YYYYWwwD: time digits come in pairs.
		n := week
		for n < len(s) && isDigit(s[n]) {
			n++
		}
		at = week
		if n >= week+2 {
			if n%2 == 0 {
				at = week
			} else {
				at = basic
			}
		} else if n == basic {
			at = basic
		}
	}
	if len(s) < at {
		return 0, errISO
	}
	return at, nil
}

func parseISODate(s string) (Date, error) {
	if len(s) < 7 {
		return Date{}, errISO
	}
	year, ok := digits(s[:4])
	if !ok {
		return Date{}, errISO
	}
	rest := s[4:]
	dashed := rest[0] == '-'
	if dashed {
		rest = rest[1:]
	}
	if rest[0] == 'W' {
		return parseISOWeek(year, rest[1:], dashed)
	}
	if dashed {
		if len(rest) != 5 || rest[2] != '-' {
			return Date{}, errISO
		}
		rest = rest[:2] + rest[3:]
	}
	if len(rest) != 4 {
		return Date{}, errISO
	}
	month, ok1 := digits(rest[:2])
	day, ok2 := digits(rest[2:])
	if !ok1 || !ok2 {
		return Date{}, errISO
	}
	d := Date{year, time.Month(month), day}
	return d, d.validate()
}

// parseISOWeek reads "ww", "wwD" or, when dashed, "ww-D".
func parseISOWeek(year int, s string, dashed bool) (Date, error) {
	if len(s) < 2 {
		return Date{}, errISO
	}
	week, ok := digits(s[:2])
	if !ok {
		return Date{}, errISO
	}
	s = s[2:]
	if dashed && s != "" {
		if s[0] != '-' {
			return Date{}, errISO
		}
		if s = s[1:]; s == "" {
			return Date{}, errISO
		}
	}
	day := 1
	if s != "" {
		if day, ok = digits(s); !ok || len(s) != 1 || day < 1 || day > 7 {
			return Date{}, errISO
		}
	}
	// 4 January is always in week 1.
	fourth := time.Date(year, time.January, 4, 0, 0, 0, 0, time.UTC)
	monday := fourth.AddDate(0, 0, -(int(fourth.Weekday())+6)%7)
	t := monday.AddDate(0, 0, (week-1)*7+day-1)
	if gotYear, gotWeek := t.ISOWeek(); gotYear != year || gotWeek != week {
		return Date{}, errors.New("no such week")
	}
	d := Date{t.Year(), t.Month(), t.Day()}
	return d, d.validate()
}

// parseISOClock reads HH[:MM[:SS[.fff…]]] or the same without colons, with an
// offset of the same form or Z; digits after the sixth are dropped.
func parseISOClock(s string) (TimeOfDay, error) {
	zone := strings.IndexAny(s, "+-Z")
	clock := s
	if zone >= 0 {
		clock = s[:zone]
	}
	h, m, sec, micro, err := parseISOFields(clock)
	if err != nil {
		return TimeOfDay{}, err
	}
	t := TimeOfDay{Hour: h, Minute: m, Second: sec, Microsecond: micro}
	if zone >= 0 {
		t.Aware = true
		if t.Offset, err = parseISOOffset(s[zone:]); err != nil {
			return TimeOfDay{}, err
		}
	}
	return t, t.validate()
}

func parseISOOffset(s string) (time.Duration, error) {
	if s == "Z" {
		return 0, nil
	}
	if s[0] == 'Z' {
		return 0, errISO
	}
	h, m, sec, micro, err := parseISOFields(s[1:])
	if err != nil {
		return 0, err
	}
	d := time.Duration(h)*time.Hour + time.Duration(m)*time.Minute +
		time.Duration(sec)*time.Second + time.Duration(micro)*time.Microsecond
	if s[0] == '-' {
		d = -d
	}
	return d, nil
}

func parseISOFields(s string) (hour, minute, second, micro int, err error) {
	fields := [3]*int{&hour, &minute, &second}
	colons := len(s) > 2 && s[2] == ':'
	for i, field := range fields {
		if len(s) < 2 {
			return 0, 0, 0, 0, errISO
		}
		var ok bool
		if *field, ok = digits(s[:2]); !ok {
			return 0, 0, 0, 0, errISO
		}
		if s = s[2:]; s == "" {
			return hour, minute, second, 0, nil
		}
		if i == 2 {
			break
		}
		if colons {
			if s[0] != ':' {
				return 0, 0, 0, 0, errISO
			}
			s = s[1:]
		}
	}
	if len(s) < 2 || (s[0] != '.' && s[0] != ',') {
		return 0, 0, 0, 0, errISO
	}
	for i := range max(6, len(s)-1) {
		c := byte('0')
		if i+1 < len(s) {
			c = s[i+1]
		}
		if !isDigit(c) {
			return 0, 0, 0, 0, errISO
		}
		if i < 6 {
			micro = micro*10 + int(c-'0')
		}
	}
	return hour, minute, second, micro, nil
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func digits(s string) (int, bool) {
	n := 0
	for i := range len(s) {
		if !isDigit(s[i]) {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, s != ""
}
