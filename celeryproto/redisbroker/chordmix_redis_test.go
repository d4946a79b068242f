package redisbroker_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/integration/redistest"
)

// startedChord is a chord that Python has started.
type startedChord struct {
	Body, Group string
	Tasks       []string
}

// mix is a Redis with Celery and this package on it.
type mix struct {
	t      *testing.T
	server *redistest.Server
	broker *redisbroker.Broker
	r      *redisbroker.Results
	peer   *chordPeer
}

func newMix(t *testing.T, settings map[string]any, opts redisbroker.ResultOptions) *mix {
	t.Helper()
	s := redistest.Start(t)
	return &mix{
		t: t, server: s, broker: mustOpen(t, s, redisbroker.Options{}), r: mustResults(t, s, opts), peer: mustChordPeer(t, s, settings),
	}
}

// start lets Python start a chord, and returns the message of its first task, which is ours.
func (m *mix) start(spec map[string]any) (startedChord, *celeryproto.Task) {
	m.t.Helper()
	spec["op"], spec["queue"] = "chord", "go"
	var c startedChord
	m.peer.ask(m.t, spec, &c)
	return c, m.take("go")
}

// take removes the oldest message of a queue.
func (m *mix) take(queue string) *celeryproto.Task {
	m.t.Helper()
	value, err := m.server.Client(m.t).RPop(m.t.Context(), queue).Bytes()
	if err != nil {
		m.t.Fatalf("queue %s: %v", queue, err)
	}
	envelope, err := celeryproto.DecodeEnvelope(value)
	if err != nil {
		m.t.Fatal(err)
	}
	task, err := celeryproto.DecodeTask(envelope)
	if err != nil {
		m.t.Fatal(err)
	}
	return task
}

// partOf returns our part of a chord.
func (m *mix) partOf(task *celeryproto.Task, status string, result celeryproto.Raw) *celeryproto.Chord {
	m.t.Helper()
	p, ok := canvas.PartOf(task, status, result)
	if !ok {
		m.t.Fatalf("not in a chord: %+v", task)
	}
	return mustPart(m.t, m.r, p)
}

// pythonPart lets Python return a part.
func (m *mix) pythonPart(c startedChord, body celeryproto.Raw, index int, state string, result any) {
	m.t.Helper()
	m.peer.ask(m.t, map[string]any{
		"op": "part", "task": c.Tasks[index], "group": c.Group, "index": index, "state": state, "result": result,
		"body": json.RawMessage(body),
	}, nil)
}

func (m *mix) length(queue string) int64 {
	m.t.Helper()
	return m.server.Client(m.t).LLen(m.t.Context(), queue).Val()
}

// Parts come from Go and from Celery, in both orders, each of them twice. Who brings the last one gets the chord.
func TestChordPartsOfBoth(t *testing.T) {
	t.Parallel()
	for _, unordered := range []bool{false, true} {
		t.Run(fmt.Sprintf("unordered %v", unordered), func(t *testing.T) {
			t.Parallel()
			settings := map[string]any{"result_backend_transport_options": map[string]any{
				"result_chord_ordered": !unordered, "global_keyprefix": "mix",
			}}
			m := newMix(t, settings, redisbroker.ResultOptions{ChordsUnordered: unordered, KeyPrefix: "mix"})
			spec := map[string]any{"header": []any{[]any{"go", 1}, []any{"py", 2}}, "body_queue": "body"}

			c, ours := m.start(spec)
			for range 2 {
				if got := m.partOf(ours, "SUCCESS", celeryproto.Raw("10")); got != nil {
					t.Fatalf("complete: %+v", got)
				}
			}
			for range 2 {
				m.pythonPart(c, ours.Embed.Chord, 1, "SUCCESS", 20)
			}
			if n := m.length("body"); n != 1 {
				t.Fatalf("%d bodies", n)
			}
			if body := m.take("body"); body.ID != c.Body || body.Args.String() != "[[10, 20]]" {
				t.Errorf("body %s with %s", body.ID, body.Args)
			}
			if got := m.partOf(ours, "SUCCESS", celeryproto.Raw("10")); got != nil {
				t.Errorf("after Python has finished it: %+v", got)
			}

			c, ours = m.start(spec)
			for range 2 {
				m.pythonPart(c, ours.Embed.Chord, 1, "SUCCESS", 20)
			}
			chord := m.partOf(ours, "SUCCESS", celeryproto.Raw("10"))
			want := "SUCCESS 10, SUCCESS 20"
			if unordered {
				want = "SUCCESS 20, SUCCESS 10"
			}
			if got := valuesOf(chord); got != want {
				t.Fatalf("results %s, want %s", got, want)
			}
			m.pythonPart(c, ours.Embed.Chord, 1, "SUCCESS", 20) // while we hold the chord
			mustFinish(t, m.r, chord)
			m.pythonPart(c, ours.Embed.Chord, 1, "SUCCESS", 20) // and when it is done
			if n := m.length("body"); n != 0 {
				t.Errorf("Python has sent %d bodies", n)
			}
		})
	}
}

