package celeryproto

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What never was on the wire is written in one go: the same bytes as by its fields, one after the other.
func TestAppendNewTask(t *testing.T) {
	t.Parallel()
	now, limit, yes := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC), 1.5, true
	usual, err := NewTask("t", []any{1, "é"}, map[string]any{"k": []byte("b")})
	if err != nil {
		t.Fatal(err)
	}
	usual.SetQueue("q")
	full := *usual
	full.ETA, full.Expires, full.TimeLimit[1], full.IgnoreResult, full.Redelivered = &now, &now, &limit, &yes, true
	full.Embed.Callbacks, full.Stamps, full.Compression = Raw(`[{"task": "c"}]`), Raw(`{"s": 1}`), CompressionZlib
	full.ExtraHeaders = Members{{Key: "x\n", Value: nil}, {Key: "y", Value: Raw("[2]")}}
	full.Properties.Priority, full.Properties.Expiration, full.Properties.Extra = 3, "5", Members{{Key: "z", Value: Raw("1")}}
	full.Properties.DeliveryInfo.Extra = Members{{Key: "w", Value: Raw("1")}}
	plain := full
	plain.Properties.BodyEncoding, plain.Serializer = BodyUTF8, SerializerMsgpack
	v1 := *usual
	v1.Protocol = 1
	for name, task := range map[string]*Task{"usual": usual, "full": &full, "bytes": &plain, "protocol 1": &v1} {
		task.Properties.DeliveryTag = "tag"
		got, err := task.Append([]byte("before"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		e, err := task.Envelope()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		set, err := e.fields()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(string(set.appendObject([]byte("before"))), string(got)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	full.ExtraHeaders = Members{{Key: keyTask, Value: Raw("1")}}
	if got, err := full.Append([]byte("before")); err == nil || string(got) != "before" {
		t.Errorf("a header with a field of its own: %q, %v", got, err)
	}
}

func TestAppendNewResult(t *testing.T) {
	t.Parallel()
	retries := 2
	for name, m := range map[string]*ResultMeta{
		"usual": {Status: StatusSuccess, Result: Raw("5"), TaskID: "i", DateDone: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		"full": {
			Status: StatusFailure, Result: Raw(`{"a": 1}`), Traceback: "é\n", Children: Raw("[[1]]"), TaskID: "i", GroupID: "g", ParentID: "p",
			Extended: &ResultExtended{Name: "n", Args: Raw("[1]"), Kwargs: Raw("{}"), Worker: "w", Retries: &retries, Queue: "q"},
			Extra:    Members{{Key: "stamps", Value: Raw(`{"s": 1}`)}},
		},
	} {
		got, err := m.Append([]byte("before"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		members, err := m.merged()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(string(members.Append([]byte("before"))), string(got)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	bad := &ResultMeta{Status: StatusSuccess, Result: Raw("[1"), TaskID: "i"}
	if got, err := bad.Append([]byte("before")); err == nil || string(got) != "before" {
		t.Errorf("a result that is no JSON: %q, %v", got, err)
	}
}

// Keys of objects that are read in one scan with what is around them count as in Python: the last of duplicates, escapes or not.
func TestDecodeNestedDuplicates(t *testing.T) {
	t.Parallel()
	props := `"properties": {"delivery_tag": "t", "delivery_info": {"exchange": "1", "routing_key": "1"}}`
	for text, want := range map[string]string{
		`{"body": "", "headers": {"a": 1}, "headers": {"a": 2}, ` + props + `}`:      `{"a": 2}`,
		`{"body": "", "headers": {"a": 1}, "he\u0061ders": {"a": 3}, ` + props + `}`: `{"a": 3}`,
		`{"body": "", "he\u0061ders": {"a": 3}, "headers": {"a": 1}, ` + props + `}`: `{"a": 1}`,
		`{"body": "", "headers": {"a": 1}, "headers": null, ` + props + `}`:          `{}`,
		`{"body": "", "headers": {"a": 1, "b": 2, "\u0061": 4}, ` + props + `}`:      `{"a": 4, "b": 2}`,
		`{"body": "", ` + props + `, "headers": {}, ` + `"properties": {"delivery_tag": "u", ` +
			`"delivery_info": {"exchange": "2", "routing_key": "2"}, "delivery_info": {"exchange": "3", "routing_key": "3"}}}`: `{}`,
	} {
		e, err := DecodeEnvelope([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := string(e.Headers.Append(nil)); got != want {
			t.Errorf("%s: headers %s, want %s", text, got, want)
		}
		if e.Properties.DeliveryTag == "u" && e.Properties.DeliveryInfo.Exchange != "3" {
			t.Errorf("%s: exchange %q", text, e.Properties.DeliveryInfo.Exchange)
		}
	}
	if _, err := DecodeEnvelope([]byte(`{"body": "", "headers": {"a": 1}, "headers": [], ` + props + `}`)); err == nil {
		t.Error("headers that are a list in the end are taken")
	}
}
