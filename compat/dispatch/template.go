package dispatch

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/google/uuid"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
)

const (
	// taskBodyStart and taskBodyEnd surround the arguments in the body of protocol 2: no keyword arguments, no callbacks (kombu's json.dumps
	// of celery/app/amqp.py, as_task_v2).
	taskBodyStart = "["
	taskBodyEnd   = `, {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]`

	// maxTemplates bounds the cache of templates; signals of a browser reach it only when they are registered, or short.
	maxTemplates = 4096
	// maxTemplateName is the longest signal name in the cache: beyond, the template is rendered each time.
	maxTemplateName = 200

	// hiddenRepr stands in argsrepr for the window info, which has the CSRF cookie, and for the options, which may have what a form's
	// user typed: argsrepr shows in logs, events and Flower.
	hiddenRepr = "{...}"
)

// templateKey names what is constant in the envelope of a signal's task.
type templateKey struct {
	signal     string
	queue      string
	fromClient bool
}

// template is the envelope of a signal's task, cut where each message differs.
type template struct {
	pieces [][]byte // one more than slots
	slots  []slot
	size   int // of all pieces
}

// slot says what stands between two pieces.
type slot uint8

const (
	slotID slot = iota
	slotBody
	slotTag
)

// templates is a bounded cache.
type templates struct {
	render func(templateKey) (*template, error)

	mu    sync.RWMutex
	known map[templateKey]*template
}

func newTemplates(render func(templateKey) (*template, error)) *templates {
	return &templates{render: render, known: map[templateKey]*template{}}
}

// get returns the template of a key.
func (t *templates) get(key templateKey) (*template, error) {
	t.mu.RLock()
	found := t.known[key]
	t.mu.RUnlock()
	if found != nil {
		return found, nil
	}
	made, err := t.render(key)
	if err != nil || len(key.signal) > maxTemplateName {
		return made, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.known) >= maxTemplates {
		clear(t.known)
	}
	t.known[key] = made
	return made, nil
}

// renderTemplate lets celeryproto write the envelope with marks in place of what differs, and cuts it there. The marks are fresh UUIDs, so no
// signal name can contain them.
func (d *Dispatcher) renderTemplate(key templateKey) (*template, error) {
	id, body, tag := uuid.NewString(), uuid.NewString(), uuid.NewString()
	task := d.newTask(compat.TaskName, key.queue, id, tag)
	task.ArgsRepr = argsRepr(&key, nil, true)
	envelope, err := task.Envelope()
	if err != nil {
		return nil, fmt.Errorf("dispatch: task template: %w", err)
	}
	envelope.Body = body
	text, err := envelope.Append(nil)
	if err != nil {
		return nil, fmt.Errorf("dispatch: task template: %w", err)
	}
	return cutTemplate(text, map[string]slot{id: slotID, body: slotBody, tag: slotTag})
}

// cutTemplate cuts text at each mark. Marks have all the same length.
func cutTemplate(text []byte, marks map[string]slot) (*template, error) {
	t := &template{}
	for {
		at, found := -1, ""
		for mark := range marks {
			if i := bytes.Index(text, []byte(mark)); i >= 0 && (at < 0 || i < at) {
				at, found = i, mark
			}
		}
		if at < 0 {
			break
		}
		t.pieces = append(t.pieces, text[:at:at])
		t.slots = append(t.slots, marks[found])
		t.size += at
		text = text[at+len(found):]
	}
	t.pieces = append(t.pieces, text)
	t.size += len(text)
	for _, want := range marks {
		if !slices.Contains(t.slots, want) {
			return nil, fmt.Errorf("dispatch: task template: part %d is not in the envelope", want)
		}
	}
	return t, nil
}

// newTask is a task with the headers and properties that Celery writes (celery/app/amqp.py, as_task_v2; kombu/transport/virtual/base.py).
func (d *Dispatcher) newTask(name, queue, id, tag string) *celeryproto.Task {
	ignoreResult := d.cfg.Settings.Celery.TaskIgnoreResult
	return &celeryproto.Task{
		Protocol: 2, Name: name, ID: id, RootID: id, Origin: d.cfg.Origin, IgnoreResult: &ignoreResult,
		ArgsRepr: "()", KwargsRepr: "{}",
		Properties: celeryproto.Properties{
			CorrelationID: id, ReplyTo: d.replyTo, DeliveryMode: celeryproto.DeliveryPersistent,
			DeliveryInfo: celeryproto.DeliveryInfo{RoutingKey: queue},
			BodyEncoding: celeryproto.BodyBase64, DeliveryTag: tag,
		},
	}
}