// Parts, headers, groups and results in every serializer of Celery's, and compressed: each reads what the other has stored.
func TestChordSerializers(t *testing.T) {
	t.Parallel()
	for _, codec := range []celeryproto.ResultCodec{
		{Serializer: celeryproto.SerializerMsgpack}, {Serializer: celeryproto.SerializerPickle},
		{Serializer: celeryproto.SerializerYAML}, {Compression: "gzip"}, {Serializer: celeryproto.SerializerPickle, Compression: "bzip2"},
	} {
		name := codec.Serializer + codec.Compression
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := map[string]any{}
			if codec.Serializer != "" {
				var err error
				if codec.Accept, err = celeryproto.ParseAccept([]string{"json", codec.Serializer}); err != nil {
					t.Fatal(err)
				}
				settings["result_serializer"] = codec.Serializer
				settings["result_accept_content"] = []string{"json", codec.Serializer}
			}
			if codec.Compression != "" {
				settings["result_compression"] = codec.Compression
			}
			m := newMix(t, settings, redisbroker.ResultOptions{Codec: codec})
			spec := map[string]any{"header": []any{[]any{"go", 1}, []any{"py", 2}}, "body_queue": "body"}

			c, ours := m.start(spec)
			m.partOf(ours, "SUCCESS", celeryproto.Raw(`{"k": [1, null]}`))
			m.pythonPart(c, ours.Embed.Chord, 1, "SUCCESS", 20)
			if body := m.take("body"); body.Args.String() != `[[{"k": [1, null]}, 20]]` {
				t.Errorf("Python has read %s", body.Args)
			}
			c, ours = m.start(spec)
			m.pythonPart(c, ours.Embed.Chord, 1, "FAILURE", "boom")
			chord := m.partOf(ours, "SUCCESS", celeryproto.Raw("10"))
			if _, err := canvas.OnChordReady(nil, ours, ours.Embed.Chord, chord); err == nil ||
				!strings.HasSuffix(err.Error(), "raised ValueError('boom')") {
				t.Errorf("we have read %s: %v", valuesOf(chord), err)
			}

			tree := &celeryproto.ResultTree{ID: "ours", IsGroup: true, Children: []celeryproto.ResultTree{{ID: "a"}}}
			if err := m.r.SaveGroup(t.Context(), tree); err != nil {
				t.Fatal(err)
			}
			var answer struct{ Tree, Value json.RawMessage }
			m.peer.ask(t, map[string]any{"op": "group", "id": "ours"}, &answer)
			if got := string(answer.Tree); got != tree.Raw().String() {
				t.Errorf("Python reads the group %s", got)
			}
			m.peer.ask(t, map[string]any{"op": "save", "id": "theirs", "members": []string{"x"}}, nil)
			if got, err := m.r.Group(t.Context(), "theirs"); err != nil || got.Children[0].ID != "x" {
				t.Errorf("we read the group %+v, %v", got, err)
			}
			if err := m.r.Store(t.Context(), meta("task", "SUCCESS", `["stored"]`)); err != nil {
				t.Fatal(err)
			}
			if got, err := m.r.Wait(t.Context(), "task"); err != nil || got.Result.String() != `["stored"]` {
				t.Errorf("%+v, %v", got, err)
			}
			m.peer.ask(t, map[string]any{"op": "get", "id": "task"}, &answer)
			if string(answer.Value) != `["stored"]` {
				t.Errorf("Python reads the result %s", answer.Value)
			}
		})
	}
	for _, codec := range []celeryproto.ResultCodec{{Serializer: "xml"}, {Compression: "rot13"}, {Serializer: celeryproto.SerializerPickle}} {
		if _, err := redisbroker.OpenResults(redisbroker.ResultOptions{Codec: codec}); err == nil {
			t.Errorf("%+v: opened", codec)
		}
	}
}

