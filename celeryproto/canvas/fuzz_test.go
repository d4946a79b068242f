package canvas_test

import (
	"errors"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
)

// fuzzEnv keeps what a fuzzed composition may cost small.
func fuzzEnv(protocol int) *canvas.Env {
	return &canvas.Env{
		ReplyTo: "reply-to", Protocol: protocol, AllowErrorCallbackOnChordHeader: true,
		Limits: canvas.Limits{MaxMessages: 1000, MaxBytes: 4 << 20},
	}
}

// seeds are the signatures in recorded messages, and the recorded compositions.
func seeds(f *testing.F) []celeryproto.Raw {
	f.Helper()
	var all []celeryproto.Raw
	for _, c := range mustCompositions(f) {
		if r, err := build(f, c.Expr).Encode(); err == nil {
			all = append(all, r)
		}
		for _, step := range c.Steps {
			for _, message := range step.Published {
				task := decoded(f, message)
				for _, part := range []celeryproto.Raw{task.Embed.Callbacks, task.Embed.Errbacks, task.Embed.Chain} {
					if list, err := part.Array(); err == nil {
						all = append(all, list...)
					}
				}
				if !task.Embed.Chord.IsNull() {
					all = append(all, task.Embed.Chord)
				}
			}
		}
	}
	return all
}

// checkPlan looks at all that a plan has.
func checkPlan(t *testing.T, plan *canvas.Plan) {
	t.Helper()
	if plan == nil {
		return
	}
	if plan.Result != nil {
		_ = plan.Result.Raw() // must not loop
	}
	for _, step := range plan.Steps {
		if (step.Send == nil) == (step.Chord == nil) {
			t.Fatal("a step with both or nothing")
		}
		if step.Send == nil {
			continue
		}
		if step.Send.ID() == "" {
			t.Fatal("a message without an ID")
		}
		for _, m := range step.Send.Options {
			if err := celeryproto.CheckJSON(m.Value, celeryproto.JSONLimits{MaxDepth: 10_000}); err != nil {
				t.Fatalf("option %s: %v", m.Key, err)
			}
		}
		task, err := step.Send.Message(canvas.Defaults{Now: time.Unix(1e9, 0)})
		if err != nil {
			continue
		}
		task.SetQueue("q")
		if _, err := task.Append(nil); err != nil {
			if _, refused := errors.AsType[*celeryproto.EncodeError](err); !refused {
				t.Fatalf("message: %v", err)
			}
		}
	}
}

// FuzzSignature decodes a signature, writes it again, and applies it.
func FuzzSignature(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, protocol1 bool) {
		sig, err := canvas.Decode(text)
		if err != nil {
			return
		}
		once, err := sig.Encode()
		if err != nil {
			return
		}
		again, err := canvas.Decode(once)
		if err != nil {
			t.Fatalf("decode what was encoded: %v\n%s", err, once)
		}
		if twice, err := again.Encode(); err != nil || string(twice) != string(once) {
			t.Fatalf("%v\n%s\n%s", err, once, twice)
		}
		protocol := 2
		if protocol1 {
			protocol = 1
		}
		env := fuzzEnv(protocol)
		call := canvas.Call{
			Args:   []celeryproto.Raw{celeryproto.Raw("1")},
			Kwargs: celeryproto.Members{{Key: "k", Value: celeryproto.Raw("2")}},
			Parent: &canvas.Parent{ID: "parent"},
		}
		plan, err := sig.Apply(env, call)
		if err == nil {
			checkPlan(t, plan)
		}
		if unchanged, err := sig.Encode(); err != nil || string(unchanged) != string(once) {
			t.Fatalf("Apply changed it: %v\n%s\n%s", err, once, unchanged)
		}
		joined := sig.Then(again).Link(canvas.New("t.link")).LinkError(canvas.New("t.errback")).Stamp(nil, true, map[string]any{"x": []int{1}})
		if plan, err := joined.Apply(env, canvas.Call{}); err == nil {
			checkPlan(t, plan)
		}
		if _, err := sig.Freeze(env, canvas.FreezeOptions{GroupID: "g", Chord: canvas.New("t.body")}); err == nil {
			if plan, err := sig.Apply(env, canvas.Call{}); err == nil {
				checkPlan(t, plan)
			}
		}
	})
}

// FuzzFollowing lets a task with anything behind it succeed, fail, retry and replace itself.
func FuzzFollowing(f *testing.F) {
	for _, seed := range seeds(f) {
		list := append(append(celeryproto.Raw("["), seed...), ']')
		f.Add([]byte(list), []byte(list), []byte(list), []byte(seed))
		f.Add([]byte("null"), []byte("null"), []byte(list), []byte("null"))
	}
	exc := celeryproto.Raw(`{"exc_type": "ValueError", "exc_message": ["x"], "exc_module": "builtins"}`)
	f.Fuzz(func(t *testing.T, callbacks, errbacks, chain, chord []byte) {
		for _, part := range [][]byte{callbacks, errbacks, chain, chord} {
			if celeryproto.CheckJSON(part, celeryproto.JSONLimits{}) != nil {
				return // a message has been checked
			}
		}
		env := fuzzEnv(2)
		index := 1
		req, err := celeryproto.NewTask("t.run", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.GroupID, req.GroupIndex = "g", &index
		req.Embed = celeryproto.Embed{Callbacks: callbacks, Errbacks: errbacks, Chain: chain, Chord: chord}
		check := func(plan *canvas.Plan, err error) {
			t.Helper()
			if err == nil {
				checkPlan(t, plan)
			}
		}
		failed := func(failure *canvas.Failure, err error) {
			t.Helper()
			if err != nil {
				return
			}
			checkPlan(t, failure.Errbacks.Plan)
			for _, task := range failure.Tasks {
				checkPlan(t, task.Errbacks.Plan)
				if task.Result != nil && task.Result.TaskID == "" {
					t.Fatal("a result without an ID")
				}
			}
		}
		check(canvas.OnSuccess(env, req, celeryproto.Raw("1")))
		failed(canvas.OnFailure(env, req, exc, func(s *canvas.Signature) bool { return len(s.Task())%2 == 0 }))
		check(canvas.Retry(env, req, canvas.RetryOptions{}))
		check(canvas.Replace(env, req, canvas.Group(canvas.New("t.a"), canvas.New("t.b"))))
		if sig, err := canvas.Decode(chord); err == nil {
			check(canvas.Replace(env, req, sig))
			_, plan, err := canvas.AddToChord(env, req, sig)
			check(plan, err)
		}
		check(canvas.OnChordReady(env, req, chord, &celeryproto.Chord{Results: []celeryproto.ChordPart{{Status: "SUCCESS", Result: celeryproto.Raw("1")}}}))
		failed(canvas.OnChordFailed(env, chord, &canvas.ChordError{Text: "x", Cause: exc}, nil))
	})
}
