package celeryproto

import (
	"testing"
	"time"
)

func TestParseISOTime(t *testing.T) {
	t.Parallel()
	// What datetime.fromisoformat of CPython 3.11 makes of each, naive as UTC.
	for text, want := range map[string]string{
		"2024-02-29T12:30:45.339778+00:00": "2024-02-29T12:30:45.339778+00:00",
		"2024-02-29 12:30":                 "2024-02-29T12:30:00+00:00",
		"20240229T123045Z":                 "2024-02-29T12:30:45+00:00",
		"2024-02-29":                       "2024-02-29T00:00:00+00:00",
		"2024-W09-4T12":                    "2024-02-29T12:00:00+00:00",
		"2024W094":                         "2024-02-29T00:00:00+00:00",
		"2024W09":                          "2024-02-26T00:00:00+00:00",
		"2020-W53-7":                       "2021-01-03T00:00:00+00:00",
		"2024-02-29T12:30:45,5":            "2024-02-29T12:30:45.500000+00:00",
		"2024-02-29T12:30:45.1234567-0530": "2024-02-29T12:30:45.123456-05:30",
		"2024-02-29é12:30+01:00:30":        "2024-02-29T12:30:00+01:00:30",
	} {
		got, err := ParseISOTime(text)
		if err != nil || FormatISOTime(got) != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "2024", "2024-02", "2024-02-30", "2024-13-01", "2024-02-29T", "2024-02-29T1", "2024-02-29T25:00",
		"2024-02-29T12:60", "2024-02-29T12:30:45.", "2024-02-29T12:3045", "2024-02-29T12:30Zx", "2024-02-29T12:30+24:00",
		"2024-02-29T12:30+", "2024-W54-1", "2023-W53-1", "2024-W09-8", "2024-W09-", "0000-01-01", "2024/02/29",
		"2024-02-29T12:30:45+00:00:00.5", "12:30", "５０24-02-29",
	} {
		if got, err := ParseISOTime(text); err == nil {
			t.Errorf("%q: got %v", text, got)
		}
	}
}

func TestNaiveTime(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("", -3600)
	at := time.Date(2024, 2, 29, 12, 30, 45, 1999, zone)
	n := NaiveTimeOf(at)
	if n.String() != "2024-02-29T12:30:45.000001" || !n.In(zone).Equal(at.Truncate(time.Microsecond)) {
		t.Errorf("got %v", n)
	}
	if s := (TimeOfDay{Aware: true, Offset: -time.Minute - time.Microsecond}).String(); s != "00:00:00-00:01:00.000001" {
		t.Error(s)
	}
}
