package canvas_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
)

// recording is a golden of real Celery (integration/capture).
type recording struct {
	messages []string          // envelopes, in the order in which they were pushed
	keys     map[string]string // of the result backend
}

func mustRecording(t testing.TB, name string) recording {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "testdata", "celery", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Redis []struct {
			Key, Type, Cmd string
			Value          string `json:"value_utf8"`
			Args           []struct {
				Text string `json:"arg_utf8"`
			}
		}
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	r := recording{keys: map[string]string{}}
	var list []string
	for _, e := range file.Redis {
		switch {
		case e.Type == "list":
			list = append(list, e.Value)
		case e.Type == "command" && e.Cmd == "LPUSH":
			r.messages = append(r.messages, e.Args[1].Text)
		case e.Type == "string":
			r.keys[e.Key] = e.Value
		}
	}
	slices.Reverse(list) // index 0 was pushed last
	r.messages = append(r.messages, list...)
	return r
}

// goldenDefaults are those of the recorded process; its tasks are all known.
func goldenDefaults() canvas.Defaults {
	return canvas.Defaults{
		Now: time.Now(), Lang: "py", Origin: "gen1@golden", ReplyTo: "reply-to",
		TaskOptions: func(string) (celeryproto.Members, bool) { return nil, true },
	}
}

var origin = regexp.MustCompile(`gen\d+@golden`)

// plain is an envelope with its body in the clear.
func plain(t testing.TB, envelope string) string {
	t.Helper()
	quoted := regexp.MustCompile(`^\{"body": "([A-Za-z0-9+/=]*)"`).FindStringSubmatch(envelope)
	if quoted == nil {
		t.Fatalf("no envelope: %s", envelope)
	}
	body, err := base64.StdEncoding.DecodeString(quoted[1])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(origin.ReplaceAllString(envelope, "gen1@golden"), quoted[1], string(body), 1)
}

// wire are the messages of a plan as they are pushed.
func wire(t testing.TB, plan *canvas.Plan) []string {
	t.Helper()
	var messages []string
	for _, step := range plan.Steps {
		if step.Send == nil {
			continue
		}
		task, err := step.Send.Message(goldenDefaults())
		if err != nil {
			t.Fatal(err)
		}
		task.SetQueue(queueOf(step.Send))
		message, err := task.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, string(message))
	}
	return messages
}

func queueOf(s *canvas.Send) string {
	if queue := s.Queue(); queue != "" {
		return queue
	}
	return "celery"
}

// likeOurs writes what Python chooses at random as we do: the order of stamps. And in the repr of the keyword arguments of a map
// it has tuples, which no message has.
var likeOurs = strings.NewReplacer(
	`["tenant", "monitoring_id"]`, `["monitoring_id", "tenant"]`,
	`{"tenant": ["a", "b"], "monitoring_id": "m-1"}`, `{"monitoring_id": "m-1", "tenant": ["a", "b"]}`,
	`'args': ()`, `'args': []`, `'it': [(1, 2), (3, 4)]`, `'it': [[1, 2], [3, 4]]`, `'it': [(5, 6)]`, `'it': [[5, 6]]`,
)

// sameBytes compares messages byte for byte up to IDs, tags, process and likeOurs.
func sameBytes(t testing.TB, want, got []string) {
	t.Helper()
	join := func(messages []string) string {
		var all []string
		for _, message := range messages {
			all = append(all, strings.ReplaceAll(plain(t, message), `"reply-to"`, `"ffffffff-ffff-4fff-8fff-ffffffffffff"`))
		}
		return renamed(likeOurs.Replace(strings.Join(all, "\n")))
	}
	if x, y := join(want), join(got); x != y {
		t.Errorf("want\n%s\ngot\n%s", x, y)
	}
}

// goldenEnv makes IDs that look like Python's.
func goldenEnv() *canvas.Env {
	n := 0
	return &canvas.Env{ReplyTo: "reply-to", NewID: func() string {
		n++
		return "00000000-0000-4000-9000-" + strconv.Itoa(100000000000+n)
	}}
}

const firstID = "00000000-0000-4000-8000-000000000001"

