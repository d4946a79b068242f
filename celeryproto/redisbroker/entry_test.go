package redisbroker

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/dfws/dfws/celeryproto"
)

// unackedValues are recorded values of the unacked hash.
func unackedValues(t testing.TB, names ...string) (entries []string, lists map[string][]string) {
	t.Helper()
	lists = make(map[string][]string)
	for _, name := range names {
		b, err := os.ReadFile("testdata/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var f struct {
			Redis []struct {
				Type, Key string
				Value     string `json:"value_utf8"`
			}
		}
		if err := json.Unmarshal(b, &f); err != nil {
			t.Fatal(err)
		}
		for _, item := range f.Redis {
			switch item.Type {
			case "hash":
				entries = append(entries, item.Value)
			case "list":
				lists[item.Key] = append(lists[item.Key], item.Value)
			}
		}
	}
	return entries, lists
}

func TestParseEntry(t *testing.T) {
	t.Parallel()
	entries, _ := unackedValues(t, "unacked_entries", "unacked_restore_after_crash")
	if len(entries) < 6 {
		t.Fatalf("%d recorded entries", len(entries))
	}
	for _, value := range entries {
		e, err := parseEntry([]byte(value))
		if err != nil {
			t.Fatal(err)
		}
		if e.exchange != "" || e.routingKey != "celery" {
			t.Errorf("exchange %q, routing key %q", e.exchange, e.routingKey)
		}
		if again := "[" + string(e.envelope) + `, "", "celery"]`; again != value {
			t.Errorf("not the same bytes:\n%s\n%s", value, again)
		}
	}
}

// What the restore of Python made of the recorded entries.
func TestRedeliveredMatchesPython(t *testing.T) {
	t.Parallel()
	entries, lists := unackedValues(t, "unacked_restore_after_crash")
	restored := append(lists["celery"], lists["celery\x06\x166"]...)
	found := 0
	for _, value := range entries {
		e, err := parseEntry([]byte(value))
		if err != nil {
			t.Fatal(err)
		}
		got := redelivered(e.envelope)
		for _, want := range restored {
			if string(got) == want {
				found++
			}
		}
		if !bytes.Equal(redelivered(got), got) {
			t.Error("marking twice changes something")
		}
		decoded, err := celeryproto.DecodeEnvelope(got)
		if err != nil || !wasRedelivered(decoded) {
			t.Errorf("not marked: %v", err)
		}
	}
	if found != 2 {
		t.Errorf("%d of 2 envelopes are as Python restored them", found)
	}
}

func TestRedeliveredKeepsValues(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"headers":{"n":1e400,"n":0.10,"x":"\ud800"},"properties":{"delivery_info":{}}}`:          `{"headers": {"n": 1e400, "n": 0.10, "x": "\ud800", "redelivered": true}, "properties": {"delivery_info": {"redelivered": true}}}`,
		`{"headers": {"redelivered": false}, "properties": {"delivery_info": {"redelivered": 1}}}`: `{"headers": {"redelivered": true}, "properties": {"delivery_info": {"redelivered": true}}}`,
		`{"body": NaN}`:                       `{"body": NaN}`,
		`{"headers": null, "properties": []}`: `{"headers": null, "properties": []}`,
		`not JSON`:                            `not JSON`,
		`[1]`:                                 `[1]`,
	} {
		if got := string(redelivered([]byte(in))); got != want {
			t.Errorf("%s\n got %s\nwant %s", in, got, want)
		}
	}
}

func TestPriorityOf(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int{
		`{"properties": {"priority": 6}}`: 6, `{"properties": {"priority": "5"}}`: 5, `{"properties": {"priority": 7.9}}`: 7,
		`{"properties": {"priority": null}}`: 0, `{"properties": {}}`: 0, `{}`: 0, `[]`: 0, `{"properties": {"priority": 1e99}}`: 10,
		`{"properties": {"priority": "x"}}`: 0, `{"properties": {"priority": NaN}}`: 0, `{"properties": 3}`: 0,
	} {
		if got := priorityOf([]byte(in)); got != want {
			t.Errorf("%s: %d, want %d", in, got, want)
		}
	}
}

func TestHeldEntry(t *testing.T) {
	t.Parallel()
	queue, raw, err := parseHeld(appendHeld("q\"ü\n", []byte("\x00\nrest")))
	if queue != "q\"ü\n" || string(raw) != "\x00\nrest" || err != nil {
		t.Errorf("%q, %q, %v", queue, raw, err)
	}
	for _, bad := range []string{"", "x", "x\ny", "3\ny"} {
		if _, _, err := parseHeld([]byte(bad)); err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}

func FuzzParseEntry(f *testing.F) {
	entries, _ := unackedValues(f, "unacked_entries")
	for _, value := range entries {
		f.Add([]byte(value))
	}
	f.Add([]byte(`[{}, null, "q"]`))
	f.Add([]byte(`[{"headers": {}, "properties": {"delivery_info": {"redelivered": 0}, "priority": "3"}}, "ex", "rk"]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEntry(b)
		if err != nil {
			var entryErr *EntryError
			if !errors.As(err, &entryErr) {
				t.Errorf("error of type %T", err)
			}
			return
		}
		marked := redelivered(e.envelope)
		if err := celeryproto.CheckJSON(marked, celeryproto.JSONLimits{}); err != nil {
			t.Errorf("marking made it invalid: %v\n%s", err, marked)
		}
		if again := redelivered(marked); !bytes.Equal(again, marked) {
			t.Errorf("marking twice:\n%s\n%s", marked, again)
		}
		if p := priorityOf(marked); p != priorityOf(e.envelope) {
			t.Errorf("priority changed to %d", p)
		}
	})
}
