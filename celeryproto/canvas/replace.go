package canvas

import (
	"errors"
	"math"

	"github.com/dfws/dfws/celeryproto"
)

// RetryOptions are the arguments of Python's Task.retry.
type RetryOptions struct {
	// Args and Kwargs of the next try; nil are those of this one.
	Args   []celeryproto.Raw
	Kwargs celeryproto.Members
	// Options of apply_async beside what the message has: countdown or eta (see
	// Task.default_retry_delay: there is no default here), queue, expires, …
	Options celeryproto.Members
	// IgnoreResult is the setting of the task, where the message says nothing.
	IgnoreResult bool
}

// Retry is the message for the next try of a task: the same ID, one retry more,
// and all that the message had (celery 5.7, app/task.py, signature_from_request).
func Retry(env *Env, req *celeryproto.Task, opts RetryOptions) (*Plan, error) {
	options, err := executionOptions(req)
	if err != nil {
		return nil, err
	}
	ignore := opts.IgnoreResult
	if req.IgnoreResult != nil {
		ignore = *req.IgnoreResult
	}
	options.set(optIgnoreResult, boolValue(ignore))
	extra := dictOf(opts.Options)
	extra.set(optRetries, intValue(req.Retries+1))
	options.update(extra)
	info := &req.Properties.DeliveryInfo
	options.set(optPriority, intValue(req.Properties.Priority))
	switch {
	case truth(extra.get("queue")):
	case info.Exchange == "" && info.RoutingKey != "":
		options.setText("queue", info.RoutingKey)
	default:
		options.setText("exchange", info.Exchange)
		options.setText("routing_key", info.RoutingKey)
		options.set("redelivered", boolValue(req.Redelivered))
	}
	options.update(extra)
	args, kwargs := arguments{raw: req.Args, tuple: true}, &dict{raw: req.Kwargs}
	if opts.Args != nil {
		args = tupleOf(opts.Args)
	}
	if opts.Kwargs != nil {
		kwargs = dictOf(opts.Kwargs)
	}
	r := newRunner(env, ParentOf(req))
	return r.finish(r.send(req.Name, orEmpty(args), kwargs, options))
}

func orEmpty(args arguments) arguments {
	if len(args.raw) == 0 {
		args.raw = noArgs
	}
	return args
}

func boolValue(v bool) celeryproto.Raw {
	if v {
		return rawTrue
	}
	return rawFalse
}

// executionOptions is Context.as_execution_options.
func executionOptions(req *celeryproto.Task) (*dict, error) {
	o := newDict(32)
	o.setText(optTaskID, req.ID)
	o.setOr(optRootID, req.RootID)
	o.setOr(optParentID, req.ParentID)
	o.setOr(optGroupID, req.GroupID)
	o.set(optGroupIndex, none)
	if req.GroupIndex != nil {
		o.set(optGroupIndex, intValue(*req.GroupIndex))
	}
	o.setOr(optShadow, req.Shadow)
	for _, part := range []struct {
		option string
		value  celeryproto.Raw
	}{
		{optChord, req.Embed.Chord}, {optChain, req.Embed.Chain}, {optLink, req.Embed.Callbacks}, {optLinkError, req.Embed.Errbacks},
	} {
		o.set(part.option, orNull(part.value))
	}
	o.set(optExpires, none)
	if req.Expires != nil {
		o.set(optExpires, timeText(*req.Expires))
	}
	o.set(optSoftTimeLimit, secondsValue(req.TimeLimit[1]))
	o.set(optTimeLimit, secondsValue(req.TimeLimit[0]))
	o.set(optHeaders, celeryproto.Raw(customHeaders(req).Append(nil)))
	o.set(optRetries, intValue(req.Retries))
	o.setText(optReplyTo, req.Properties.ReplyTo)
	o.set(optNesting, intValue(req.ReplacedTaskNesting))
	o.setOr(optOrigin, req.Origin)
	return o, addStamps(o, req)
}

func orNull(r celeryproto.Raw) celeryproto.Raw {
	if len(r) == 0 {
		return none
	}
	return r
}

func secondsValue(seconds *float64) celeryproto.Raw {
	if seconds == nil {
		return none
	}
	if *seconds == math.Trunc(*seconds) && math.Abs(*seconds) < math.MaxInt32 {
		return intValue(int(*seconds))
	}
	return celeryproto.AppendFloat(nil, *seconds)
}

// deathHeaders are RabbitMQ's (celery 5.7, app/task.py, X_DEATH_HEADERS).
var deathHeaders = map[string]bool{
	"x-death": true, "x-first-death-exchange": true, "x-first-death-queue": true, "x-first-death-reason": true,
	"x-last-death-exchange": true, "x-last-death-queue": true, "x-last-death-reason": true,
}

// customHeaders are the headers of users, and redelivered, which Python takes
// for one.
func customHeaders(req *celeryproto.Task) celeryproto.Members {
	var headers celeryproto.Members
	for _, m := range req.ExtraHeaders {
		if !deathHeaders[m.Key] {
			headers = append(headers, m)
		}
	}
	if req.Redelivered {
		headers = append(headers, celeryproto.Member{Key: "redelivered", Value: rawTrue})
	}
	return headers
}

