package worker

import (
	"errors"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
)

// onlyPython tells whether an errback may be a Python function of (request, exc, traceback), which only a Python worker can call:
// it is a canvas.NewStyle. Without the Django app dfws in the Python workers nobody can be asked, and all errbacks are sent as
// tasks, which is right for those that take the failed task's ID.
func (f *workflow) onlyPython(errback *canvas.Signature) bool {
	if f.python == nil || f.knows != nil && f.knows(errback.Task()) {
		return false
	}
	return !f.python().Direct(errback.Task())
}

// pythonErrbacks asks a Python worker to call errbacks; see dispatch.Errbacks for what it is sent.
func (f *workflow) pythonErrbacks(s *settler, j *job, e *canvas.Errbacks, m *celeryproto.ResultMeta) (*canvas.Plan, error) {
	errbacks := f.python()
	if errbacks == nil {
		return nil, errNoPython
	}
	signatures := make([]celeryproto.Raw, len(e.Call))
	for i, sig := range e.Call {
		raw, err := sig.Encode()
		if err != nil {
			return nil, err
		}
		signatures[i] = raw
	}
	request := celeryproto.Members{{Key: "id", Value: celeryproto.AppendString(nil, e.TaskID)}}
	if e.TaskID == j.task.ID {
		request = j.request(s.node)
	}
	var traceback any
	if m.Traceback != "" {
		traceback = m.Traceback
	}
	sig := canvas.New(errbacks.Task).WithKwargs(map[string]any{
		"request": celeryproto.Raw(request.Append(nil)), "exception": m.Result, "traceback": traceback, "errbacks": signatures,
	}).Set("queue", errbacks.Queue).Set("ignore_result", true).Set("serializer", celeryproto.SerializerJSON)
	return sig.Apply(&f.env, canvas.Call{})
}

// errNoPython says that the registry has lost what it said about errbacks a moment ago.
var errNoPython = errors.New("worker: no Python worker says how errbacks are called")

// request is the job as Celery's Task.request of it: headers, arguments, embed and properties (celery 5.7, worker/request.py).
func (j *job) request(node string) celeryproto.Members {
	t := j.task
	var r celeryproto.Members
	if t.Protocol != 1 {
		r = append(r, j.envelope.Headers...)
	}
	set := func(key string, value celeryproto.Raw) { r.Set(key, value) }
	text := func(key, value string) {
		if value == "" {
			set(key, celeryproto.Raw("null"))
			return
		}
		set(key, celeryproto.AppendString(nil, value))
	}
	text("id", t.ID)
	text("task", t.Name)
	text("root_id", t.RootID)
	text("parent_id", t.ParentID)
	text("group", t.GroupID)
	set("args", orJSON(t.Args, "[]"))
	set("kwargs", orJSON(t.Kwargs, "{}"))
	set("callbacks", orJSON(t.Embed.Callbacks, "null"))
	set("errbacks", orJSON(t.Embed.Errbacks, "null"))
	set("chain", orJSON(t.Embed.Chain, "null"))
	set("chord", orJSON(t.Embed.Chord, "null"))
	text("reply_to", t.Properties.ReplyTo)
	text("correlation_id", t.Properties.CorrelationID)
	text("hostname", node)
	info, err := celeryproto.EncodeValue(map[string]any{
		"exchange": t.Properties.DeliveryInfo.Exchange, "routing_key": t.Properties.DeliveryInfo.RoutingKey,
		"priority": t.Properties.Priority, "redelivered": t.Redelivered,
	})
	if err == nil { // texts and numbers: it does
		set("delivery_info", info)
	}
	return r
}

func orJSON(r celeryproto.Raw, otherwise string) celeryproto.Raw {
	if len(r) == 0 {
		return celeryproto.Raw(otherwise)
	}
	return r
}