// The error of a chord is, word for word, the same whoever finds it.
func TestChordErrorOfBoth(t *testing.T) {
	t.Parallel()
	m := newMix(t, nil, redisbroker.ResultOptions{})
	spec := map[string]any{"header": []any{[]any{"go", 1}, []any{"py", 2}}}
	value := func(id string) (answer struct{ Value string }) {
		t.Helper()
		m.peer.ask(t, map[string]any{"op": "get", "id": id}, &answer)
		return answer
	}
	c, ours := m.start(spec)
	exc, err := celeryproto.NewException("builtins", "ValueError", `it's "so"`+"\n").Raw()
	if err != nil {
		t.Fatal(err)
	}
	m.partOf(ours, "FAILURE", exc)
	m.pythonPart(c, ours.Embed.Chord, 1, "SUCCESS", 20)
	python := value(c.Body).Value

	d, ours := m.start(spec)
	m.pythonPart(d, ours.Embed.Chord, 1, "SUCCESS", 20)
	chord := m.partOf(ours, "FAILURE", exc)
	m.fail(chord, ours)
	got := value(d.Body).Value
	if want := fmt.Sprintf("ChordError(%s)", canvas.Repr(celeryproto.AppendString(nil,
		fmt.Sprintf(`Dependency %s raised ValueError('it\'s "so"\n')`, d.Tasks[0])))); got != want {
		t.Errorf("ours: %s\nwant: %s", got, want)
	}
	if len(python) != len(got) {
		t.Errorf("ours: %s\nPython's: %s", got, python)
	}
}