func addStamps(o *dict, req *celeryproto.Task) error {
	if len(req.StampedHeaders) == 0 || len(req.Stamps) == 0 {
		return nil
	}
	names, err := req.StampedHeaders.Array()
	if err != nil {
		return err
	}
	stamps, err := req.Stamps.Object()
	if err != nil {
		return err
	}
	o.set(optStampedHeaders, req.StampedHeaders)
	stamped := map[string]bool{}
	for _, name := range names {
		text, err := name.Text()
		if err != nil {
			return errors.New("canvas: stamped_headers: expected texts")
		}
		stamped[text] = true
	}
	for _, m := range stamps {
		if stamped[m.Key] {
			o.set(m.Key, m.Value)
		}
	}
	return nil
}

// Replace is Python's Task.replace: a signature takes the place of the running
// task, with its ID, group, chord, callbacks and the rest of its chain. The
// task then ends as IGNORED: nothing is stored, nothing follows it.
func Replace(env *Env, req *celeryproto.Task, sig *Signature) (*Plan, error) {
	r := newRunner(env, ParentOf(req))
	own, err := private(sig, r.limits.MaxDepth)
	if err != nil {
		return nil, err
	}
	if own.options().has(optChord) {
		return nil, ErrInChord
	}
	if own.isEmptyChain() {
		return nil, ErrEmptyChain
	}
	j := r.joiner()
	own = j.accumulated(own)
	if err := r.takeLinks(own, req); err != nil {
		return nil, err
	}
	r.freeze(own, freezing{id: req.ID})
	nesting := intValue(req.ReplacedTaskNesting + 1)
	setPlace(own, req)
	own.options().set(optNesting, nesting)
	if own.kind == KindChain {
		tasks := own.members()
		for i := range tasks.items {
			tasks.signature(i).options().set(optNesting, nesting)
		}
	}
	chain, err := signatureList(req.Embed.Chain, "chain")
	if err != nil {
		return nil, err
	}
	for i := len(chain.items) - 1; i >= 0; i-- {
		next := chain.signature(i)
		next.options().set(optNesting, nesting)
		own = j.or(own, next)
	}
	r.fail(j.err)
	return r.finish(r.apply(own, arguments{}, nil, nil))
}

// accumulated makes a chord of a group, or of one that a chain ends in, so that
// there is one result.
func (j *joiner) accumulated(s *Signature) *Signature {
	accumulate := func() *Signature { return New(TaskAccumulate).WithKwargs(map[string]int{"index": 0}) }
	if s.kind == KindGroup {
		s = j.or(s, accumulate())
	}
	if s.kind != KindChain {
		return s
	}
	tasks := s.members()
	if n := len(tasks.items); n > 0 {
		if last := tasks.signature(n - 1); last.kind == KindGroup {
			items := append([]value(nil), tasks.items...)
			items[n-1] = j.or(last, accumulate())
			s.setTasks(&list{items: items})
		}
	}
	return s
}

// takeLinks gives the replacement the callbacks and errbacks of the task.
func (r *runner) takeLinks(s *Signature, req *celeryproto.Task) error {
	callbacks, err := signatureList(req.Embed.Callbacks, "callbacks")
	if err != nil {
		return err
	}
	for i := range callbacks.items {
		s.link(opened(callbacks.items[i]))
	}
	errbacks, err := signatureList(req.Embed.Errbacks, "errbacks")
	if err != nil {
		return err
	}
	for i := range errbacks.items {
		s.linkError(opened(errbacks.items[i]), r.env.AllowErrorCallbackOnChordHeader)
	}
	if s.kind != KindChain || !s.options().has(optLink) {
		return nil
	}
	tasks := s.members()
	last := tasks.signature(len(tasks.items) - 1)
	last.extendLinks(optLink, links(s.options(), optLink))
	s.options().pop(optLink)
	return nil
}

// setPlace gives a signature the place of the running task.
func setPlace(s *Signature, req *celeryproto.Task) {
	o := s.options()
	o.set(optChord, orNull(req.Embed.Chord))
	o.setOr(optGroupID, req.GroupID)
	o.set(optGroupIndex, none)
	if req.GroupIndex != nil {
		o.set(optGroupIndex, intValue(*req.GroupIndex))
	}
	o.setOr(optRootID, req.RootID)
}

// AddToChord is Python's Task.add_to_chord: one more task for the chord that the
// running one belongs to. added is to be told to the result backend
// (Backend.AddToChord with req.GroupID) before the plan is carried out.
func AddToChord(env *Env, req *celeryproto.Task, sig *Signature) (added *celeryproto.ResultTree, plan *Plan, err error) {
	if !rawTruth(req.Embed.Chord) {
		return nil, nil, ErrNoChord
	}
	r := newRunner(env, ParentOf(req))
	own, err := private(sig, r.limits.MaxDepth)
	if err != nil {
		return nil, nil, err
	}
	o := own.options()
	o.setOr(optGroupID, req.GroupID)
	o.set(optGroupIndex, none)
	if req.GroupIndex != nil {
		o.set(optGroupIndex, intValue(*req.GroupIndex))
	}
	o.set(optChord, req.Embed.Chord)
	o.setOr(optRootID, req.RootID)
	res := r.freeze(own, freezing{})
	plan, err = r.finish(r.apply(own, arguments{}, nil, nil))
	if err != nil {
		return nil, nil, err
	}
	return res.tree(), plan, nil
}