// The compositions of integration/capture/celery_messages/cases_canvas.py.
var goldenCanvas = map[string]func() []*canvas.Signature{
	"canvas_link": func() []*canvas.Signature {
		return one(canvas.New("demo.add", 1, 2).Set("task_id", firstID).Link(canvas.New("demo.add", 10)))
	},
	"canvas_link_many": func() []*canvas.Signature {
		mul := canvas.New("demo.mul", 3, 4).Immutable(true).Set("queue", "video").Set("countdown", 5)
		return one(canvas.New("demo.add", 1, 2).Set("task_id", firstID).Link(canvas.New("demo.add", 10)).Link(mul))
	},
	"canvas_link_error": func() []*canvas.Signature {
		return one(canvas.New("demo.fail_value", "x").Set("task_id", firstID).
			LinkError(canvas.New("demo.on_error_new")).LinkError(canvas.New("demo.on_error_old")))
	},
	"canvas_chain": func() []*canvas.Signature {
		return one(canvas.Chain(canvas.New("demo.add", 1, 2), canvas.New("demo.add", 10), canvas.New("demo.mul", 3)))
	},
	"canvas_group": func() []*canvas.Signature { return one(adds()) },
	"canvas_chord": func() []*canvas.Signature { return one(canvas.Chord(adds(), canvas.New("demo.xsum"))) },
	"canvas_chord_body_chain": func() []*canvas.Signature {
		return one(canvas.Chord(adds(), canvas.Chain(canvas.New("demo.xsum"), canvas.New("demo.add", 5))))
	},
	"canvas_chain_with_group": func() []*canvas.Signature {
		return one(canvas.Chain(canvas.New("demo.add", 1, 1), canvas.Group(canvas.New("demo.add", 1), canvas.New("demo.add", 2)),
			canvas.New("demo.xsum")))
	},
	"canvas_group_of_chains": func() []*canvas.Signature {
		return one(canvas.Group(
			canvas.Chain(canvas.New("demo.add", 1, 1), canvas.New("demo.add", 1)),
			canvas.Chain(canvas.New("demo.add", 2, 2), canvas.New("demo.add", 2))))
	},
	"canvas_chord_of_chains": func() []*canvas.Signature {
		header := canvas.Group(canvas.Chain(canvas.New("demo.add", 1, 1), canvas.New("demo.add", 1)), canvas.New("demo.add", 2, 2))
		return one(canvas.Chord(header, canvas.New("demo.xsum")))
	},
	"canvas_chord_group_body": func() []*canvas.Signature {
		return one(canvas.Chord(adds(), canvas.Group(canvas.New("demo.xsum"), canvas.New("demo.echo"))))
	},
	"canvas_chord_link_error": func() []*canvas.Signature {
		return one(canvas.Chord(adds(), canvas.New("demo.xsum").LinkError(canvas.New("demo.on_error_old"))))
	},
	"canvas_nested_chord": func() []*canvas.Signature {
		header := canvas.Group(canvas.Chord(adds(), canvas.New("demo.xsum")), canvas.New("demo.add", 3, 3))
		return one(canvas.Chord(header, canvas.New("demo.xsum")))
	},
	"canvas_map_starmap_chunks": func() []*canvas.Signature {
		add := canvas.New("demo.add")
		return []*canvas.Signature{
			canvas.Map(canvas.New("demo.xsum"), [][]int{{1, 2}, {3}}),
			canvas.Starmap(add, [][]int{{1, 2}, {3, 4}}),
			canvas.Chunks(add, [][]int{{1, 2}, {3, 4}, {5, 6}}, 2),
		}
	},
	"canvas_stamped": func() []*canvas.Signature {
		visitor := &canvas.Visitor{OnSignature: func(*canvas.Signature, celeryproto.Members) celeryproto.Members {
			return celeryproto.Members{
				{Key: "monitoring_id", Value: celeryproto.Raw(`"m-1"`)},
				{Key: "tenant", Value: celeryproto.Raw(`["a", "b"]`)},
				{Key: "stamped_headers", Value: celeryproto.Raw(`["monitoring_id", "tenant"]`)},
			}
		}}
		sig := canvas.New("demo.add", 1, 2).Set("task_id", firstID).Link(canvas.New("demo.add", 3))
		return one(sig.Stamp(visitor, false, nil))
	},
	"canvas_stamped_headers_kw": func() []*canvas.Signature {
		return one(canvas.New("demo.add", 1, 2).Stamp(nil, false, map[string]any{"trace": "t1"}).Set("task_id", firstID))
	},
}

func one(s *canvas.Signature) []*canvas.Signature { return []*canvas.Signature{s} }

func adds() *canvas.Signature {
	return canvas.Group(canvas.New("demo.add", 1, 1), canvas.New("demo.add", 2, 2))
}

// TestGoldenCanvas compares what is sent for a composition with what Celery has sent, byte for byte.
func TestGoldenCanvas(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("..", "testdata", "celery", "canvas_*.json"))
	if err != nil || len(files) != len(goldenCanvas) {
		t.Errorf("%d goldens for %d compositions: %v", len(files), len(goldenCanvas), err)
	}
	for name, compositions := range goldenCanvas {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			golden := mustRecording(t, name)
			e := goldenEnv()
			var got []string
			sizes := map[string]int{}
			for _, sig := range compositions() {
				plan, err := sig.Apply(e, canvas.Call{})
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, wire(t, plan)...)
				for _, step := range plan.Steps {
					if step.Chord != nil && step.Chord.Header == nil {
						sizes[step.Chord.GroupID] = step.Chord.Size
					}
				}
			}
			sameBytes(t, golden.messages, got)
			sizesOf := func() (all []int) {
				for _, size := range sizes {
					all = append(all, size)
				}
				slices.Sort(all)
				return all
			}
			var want []int
			for key, value := range golden.keys {
				if strings.HasSuffix(key, ".s") {
					n, err := strconv.Atoi(value)
					if err != nil {
						t.Fatal(err)
					}
					want = append(want, n)
				}
			}
			slices.Sort(want)
			if !slices.Equal(want, sizesOf()) {
				t.Errorf("sizes of chords: %v, want %v", sizesOf(), want)
			}
		})
	}
}

