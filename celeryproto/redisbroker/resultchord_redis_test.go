package redisbroker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/integration/redistest"
)

func part(group, task string, index int, status, result string) celeryproto.ChordPart {
	p := celeryproto.ChordPart{GroupID: group, TaskID: task, Status: status, Result: celeryproto.Raw(result)}
	if index >= 0 {
		p.Index = &index
	}
	return p
}

func mustStart(t *testing.T, r *redisbroker.Results, c celeryproto.ChordStart) {
	t.Helper()
	if err := r.StartChord(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// mustPart returns a part and tells whether it was the last.
func mustPart(t *testing.T, r *redisbroker.Results, p celeryproto.ChordPart) *celeryproto.Chord {
	t.Helper()
	chord, err := r.ChordPart(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return chord
}

func valuesOf(c *celeryproto.Chord) string {
	if c == nil {
		return "none"
	}
	var all []string
	for _, p := range c.Results {
		all = append(all, p.Status+" "+p.Result.String())
	}
	return strings.Join(all, ", ")
}

func mustFinish(t *testing.T, r *redisbroker.Results, c *celeryproto.Chord) {
	t.Helper()
	renewed, err := r.RenewChord(t.Context(), c)
	if err != nil || !renewed {
		t.Fatalf("renew: %v, %v", renewed, err)
	}
	if err := r.FinishChord(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// A chord from its start to its end, in both orders of its parts, with duplicates and a late one.
func TestChord(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	for _, unordered := range []bool{false, true} {
		t.Run(fmt.Sprintf("unordered %v", unordered), func(t *testing.T) {
			t.Parallel()
			prefix := ownPrefix(t)
			r := mustResults(t, s, redisbroker.ResultOptions{KeyPrefix: prefix, ChordsUnordered: unordered})
			mustStart(t, r, celeryproto.ChordStart{GroupID: "g", Size: 3})
			second := part("g", "b", 1, "SUCCESS", `"two"`)
			for range 3 { // it runs again and again
				if got := mustPart(t, r, second); got != nil {
					t.Fatalf("complete after one of three: %+v", got)
				}
			}
			if got := mustPart(t, r, part("g", "none", -1, "SUCCESS", "3")); got != nil {
				t.Fatalf("complete after two of three: %+v", got)
			}
			chord := mustPart(t, r, part("g", "a", 0, "SUCCESS", "1"))
			want := `SUCCESS 1, SUCCESS "two", SUCCESS 3`
			if unordered {
				want = `SUCCESS "two", SUCCESS 3, SUCCESS 1`
			}
			if got := valuesOf(chord); got != want {
				t.Errorf("results %s, want %s", got, want)
			}
			if got := mustPart(t, r, part("g", "a", 0, "SUCCESS", "1")); got != nil {
				t.Errorf("claimed a second time: %+v", got)
			}
			mustFinish(t, r, chord)
			c := s.Client(t)
			keys := c.Keys(t.Context(), prefix+"*").Val()
			if d := cmp.Diff([]string{r.GroupKey("g") + ".c"}, keys); d != "" {
				t.Errorf("keys left: %s", d)
			}
			if err := r.FinishChord(t.Context(), chord); err != nil {
				t.Errorf("finished again: %v", err)
			}
			for range 2 {
				if got := mustPart(t, r, part("g", "a", 0, "SUCCESS", "1")); got != nil {
					t.Errorf("a part after the end: %+v", got)
				}
			}
			for _, suffix := range []string{".j", ".d"} {
				if ttl := c.TTL(t.Context(), r.GroupKey("g")+suffix).Val(); ttl <= 0 || ttl > 10*time.Minute {
					t.Errorf("what a late part leaves in %s lives for %s", suffix, ttl)
				}
			}
			// A frozen chord that is applied again has the same IDs. Its first tasks may have ended before its size is written.
			if got := mustPart(t, r, part("g", "b", 1, "SUCCESS", `"again"`)); got != nil {
				t.Errorf("a part before the size: %+v", got)
			}
			mustStart(t, r, celeryproto.ChordStart{GroupID: "g", Size: 2})
			want = `SUCCESS 1, SUCCESS "again"`
			if got := valuesOf(mustPart(t, r, part("g", "a", 0, "SUCCESS", "1"))); got != want {
				t.Errorf("applied again: %s, want %s", got, want)
			}
		})
	}
}

// The keys and their times to live are those that Celery leaves.
func TestChordKeysAreRecorded(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	for name, opts := range map[string]redisbroker.ResultOptions{
		"chord_counters_half_done": {}, "chord_unordered": {ChordsUnordered: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts.KeyPrefix = ownPrefix(t)
			r := mustResults(t, s, opts)
			golden := mustFixture(t, name)
			group, task := "", ""
			for _, item := range golden.Redis {
				if id, isSet := strings.CutSuffix(item.Key, ".d"); isSet {
					group = strings.TrimPrefix(id, "celery-taskset-meta-")
					task, _, _ = strings.Cut(item.value(), ":")
				}
			}
			mustStart(t, r, celeryproto.ChordStart{GroupID: group, Size: 2})
			if got := mustPart(t, r, part(group, task, 0, "SUCCESS", "2")); got != nil {
				t.Errorf("complete: %+v", got)
			}
			c := s.Client(t)
			for _, item := range golden.Redis {
				key := opts.KeyPrefix + item.Key
				var value string
				switch item.Type {
				case "zset":
					members, err := c.ZRangeWithScores(t.Context(), key, 0, -1).Result()
					if err != nil || len(members) != 1 || members[0].Score != item.Score {
						t.Fatalf("%s: %v, %v", key, members, err)
					}
					value, _ = members[0].Member.(string)
				case "list":
					value = c.LIndex(t.Context(), key, 0).Val()
				case "set":
					value = strings.Join(c.SMembers(t.Context(), key).Val(), " ")
				case "string":
					value = c.Get(t.Context(), key).Val()
				}
				if value != item.value() {
					t.Errorf("%s: %s, want %s", key, value, item.value())
				}
				if ttl := c.TTL(t.Context(), key).Val(); ttl < 86390*time.Second || ttl > 86400*time.Second {
					t.Errorf("%s lives %v", key, ttl)
				}
			}
		})
	}
}

// Redis gets the commands that it gets from Celery.
func TestChordCommandsAreRecorded(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	golden := mustFixture(t, "chord_commands")
	ids, want := map[string]string{}, []string{}
	rename := func(args []string) string {
		text := strings.Join(args, " ")
		for id, name := range ids {
			text = strings.ReplaceAll(text, id, name)
		}
		return text
	}
	inChord := false
	for _, item := range golden.Redis {
		args := append([]string{item.Cmd}, item.args(t)...)
		if item.Cmd == "DEL" && strings.HasSuffix(args[1], ".c") {
			ids[strings.TrimSuffix(strings.TrimPrefix(args[1], "celery-taskset-meta-"), ".c")] = "GROUP"
			inChord = true
		}
		if !inChord || !strings.Contains(strings.Join(args, " "), "celery-taskset-meta-") {
			continue
		}
		switch item.Cmd {
		case "SISMEMBER":
			id, _, _ := strings.Cut(args[2], ":")
			ids[id] = "TASK" + string(rune('A'+len(ids)))
		case "SET":
			if len(args[2]) == 32 {
				ids[args[2]] = "TOKEN"
			}
		case "EVALSHA", "LPUSH", "ZRANGE":
			continue // the scripts' own names; what is in them is compared. Celery reads the parts in a transaction
		}
		want = append(want, rename(args))
	}

	m := mustMonitor(t, s)
	r := mustResults(t, s, redisbroker.ResultOptions{})
	mustStart(t, r, celeryproto.ChordStart{
		GroupID: "GROUP", Header: &celeryproto.ResultTree{ID: "GROUP", IsGroup: true},
	})
	mustStart(t, r, celeryproto.ChordStart{GroupID: "GROUP", Size: 2})
	mustPart(t, r, part("GROUP", "TASKB", 0, "SUCCESS", "2"))
	chord := mustPart(t, r, part("GROUP", "TASKC", 1, "SUCCESS", "4"))
	if got := valuesOf(chord); got != "SUCCESS 2, SUCCESS 4" {
		t.Fatalf("results %s", got)
	}
	ids[chord.Token] = "TOKEN"
	mustFinish(t, r, chord)
	var got []string
	for _, args := range m.stop(t) {
		switch strings.ToUpper(args[0]) {
		case "EVALSHA", "EVAL", "ZRANGE":
			continue
		}
		args[0] = strings.ToUpper(args[0])
		if text := rename(args); strings.Contains(text, "celery-taskset-meta-") {
			got = append(got, strings.ReplaceAll(text, " ex ", " EX "))
		}
	}
	if d := cmp.Diff(want, got); d != "" || len(want) < 30 {
		t.Errorf("%d commands: %s", len(want), d)
	}
}

// After a failure the chord is left as Celery leaves it.
func TestFailChord(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	prefix := ownPrefix(t)
	r := mustResults(t, s, redisbroker.ResultOptions{KeyPrefix: prefix})
	mustStart(t, r, celeryproto.ChordStart{GroupID: "g", Size: 2})
	exc := `{"exc_type": "ValueError", "exc_message": ["x"], "exc_module": "builtins"}`
	mustPart(t, r, part("g", "b", 1, "FAILURE", exc))
	chord := mustPart(t, r, part("g", "a", 0, "SUCCESS", "2"))
	if got := valuesOf(chord); got != "SUCCESS 2, FAILURE "+exc || !chord.Results[1].Failed() || chord.Complex {
		t.Errorf("results %s", got)
	}
	if err := r.FailChord(t.Context(), chord); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, item := range mustFixture(t, "chord_failure").Redis {
		if at := strings.LastIndexByte(item.Key, '.'); at > 0 && (len(want) == 0 || want[len(want)-1] != item.Key[at:]) {
			want = append(want, item.Key[at:])
		}
	}
	for _, suffix := range []string{".c", ".d", ".j", ".s", ".t"} {
		there := s.Client(t).Exists(t.Context(), r.GroupKey("g")+suffix).Val() == 1
		if recorded := strings.Contains(strings.Join(want, " "), suffix); there != recorded {
			t.Errorf("%s is there: %v, with Celery: %v", suffix, there, recorded)
		}
	}
	if got := mustPart(t, r, part("g", "b", 1, "SUCCESS", "1")); got != nil {
		t.Errorf("after the failure: %+v", got)
	}
}

// The header of a chord with groups among its results is the one that Celery stores, and is joined by its IDs.
func TestComplexChord(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	r := mustResults(t, s, redisbroker.ResultOptions{KeyPrefix: ownPrefix(t), ChordJoinTimeout: 300 * time.Millisecond})
	var stored string
	group := ""
	for _, item := range mustFixture(t, "chord_complex_header").Redis {
		if id, ok := strings.CutPrefix(item.Key, "celery-taskset-meta-"); ok && !strings.Contains(id, ".") {
			stored, group = item.value(), id
		}
	}
	var saved struct{ Result json.RawMessage }
	if err := json.Unmarshal([]byte(stored), &saved); err != nil {
		t.Fatal(err)
	}
	tree, err := celeryproto.DecodeResultTree(celeryproto.Raw(saved.Result))
	if err != nil || !tree.Complex() {
		t.Fatalf("%+v, %v", tree, err)
	}
	mustStart(t, r, celeryproto.ChordStart{GroupID: group, Header: tree, Complex: true})
	c := s.Client(t)
	if got := c.Get(t.Context(), r.GroupKey(group)).Val(); got != stored {
		t.Errorf("stored %s, want %s", got, stored)
	}
	mustStart(t, r, celeryproto.ChordStart{GroupID: group, Size: 3})
	ids := tree.TaskIDs(nil)
	store := func(n int, status, result string) {
		t.Helper()
		if err := r.Store(t.Context(), meta(ids[n], status, result)); err != nil {
			t.Fatal(err)
		}
	}
	store(0, "SUCCESS", "1")
	store(1, "SUCCESS", "[2]")
	for i := range 2 {
		mustPart(t, r, part(group, ids[i], i, "SUCCESS", "null"))
	}
	var wg sync.WaitGroup
	wg.Go(func() { // the last part is there before its result is
		eventually(t, "somebody waits for the result", func() bool {
			counts, err := c.PubSubNumSub(t.Context(), r.Key(ids[2])).Result()
			return err == nil && counts[r.Key(ids[2])] == 1
		})
		if err := r.Store(context.WithoutCancel(t.Context()), meta(ids[2], "SUCCESS", "3")); err != nil {
			t.Error(err)
		}
	})
	chord := mustPart(t, r, part(group, ids[2], 1, "SUCCESS", "null"))
	wg.Wait()
	if got := valuesOf(chord); got != "SUCCESS [1, [2]], SUCCESS 3" || !chord.Complex {
		t.Errorf("joined %s", got)
	}
	mustFinish(t, r, chord)

	// One member has failed; the result of another never comes.
	for _, failing := range []bool{true, false} {
		if err := r.Forget(t.Context(), ids...); err != nil {
			t.Fatal(err)
		}
		store(0, "SUCCESS", "1")
		want := `FAILURE {"exc_type": "TimeoutError", "exc_message": ["The operation timed out."], "exc_module": "celery.exceptions"}, SUCCESS 3`
		if failing {
			store(1, "FAILURE", `{"exc_type": "ValueError", "exc_message": [], "exc_module": "builtins"}`)
			want = `FAILURE {"exc_type": "ValueError", "exc_message": [], "exc_module": "builtins"}, SUCCESS 3`
		}
		store(2, "SUCCESS", "3")
		mustStart(t, r, celeryproto.ChordStart{GroupID: group, Header: tree, Complex: true})
		mustStart(t, r, celeryproto.ChordStart{GroupID: group, Size: 1})
		if got := valuesOf(mustPart(t, r, part(group, ids[2], 1, "SUCCESS", "null"))); got != want {
			t.Errorf("joined %s, want %s", got, want)
		}
		if err := c.Del(t.Context(), r.GroupKey(group)+".c", r.GroupKey(group)+".j", r.GroupKey(group)+".d").Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// A part that nobody can read makes the chord fail instead of hanging.
func TestChordUnreadable(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	r := mustResults(t, s, redisbroker.ResultOptions{KeyPrefix: ownPrefix(t)})
	c := s.Client(t)
	for i, junk := range []string{"junk", "[1, 2]", `[1, 2, "SUCCESS", 3]`, "\x00celery-compressed\x00application/x-bz2\x00..."} {
		group := fmt.Sprint("g", i)
		mustStart(t, r, celeryproto.ChordStart{GroupID: group, Size: 2})
		if err := c.ZAdd(t.Context(), r.GroupKey(group)+".j", redis.Z{Score: 5, Member: junk}).Err(); err != nil {
			t.Fatal(err)
		}
		chord := mustPart(t, r, part(group, "a", 0, "SUCCESS", "1"))
		if chord == nil || !chord.Complex || len(chord.Results) != 1 || !chord.Results[0].Failed() {
			t.Errorf("%q: %+v", junk, chord)
		}
	}
	mustStart(t, r, celeryproto.ChordStart{GroupID: "h", Size: 1})
	if err := c.Set(t.Context(), r.GroupKey("h"), `{"result": 5}`, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if chord := mustPart(t, r, part("h", "a", 0, "SUCCESS", "1")); chord == nil || !chord.Results[0].Failed() {
		t.Errorf("header: %+v", chord)
	}
	if _, err := r.ChordPart(t.Context(), part("i", "a", 0, "SUCCESS", "junk")); err == nil {
		t.Error("returned what is no JSON")
	}
}

func TestChordSettings(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	c := s.Client(t)
	for name, test := range map[string]struct {
		opts          redisbroker.ResultOptions
		parts, header time.Duration // to live, -1 for ever
		claim         time.Duration
	}{
		"defaults":      {redisbroker.ResultOptions{}, 24 * time.Hour, 24 * time.Hour, 6 * time.Second},
		"longer chords": {redisbroker.ResultOptions{ChordExpires: 48 * time.Hour}, 48 * time.Hour, 48 * time.Hour, 6 * time.Second},
		"shorter":       {redisbroker.ResultOptions{ChordExpires: time.Hour}, time.Hour, 24 * time.Hour, 6 * time.Second},
		"for ever":      {redisbroker.ResultOptions{ChordExpires: -1}, -1, -1, 6 * time.Second},
		"results for ever": {
			redisbroker.ResultOptions{Expires: -1, ChordExpires: time.Hour, ChordJoinTimeout: 20 * time.Second}, time.Hour, time.Hour, 40 * time.Second,
		},
	} {
		test.opts.KeyPrefix = ownPrefix(t)
		r := mustResults(t, s, test.opts)
		tree := &celeryproto.ResultTree{ID: "g", IsGroup: true, Children: []celeryproto.ResultTree{{ID: "inner", IsGroup: true}}}
		mustStart(t, r, celeryproto.ChordStart{GroupID: "g", Header: tree, Complex: tree.Complex()})
		mustStart(t, r, celeryproto.ChordStart{GroupID: "g", Size: 1})
		if chord := mustPart(t, r, part("g", "a", 0, "SUCCESS", "1")); chord == nil {
			t.Fatal("not complete")
		}
		for suffix, want := range map[string]time.Duration{
			"": test.header, ".s": test.parts, ".j": test.parts, ".d": test.parts, ".c": test.claim,
		} {
			got := c.TTL(t.Context(), r.GroupKey("g")+suffix).Val()
			if want < 0 && got != -1 || want > 0 && (got > want || got < want-5*time.Second) {
				t.Errorf("%s: %q lives %v, want %v", name, suffix, got, want)
			}
		}
	}
	for _, opts := range []redisbroker.ResultOptions{{ChordJoinTimeout: -1}, {ChordPublishTimeout: -1}} {
		if _, err := redisbroker.OpenResults(opts); err == nil {
			t.Errorf("accepted %+v", opts)
		}
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	r := mustResults(t, s, redisbroker.ResultOptions{KeyPrefix: ownPrefix(t)})
	item := mustFixture(t, "group_meta_saved").Redis[0]
	id := strings.TrimPrefix(item.Key, "celery-taskset-meta-")
	var saved struct{ Result json.RawMessage }
	if err := json.Unmarshal([]byte(item.value()), &saved); err != nil {
		t.Fatal(err)
	}
	tree, err := celeryproto.DecodeResultTree(celeryproto.Raw(saved.Result))
	if err != nil {
		t.Fatal(err)
	}
	c := s.Client(t)
	sub := c.Subscribe(t.Context(), r.GroupKey(id))
	defer sub.Close() //nolint:errcheck // nothing is lost with it
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.SaveGroup(t.Context(), tree); err != nil {
		t.Fatal(err)
	}
	if got := c.Get(t.Context(), r.GroupKey(id)).Val(); got != item.value() {
		t.Errorf("saved %s, want %s", got, item.value())
	}
	if message, err := sub.ReceiveMessage(t.Context()); err != nil || message.Payload != item.value() {
		t.Errorf("published %v, %v", message, err)
	}
	got, err := r.Group(t.Context(), id)
	if err != nil || cmp.Diff(tree, got) != "" {
		t.Errorf("%v, %v", cmp.Diff(tree, got), err)
	}
	if err := r.ForgetGroup(t.Context(), id); err != nil {
		t.Error(err)
	}
	if _, err := r.Group(t.Context(), id); !errors.Is(err, redisbroker.ErrNoResult) || !errors.Is(err, celeryproto.ErrNoResult) {
		t.Errorf("forgotten: %v", err)
	}
	for _, err := range []error{
		r.SaveGroup(t.Context(), &celeryproto.ResultTree{ID: "task"}), r.ForgetGroup(t.Context(), ""), r.Forget(t.Context(), ""),
		r.StartChord(t.Context(), celeryproto.ChordStart{}), r.AddToChord(t.Context(), "", tree),
	} {
		if err == nil {
			t.Error("accepted without an ID")
		}
	}
	if err := r.Store(t.Context(), meta("a", "SUCCESS", "1")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Forget(t.Context(), "a", "b"), r.Forget(t.Context())); err != nil {
		t.Error(err)
	}
	if _, err := r.Get(t.Context(), "a"); !errors.Is(err, redisbroker.ErrNoResult) {
		t.Errorf("forgotten: %v", err)
	}
}
