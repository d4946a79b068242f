package compat

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dfws/dfws/celeryproto"
)

// goldenType is one Python value on its two ways.
type goldenType struct {
	Type         string  `json:"type"`
	Browser      *string `json:"browser"`
	BrowserError *string `json:"browser_error"`
	Celery       *string `json:"celery"`
}

func goldenTypes(tb testing.TB) []goldenType {
	tb.Helper()
	var golden struct {
		Types []goldenType `json:"types"`
	}
	mustGolden(tb, "json_types.json", &golden)
	return golden.Types
}

// TestEncodeOptsOfTasks: options that reached a worker as kombu's JSON go to a browser as Python would send them.
func TestEncodeOptsOfTasks(t *testing.T) {
	t.Parallel()
	for _, g := range goldenTypes(t) {
		if g.Celery == nil {
			continue
		}
		got, err := EncodeOpts(celeryproto.Raw(*g.Celery))
		switch {
		case g.BrowserError != nil:
			if err == nil {
				t.Errorf("%s: %s, Python refuses it", g.Type, got)
			}
		case err != nil:
			t.Errorf("%s: %v", g.Type, err)
		case string(got) != *g.Browser:
			t.Errorf("%s:\n got %s\nwant %s", g.Type, got, *g.Browser)
		}
	}
}

// TestEncodeOptsOfGo: the same values as Go has them.
func TestEncodeOptsOfGo(t *testing.T) {
	t.Parallel()
	values := map[string]any{
		"datetime naive":  celeryproto.NaiveTime{Year: 2026, Month: 1, Day: 2, Hour: 3, Minute: 4, Second: 5, Microsecond: 678901},
		"datetime utc":    time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC),
		"datetime +02:00": time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 7200)),
		"date":            celeryproto.Date{Year: 2026, Month: 1, Day: 2},
		"time":            celeryproto.TimeOfDay{Hour: 3, Minute: 4, Second: 5, Microsecond: 678901},
		"timedelta":       Timedelta(24*time.Hour + 2*time.Second + 3*time.Microsecond),
		"Decimal":         celeryproto.Decimal("1.10"),
		"UUID":            uuid.MustParse("00000000-0000-0000-0000-000000000005"),
		"bytes utf-8":     []byte("ab"),
		"bytes not utf-8": []byte("ab\xff"),
		"tuple":           [2]int{1, 2},
		"html":            `</script>&'"`,
		"non ascii":       "\u00e9",
	}
	seen := 0
	for _, g := range goldenTypes(t) {
		v, ok := values[g.Type]
		if !ok {
			continue
		}
		seen++
		got, err := EncodeOpts(map[string]any{"v": v})
		switch {
		case g.Browser == nil:
			if err == nil {
				t.Errorf("%s: %s, Python refuses it", g.Type, got)
			}
		case err != nil || string(got) != *g.Browser:
			t.Errorf("%s: %s, %v, want %s", g.Type, got, err, *g.Browser)
		}
	}
	if seen != len(values) {
		t.Errorf("%d of %d types are in the golden file", seen, len(values))
	}
}

func TestEncodeOpts(t *testing.T) {
	t.Parallel()
	type item struct {
		Name string    `json:"name"`
		At   time.Time `json:"at"`
	}
	for _, test := range []struct {
		in   any
		want string
	}{
		{nil, `{}`},
		{celeryproto.Raw(nil), `{}`},
		{celeryproto.Raw("null"), `{}`},
		{celeryproto.Raw(` { "a" : [ 1 , -2.50e1 , NaN ] , "b":"é\u00e9\/\"" } `), `{"a": [1, -2.50e1, NaN], "b": "\u00e9\u00e9/\""}`},
		{celeryproto.Raw(`{"a":",: [","":{}}`), `{"a": ",: [", "": {}}`},
		{celeryproto.Raw("{\"d\":\"\x7f\\\\\"}"), `{"d": "\u007f\\"}`},
		{celeryproto.Raw(`{"a":{"__type__":"decimal","__value__":"1.10"},"b":[{"x":1}]}`), `{"a": "1.10", "b": [{"x": 1}]}`},
		{item{Name: "n", At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, `{"name": "n", "at": "2026-01-02T03:04:05Z"}`},
		{map[string]any{"d": Timedelta(-90 * time.Minute), "z": Timedelta(0)}, `{"d": "-P0DT01H30M00S", "z": "P0DT00H00M00S"}`},
	} {
		got, err := EncodeOpts(test.in)
		if err != nil || string(got) != test.want {
			t.Errorf("%v:\n got %s, %v\nwant %s", test.in, got, err, test.want)
		}
	}
}

func TestEncodeOptsRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		in   any
		part string
	}{
		{celeryproto.Raw(`{"a"`), "json"},
		{map[string]any{"a": time.Second}, "a: time.Duration: no duration"},
		{map[string]any{"a": make(chan int)}, "chan"},
		{celeryproto.Raw(`{"__type__":"unknown","__value__":1}`), "unknown"},
		{celeryproto.Raw(`{"a":{"__type__":"bytes","__value__":"x"}}`), "bytes"},
		{map[string]any{"a": celeryproto.TimeOfDay{Aware: true}}, "timezone"},
	} {
		if got, err := EncodeOpts(test.in); err == nil || !strings.Contains(err.Error(), test.part) {
			t.Errorf("%v: %s, %v, want %q in the error", test.in, got, err, test.part)
		}
	}
}

func FuzzEncodeOpts(f *testing.F) {
	for _, g := range goldenTypes(f) {
		if g.Celery != nil {
			f.Add([]byte(*g.Celery))
		}
	}
	f.Add([]byte(` {"a" :"\ud800é\\" , "b": [ 1,{ } ]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := EncodeOpts(celeryproto.Raw(b))
		if err != nil {
			return
		}
		mustCheck(t, got)
		again, err := EncodeOpts(got)
		if err != nil || string(again) != string(got) {
			t.Errorf("%s is not stable: %s, %v", got, again, err)
		}
	})
}
