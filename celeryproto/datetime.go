package celeryproto

import "time"

// NaiveTime is a Python datetime without a timezone.
type NaiveTime struct {
	Year                 int
	Month                time.Month
	Day                  int
	Hour, Minute, Second int
	Microsecond          int
}

// Date is a Python date.
type Date struct {
	Year  int
	Month time.Month
	Day   int
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

// Decimal is a Python decimal.Decimal as its str() gives it: "1.10", "-1E+5",
// "NaN", "-Infinity".
type Decimal string