// decoded is a recorded message as a worker has it.
func decoded(t testing.TB, envelope string) *celeryproto.Task {
	t.Helper()
	e, err := celeryproto.DecodeEnvelope([]byte(envelope))
	if err != nil {
		t.Fatal(err)
	}
	task, err := celeryproto.DecodeTask(e)
	if err != nil {
		t.Fatal(err)
	}
	return task
}

// TestGoldenFollowing compares what a worker sends after recorded tasks.
func TestGoldenFollowing(t *testing.T) {
	t.Parallel()
	mustPlan := func(plan *canvas.Plan, err error) func(testing.TB) *canvas.Plan {
		return func(t testing.TB) *canvas.Plan {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			return plan
		}
	}
	chain := mustRecording(t, "exec_chain").messages
	for i, result := range []string{"3", "13"} {
		plan := mustPlan(canvas.OnSuccess(goldenEnv(), decoded(t, chain[i]), celeryproto.Raw(result)))(t)
		sameBytes(t, chain[i+1:i+2], wire(t, plan))
	}
	if plan := mustPlan(canvas.OnSuccess(goldenEnv(), decoded(t, chain[2]), celeryproto.Raw("39")))(t); len(plan.Steps) != 0 {
		t.Errorf("after the last step: %+v", plan)
	}
	link := mustRecording(t, "exec_link")
	plan := mustPlan(canvas.OnSuccess(goldenEnv(), decoded(t, link.messages[0]), celeryproto.Raw("3")))(t)
	sameBytes(t, link.messages[1:], wire(t, plan))
	meta, err := celeryproto.DecodeResult([]byte(link.keys["celery-task-meta-"+firstID]))
	if err != nil || len(plan.Children) != 1 {
		t.Fatalf("%v, children %v", err, plan.Children)
	}
	if x, y := renamed(meta.Children.String()), renamed("["+plan.Children[0].Raw().String()+"]"); x != y {
		t.Errorf("children %s, want %s", y, x)
	}

	subtask := mustRecording(t, "exec_subtask").messages
	sub := canvas.New("demo.add", 1, 1)
	plan = mustPlan(sub.Apply(goldenEnv(), canvas.Call{Parent: canvas.ParentOf(decoded(t, subtask[0]))}))(t)
	sameBytes(t, subtask[1:], wire(t, plan))

	replace := mustRecording(t, "exec_replace").messages
	plan = mustPlan(canvas.Replace(goldenEnv(), decoded(t, replace[0]), canvas.New("demo.add", 1, 1000)))(t)
	sameBytes(t, replace[1:], wire(t, plan))

	retry := mustRecording(t, "task_v2_retry_message").messages
	plan = mustPlan(canvas.Retry(goldenEnv(), decoded(t, retry[0]), canvas.RetryOptions{
		Options: celeryproto.Members{{Key: "countdown", Value: celeryproto.Raw("3600")}},
	}))(t)
	eta := regexp.MustCompile(`"eta": "[^"]*"`)
	got := eta.ReplaceAllString(plain(t, wire(t, plan)[0]), "eta")
	want := eta.ReplaceAllString(plain(t, retry[1]), "eta")
	if renamed(got) != renamed(want) {
		t.Errorf("retry:\n%s\nwant\n%s", got, want)
	}
}

// TestGoldenFailure compares what follows recorded failures.
func TestGoldenFailure(t *testing.T) {
	t.Parallel()
	exc := celeryproto.Raw(`{"exc_type": "ValueError", "exc_message": ["x"], "exc_module": "builtins"}`)
	newStyle := func(s *canvas.Signature) bool { return s.Task() == "demo.on_error_new" }
	link := mustRecording(t, "exec_link_error").messages
	failure, err := canvas.OnFailure(goldenEnv(), decoded(t, link[0]), exc, newStyle)
	if err != nil {
		t.Fatal(err)
	}
	sameBytes(t, link[1:], wire(t, failure.Errbacks.Plan))
	if called := failure.Errbacks.Call; len(called) != 1 || called[0].Task() != "demo.on_error_new" {
		t.Errorf("called: %v", called)
	}

	chain := mustRecording(t, "exec_chain_failure")
	req := decoded(t, chain.messages[0])
	failure, err = canvas.OnFailure(goldenEnv(), req, exc, nil)
	if err != nil || len(failure.Tasks) != len(chain.keys)-1 {
		t.Fatalf("%+v, %v", failure, err)
	}
	for _, task := range failure.Tasks {
		stored, err := celeryproto.DecodeResult([]byte(chain.keys["celery-task-meta-"+task.Result.TaskID]))
		if err != nil {
			t.Fatalf("%s: %v", task.Result.TaskID, err)
		}
		if stored.Status != task.Result.Status || stored.Result.String() != task.Result.Result.String() ||
			stored.GroupID != task.Result.GroupID || stored.ParentID != task.Result.ParentID || stored.Children.String() != "[]" {
			t.Errorf("%+v, want %+v", task.Result, stored)
		}
	}
}
