package canvas_test

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
)

// generated are IDs that Celery or this package has made.
var generated = regexp.MustCompile(`(?:py|go)\d{12}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// renamed gives generated IDs names in the order in which they come.
func renamed(text string) string {
	names := map[string]string{}
	return generated.ReplaceAllStringFunc(text, func(id string) string {
		name, known := names[id]
		if !known {
			name = fmt.Sprintf("#%d", len(names))
			names[id] = name
		}
		return name
	})
}

// clock are times that Python and Go have computed.
var clock = regexp.MustCompile(`^20[23]\d-.*\+00:00$`)

// canonical is a value as text that is the same for the same value: keys sorted, as are the names of stamps, whose order is
// random in Python; tuples in the repr of keyword arguments are lists.
func canonical(t testing.TB, v any) string {
	t.Helper()
	var text []byte
	switch v := v.(type) {
	case json.RawMessage:
		text = v
	case celeryproto.Raw:
		text = v
	default:
		var err error
		if text, err = json.Marshal(v); err != nil {
			t.Fatal(err)
		}
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	sortStamps(value)
	sorted, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(sorted)
}

func sortStamps(v any) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			sortStamps(item)
		}
	case map[string]any:
		for key, item := range v {
			if clock.MatchString(fmt.Sprint(item)) && (key == "eta" || key == "expires") || key == "expiration" {
				v[key] = "by the clock"
			}
			if text, ok := item.(string); ok && key == "kwargsrepr" {
				// Of the signature inside of a map, Python still has the arguments as a tuple.
				v[key] = strings.NewReplacer(",)", "]", ")", "]", "(", "[").Replace(text)
			}
			if names, ok := item.([]any); ok && key == "stamped_headers" {
				// Python may give a name without a value, see stampHeaders: what has it cannot be sent.
				stamps, _ := v["stamps"].(map[string]any)
				names = slices.DeleteFunc(names, func(name any) bool {
					text, _ := name.(string)
					return v[text] == nil && stamps[text] == nil
				})
				v[key] = names
				slices.SortFunc(names, func(a, b any) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			}
			sortStamps(item)
		}
	}
}

// env is a process whose IDs cannot be Python's.
func env(conf object) *canvas.Env {
	n := 0
	e := &canvas.Env{ReplyTo: "reply-to", NewID: func() string {
		n++
		return fmt.Sprintf("go%012d", n)
	}}
	if conf["task_protocol"] == 1 {
		e.Protocol = 1
	}
	e.AllowErrorCallbackOnChordHeader, _ = conf["task_allow_error_cb_on_chord_header"].(bool)
	e.InheritParentPriority, _ = conf["task_inherit_parent_priority"].(bool)
	return e
}

// defaults are those of testdata/reference.py.
func defaults(conf object) canvas.Defaults {
	known, set := conf["known"].(bool)
	d := canvas.Defaults{
		Now: time.Now(), Lang: "py", ReplyTo: "reply-to",
		TaskOptions: func(task string) (celeryproto.Members, bool) {
			return nil, (known || !set) && strings.HasPrefix(task, "t.") || task == "t.run"
		},
	}
	if conf["task_protocol"] == 1 {
		d.Protocol = 1
	}
	return d
}

// effects are the steps of a plan in the form of testdata/reference.py.
func effects(t testing.TB, plan *canvas.Plan, conf object) []any {
	t.Helper()
	list := []any{}
	if plan == nil {
		return list
	}
	for _, step := range plan.Steps {
		switch {
		case step.Send != nil && step.Chord != nil, step.Send == nil && step.Chord == nil:
			t.Fatalf("a step with both or nothing: %+v", step)
		case step.Send != nil:
			list = append(list, sent(t, step.Send, conf))
		case step.Chord.Header != nil:
			list = append(list, object{
				"header": json.RawMessage(step.Chord.Header.Raw()), "complex": step.Chord.Complex, "group": step.Chord.GroupID,
			})
		default:
			list = append(list, object{"size": step.Chord.Size, "group": step.Chord.GroupID})
		}
	}
	return list
}

// sent is a message as Python's virtual transport gets it, without origin and delivery tag.
func sent(t testing.TB, s *canvas.Send, conf object) object {
	t.Helper()
	task, err := s.Message(defaults(conf))
	if err != nil {
		t.Fatalf("message: %v\n%+v", err, s)
	}
	queue := cmp.Or(s.Queue(), "celery")
	task.SetQueue(queue)
	wire, err := task.Append(nil)
	if err != nil {
		t.Fatalf("message: %v", err)
	}
	return object{"queue": queue, "message": readable(t, wire)}
}

// readable is a message with its body decoded.
func readable(t testing.TB, wire []byte) object {
	t.Helper()
	var message struct {
		Body       string         `json:"body"`
		Encoding   string         `json:"content-encoding"`
		Type       string         `json:"content-type"`
		Headers    map[string]any `json:"headers"`
		Properties map[string]any `json:"properties"`
	}
	d := json.NewDecoder(bytes.NewReader(wire))
	d.UseNumber()
	if err := d.Decode(&message); err != nil {
		t.Fatal(err)
	}
	body, err := base64.StdEncoding.DecodeString(message.Body)
	if err != nil {
		t.Fatal(err)
	}
	delete(message.Headers, "origin")
	delete(message.Properties, "delivery_tag")
	return object{
		"body": json.RawMessage(body), "content-encoding": message.Encoding, "content-type": message.Type,
		"headers": message.Headers, "properties": message.Properties,
	}
}

// diff shows where two texts part.
func diff(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			from := max(0, i-12)
			return fmt.Sprintf("line %d:\npython:\n%s\ngo:\n%s", i,
				strings.Join(x[from:min(len(x), i+8)], "\n"), strings.Join(y[from:min(len(y), i+8)], "\n"))
		}
	}
	return fmt.Sprintf("lengths %d and %d", len(x), len(y))
}