// scratch holds the buffers for the arguments: they are copied into the envelope as base64.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// maxScratch is the largest buffer that goes back to the pool.
const maxScratch = 64 << 10

// envelope renders the task of one queue.
func (d *Dispatcher) envelope(c *call, args *compat.SignalCall) ([]byte, error) {
	if !c.eta.IsZero() || !c.expires.IsZero() {
		return d.timedEnvelope(c, args)
	}
	t, err := d.templates.get(templateKey{args.Signal, args.Queue, args.FromClient})
	if err != nil {
		return nil, err
	}
	buffer := scratch.Get().(*[]byte)
	body := append((*buffer)[:0], taskBodyStart...)
	body = args.AppendArgsFor(body, c.Window)
	body = append(body, taskBodyEnd...)
	out := t.fill(body, d.cfg.NewID(), d.cfg.NewID())
	if cap(body) <= maxScratch {
		*buffer = body
		scratch.Put(buffer)
	}
	return out, nil
}

// fill makes an envelope: id and tag are UUIDs.
func (t *template) fill(body []byte, id, tag string) []byte {
	size := t.size
	for _, s := range t.slots {
		switch s {
		case slotID:
			size += len(id)
		case slotTag:
			size += len(tag)
		case slotBody:
			size += base64.StdEncoding.EncodedLen(len(body))
		}
	}
	out := make([]byte, 0, size)
	for i, s := range t.slots {
		out = append(out, t.pieces[i]...)
		switch s {
		case slotID:
			out = append(out, id...)
		case slotTag:
			out = append(out, tag...)
		case slotBody:
			out = base64.StdEncoding.AppendEncode(out, body)
		}
	}
	return append(out, t.pieces[len(t.pieces)-1]...)
}

// timedEnvelope renders a task with eta or expires, which are rare.
func (d *Dispatcher) timedEnvelope(c *call, args *compat.SignalCall) ([]byte, error) {
	task := d.newTask(compat.TaskName, args.Queue, d.cfg.NewID(), d.cfg.NewID())
	task.Args = args.AppendArgsFor(nil, c.Window)
	task.ArgsRepr = argsRepr(&templateKey{args.Signal, args.Queue, args.FromClient}, args.Topics, args.ToServer)
	setTimes(task, c)
	out, err := task.Append(nil)
	if err != nil {
		return nil, fmt.Errorf("dispatch: task: %w", err)
	}
	return out, nil
}

// setTimes sets eta and expires; the property expiration is what is left of expires in milliseconds, never negative (Celery.send_task).
func setTimes(task *celeryproto.Task, c *call) {
	if !c.eta.IsZero() {
		task.ETA = &c.eta
	}
	if !c.expires.IsZero() {
		task.Expires = &c.expires
		task.Properties.Expiration = strconv.FormatInt(max(0, c.Expires.Milliseconds()), 10)
	}
}

// argsRepr is the repr of a task's arguments with what is private hidden.
func argsRepr(key *templateKey, topics []string, toServer bool) string {
	list := make([]byte, 0, 64)
	for i, topic := range topics {
		if i > 0 {
			list = append(list, ", "...)
		}
		list = append(list, pythonRepr(topic)...)
	}
	return "[" + pythonRepr(key.signal) + ", " + hiddenRepr + ", " + hiddenRepr + ", " + pythonBool(key.fromClient) +
		", [" + string(list) + "], " + pythonBool(toServer) + ", " + pythonRepr(key.queue) + "]"
}

// pythonRepr is repr() of a text, shortened as Celery does.
func pythonRepr(s string) string { return celeryproto.Repr(celeryproto.AppendString(nil, s)) }

func pythonBool(b bool) string {
	if b {
		return "True"
	}
	return "False"
}