// fail takes the failure path of a chord.
func (m *mix) fail(chord *celeryproto.Chord, req *celeryproto.Task) {
	m.t.Helper()
	_, err := canvas.OnChordReady(nil, req, req.Embed.Chord, chord)
	failed, ok := errors.AsType[*canvas.ChordError](err)
	if !ok {
		m.t.Fatalf("chord did not fail: %v", err)
	}
	failure, err := canvas.OnChordFailed(nil, req.Embed.Chord, failed, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, task := range failure.Tasks {
		task.Result.DateDone = time.Now()
		if err := m.r.Store(m.t.Context(), task.Result); err != nil {
			m.t.Error(err)
		}
	}
	if err := m.r.FailChord(m.t.Context(), chord); err != nil {
		m.t.Error(err)
	}
}

// succeed sends the body of a chord.
func (m *mix) succeed(chord *celeryproto.Chord, req *celeryproto.Task) {
	m.t.Helper()
	plan, err := canvas.OnChordReady(nil, req, req.Embed.Chord, chord)
	if err != nil {
		m.t.Fatal(err)
	}
	if renewed, err := m.r.RenewChord(m.t.Context(), chord); err != nil || !renewed {
		m.t.Fatalf("renew: %v, %v", renewed, err)
	}
	for _, step := range plan.Steps {
		task, err := step.Send.Message(canvas.Defaults{Now: time.Now()})
		if err != nil {
			m.t.Fatal(err)
		}
		task.SetQueue("py")
		message, err := task.Append(nil)
		if err != nil {
			m.t.Fatal(err)
		}
		if err := m.broker.Publish(m.t.Context(), redisbroker.Message{Queue: "py", Envelope: message}); err != nil {
			m.t.Fatal(err)
		}
	}
	if err := m.r.FinishChord(m.t.Context(), chord); err != nil {
		m.t.Error(err)
	}
}

// A real worker runs the other tasks of the header, and the body.
func TestChordWithPythonWorker(t *testing.T) {
	t.Parallel()
	m := newMix(t, nil, redisbroker.ResultOptions{})
	c := m.server.Client(t)
	value := func(id string) string {
		t.Helper()
		var answer struct{ Value json.RawMessage }
		m.peer.ask(t, map[string]any{"op": "get", "id": id}, &answer)
		return string(answer.Value)
	}
	store := func(task *celeryproto.Task, result string) {
		t.Helper()
		own := meta(task.ID, "SUCCESS", result)
		own.GroupID = task.GroupID
		if err := m.r.Store(t.Context(), own); err != nil {
			t.Fatal(err)
		}
	}
	counted := func(group string, n int64) {
		t.Helper()
		eventually(t, "the worker has returned its parts", func() bool {
			return c.SCard(t.Context(), m.r.GroupKey(group)+".d").Val() == n
		})
	}
	spec := map[string]any{"header": []any{[]any{"go", 1}, []any{"py", 2}}}

	first, ours := m.start(spec)
	store(ours, "1")
	if got := m.partOf(ours, "SUCCESS", celeryproto.Raw("1")); got != nil {
		t.Fatalf("complete: %+v", got)
	}
	mustChordPeer(t, m.server, nil, "worker") // and now there is a worker
	if got := value(first.Body); got != `{"values": [1, 2]}` {
		t.Errorf("finished by Python: %s", got)
	}

	second, ours := m.start(spec)
	counted(second.Group, 1)
	store(ours, "1")
	m.succeed(m.partOf(ours, "SUCCESS", celeryproto.Raw("1")), ours)
	if got := value(second.Body); got != `{"values": [1, 2]}` {
		t.Errorf("finished by Go: %s", got)
	}

	spec["complex"] = true
	third, ours := m.start(spec)
	counted(third.Group, 3)
	store(ours, "1")
	m.succeed(m.partOf(ours, "SUCCESS", celeryproto.Raw("1")), ours)
	if got := value(third.Body); got != `{"values": [1, 2, [1, 1]]}` {
		t.Errorf("complex header, finished by Go: %s", got)
	}

	fourth, ours := m.start(spec)
	store(ours, "1")
	if got := m.partOf(ours, "SUCCESS", celeryproto.Raw("1")); got != nil {
		m.succeed(got, ours) // the worker was faster
	}
	if got := value(fourth.Body); got != `{"values": [1, 2, [1, 1]]}` {
		t.Errorf("complex header: %s", got)
	}

	fifth, ours := m.start(map[string]any{"header": []any{[]any{"go", 1}}, "fail": true})
	counted(fifth.Group, 1)
	m.fail(m.partOf(ours, "SUCCESS", celeryproto.Raw("1")), ours)
	want := fmt.Sprintf(`"ChordError(\"Dependency %s raised ValueError('x')\")"`, fifth.Tasks[1])
	if got := value(fifth.Body); got != want {
		t.Errorf("failed: %s, want %s", got, want)
	}
}

// Groups that one has saved the other can read.
func TestSavedGroupsOfBoth(t *testing.T) {
	t.Parallel()
	m := newMix(t, nil, redisbroker.ResultOptions{})
	tree := &celeryproto.ResultTree{
		ID: "ours", IsGroup: true, Parent: &celeryproto.ResultTree{ID: "before"},
		Children: []celeryproto.ResultTree{
			{ID: "a"}, {ID: "b", Parent: &celeryproto.ResultTree{ID: "c"}},
			{ID: "inner", IsGroup: true, Children: []celeryproto.ResultTree{{ID: "d"}}}, {ID: "empty", IsGroup: true},
		},
	}
	if err := m.r.SaveGroup(t.Context(), tree); err != nil {
		t.Fatal(err)
	}
	var answer struct{ Tree json.RawMessage }
	m.peer.ask(t, map[string]any{"op": "group", "id": "ours"}, &answer)
	if got := string(answer.Tree); got != tree.Raw().String() {
		t.Errorf("Python reads %s, want %s", got, tree.Raw())
	}
	m.peer.ask(t, map[string]any{"op": "save", "id": "theirs", "members": []string{"x", "y"}}, nil)
	got, err := m.r.Group(t.Context(), "theirs")
	want := &celeryproto.ResultTree{ID: "theirs", IsGroup: true, Children: []celeryproto.ResultTree{{ID: "x"}, {ID: "y"}}}
	if err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("%v, %v", err, cmp.Diff(want, got))
	}
}
