package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

// Inspect asks workers what they do, by the names of Celery's app.control.inspect. Each method returns the answers by node; the error
// joins a *ReplyError for each that could not answer.
type Inspect struct {
	client  *Client
	options ControlOptions
}

// Inspect returns questions to some or all workers.
func (c *Client) Inspect(o ControlOptions) *Inspect { return &Inspect{client: c, options: o} }

// TaskRequest is a task that a worker holds.
type TaskRequest struct {
	ID   string
	Name string // for people: the task's shadow when it has one
	Type string // the task's registered name
	// Args and Kwargs are the arguments as JSON; with Active's safe, texts for people.
	Args, Kwargs celeryproto.Raw
	Hostname     string    // the worker's node name
	Started      time.Time // zero for a task that does not run
	Acknowledged bool
	Exchange     string
	RoutingKey   string
	Priority     int
	Redelivered  bool
	WorkerPID    int // of the process that runs it, 0 for none
}

// requestJSON is Request.info of celery 5.7, worker/request.py.
type requestJSON struct {
	ID           string   `json:"id"`
	Name         string   `json:"name"`
	Type         string   `json:"type"`
	Hostname     string   `json:"hostname"`
	TimeStart    *float64 `json:"time_start"`
	Acknowledged bool     `json:"acknowledged"`
	DeliveryInfo struct {
		Exchange    *string `json:"exchange"`
		RoutingKey  *string `json:"routing_key"`
		Priority    *int    `json:"priority"`
		Redelivered *bool   `json:"redelivered"`
	} `json:"delivery_info"`
	WorkerPID *int `json:"worker_pid"`
}

func requestOf(raw celeryproto.Raw) (TaskRequest, error) {
	members, err := raw.Object()
	if err != nil {
		return TaskRequest{}, err
	}
	t := TaskRequest{}
	t.Args, _ = members.Get("args")
	t.Kwargs, _ = members.Get("kwargs")
	members.Delete("args") // which encoding/json may not take
	members.Delete("kwargs")
	var v requestJSON
	if err := json.Unmarshal(members.Append(nil), &v); err != nil {
		return TaskRequest{}, err
	}
	t.ID, t.Name, t.Type, t.Hostname, t.Acknowledged = v.ID, v.Name, v.Type, v.Hostname, v.Acknowledged
	d := &v.DeliveryInfo
	t.Exchange, t.RoutingKey = valueOf(d.Exchange), valueOf(d.RoutingKey)
	t.Priority, t.Redelivered, t.WorkerPID = valueOf(d.Priority), valueOf(d.Redelivered), valueOf(v.WorkerPID)
	if v.TimeStart != nil {
		t.Started = unixTime(*v.TimeStart)
	}
	return t, nil
}

// valueOf is what a pointer points to, zero for nil.
func valueOf[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// unixTime is a time in seconds since 1970; the zero time when it is none.
func unixTime(seconds float64) time.Time {
	e := celeryproto.Event{Timestamp: seconds}
	return e.Time()
}

// inspect sends a question and reads each answer.
func inspect[T any](
	ctx context.Context, i *Inspect, method string, arguments celeryproto.Members, read func(celeryproto.Raw) (T, error),
) (map[string]T, error) {
	r, err := i.options.request(method, arguments)
	if err != nil {
		return nil, err
	}
	replies, err := i.client.call(ctx, r)
	faults := []error{err}
	values := make(map[string]T, len(replies))
	for node, raw := range replies {
		v, err := read(raw)
		if err != nil {
			faults = append(faults, fmt.Errorf("worker: inspect %s: answer of node %s: %w", method, node, err))
			continue
		}
		values[node] = v
	}
	return values, errors.Join(faults...)
}

// listOf reads an array.
func listOf[T any](read func(celeryproto.Raw) (T, error)) func(celeryproto.Raw) ([]T, error) {
	return func(raw celeryproto.Raw) ([]T, error) {
		elements, err := raw.Array()
		if err != nil {
			return nil, err
		}
		values := make([]T, len(elements))
		for i, element := range elements {
			if values[i], err = read(element); err != nil {
				return nil, err
			}
		}
		return values, nil
	}
}

// jsonOf reads what encoding/json takes.
func jsonOf[T any](raw celeryproto.Raw) (T, error) {
	var v T
	err := json.Unmarshal(raw, &v)
	return v, err
}

// okOf reads {"ok": text}.
func okOf(raw celeryproto.Raw) (string, error) {
	members, err := raw.Object()
	if err != nil {
		return "", err
	}
	ok, _ := members.Get("ok")
	return ok.Text()
}

func textOf(raw celeryproto.Raw) (string, error) {
	if raw.IsNull() {
		return "", nil
	}
	return raw.Text()
}

// Ping asks for a sign of life: "pong".
func (i *Inspect) Ping(ctx context.Context) (map[string]string, error) {
	return inspect(ctx, i, "ping", nil, okOf)
}

// Active lists the tasks that run. With safe their arguments are texts for people.
func (i *Inspect) Active(ctx context.Context, safe bool) (map[string][]TaskRequest, error) {
	arguments := new(object).raw("safe", rawNull)
	if safe {
		arguments = new(object).raw("safe", rawBool(true))
	}
	return inspect(ctx, i, "active", arguments.members, listOf(requestOf))
}

// Reserved lists the tasks that were taken and wait to run.
func (i *Inspect) Reserved(ctx context.Context) (map[string][]TaskRequest, error) {
	return inspect(ctx, i, "reserved", nil, listOf(requestOf))
}

// ScheduledTask is a task that waits for its ETA.
type ScheduledTask struct {
	ETA      time.Time
	Priority int // in the worker's timer: always 6
	Request  TaskRequest
}

// Scheduled lists the tasks that wait for their ETA.
func (i *Inspect) Scheduled(ctx context.Context) (map[string][]ScheduledTask, error) {
	return inspect(ctx, i, "scheduled", nil, listOf(scheduledOf))
}

func scheduledOf(raw celeryproto.Raw) (ScheduledTask, error) {
	members, err := raw.Object()
	if err != nil {
		return ScheduledTask{}, err
	}
	request, _ := members.Get("request")
	eta, _ := members.Get("eta")
	priority, _ := members.Get("priority")
	var s ScheduledTask
	if s.Request, err = requestOf(request); err != nil || eta.IsNull() {
		return s, err
	}
	if s.Priority, err = jsonOf[int](priority); err != nil {
		return s, err
	}
	text, err := eta.Text()
	if err != nil {
		return s, err
	}
	s.ETA, err = time.Parse(time.RFC3339, text)
	return s, err
}

// Revoked lists the IDs of tasks that are not to be run.
func (i *Inspect) Revoked(ctx context.Context) (map[string][]string, error) {
	return inspect(ctx, i, "revoked", nil, jsonOf[[]string])
}

// Registered lists the tasks that the workers have, each as "name" or "name [attribute=value …]"; without attributes: exchange,
// routing_key and rate_limit.
func (i *Inspect) Registered(ctx context.Context, attributes ...string) (map[string][]string, error) {
	return inspect(ctx, i, "registered", new(object).raw("taskinfoitems", rawTexts(attributes)).members, jsonOf[[]string])
}

// NodeStats are the statistics of a worker. What has no field here is in Raw.
type NodeStats struct {
	Total         map[string]int64 `json:"total"` // tasks that were begun, by name
	PID           int              `json:"pid"`
	Clock         string           `json:"clock"`
	Uptime        int64            `json:"uptime"` // seconds
	PrefetchCount int              `json:"prefetch_count"`
	Pool          struct {
		Implementation string `json:"implementation"`
		MaxConcurrency int    `json:"max-concurrency"`
		Processes      []int  `json:"processes"`
	} `json:"pool"`
	Broker struct {
		Hostname    string `json:"hostname"`
		Port        int    `json:"port"`
		VirtualHost string `json:"virtual_host"`
		Transport   string `json:"transport"`
	} `json:"broker"`
	Autoscaler *struct {
		Max     int `json:"max"`
		Min     int `json:"min"`
		Current int `json:"current"`
	} `json:"autoscaler"`
	// Raw is the whole answer.
	Raw celeryproto.Raw `json:"-"`
}

// Stats returns the statistics of workers.
func (i *Inspect) Stats(ctx context.Context) (map[string]NodeStats, error) {
	return inspect(ctx, i, "stats", nil, func(raw celeryproto.Raw) (NodeStats, error) {
		s, err := jsonOf[NodeStats](raw)
		s.Raw = raw
		return s, err
	})
}

// QueueInfo is a queue that a worker consumes.
type QueueInfo struct {
	Name     string `json:"name"`
	Exchange struct {
		Name string `json:"name"`
		Type string `json:"type"`
	} `json:"exchange"`
	RoutingKey string `json:"routing_key"`
	Durable    bool   `json:"durable"`
	Exclusive  bool   `json:"exclusive"`
	AutoDelete bool   `json:"auto_delete"`
}

// ActiveQueues lists the queues that workers consume.
func (i *Inspect) ActiveQueues(ctx context.Context) (map[string][]QueueInfo, error) {
	return inspect(ctx, i, "active_queues", nil, jsonOf[[]QueueInfo])
}

// HeldTask is a task with its state in a worker: "active", "reserved", "scheduled" or "ready".
type HeldTask struct {
	State   string
	Request TaskRequest
}

// QueryTask looks for tasks, and returns by node those that it holds, by their IDs.
func (i *Inspect) QueryTask(ctx context.Context, taskIDs ...string) (map[string]map[string]HeldTask, error) {
	return inspect(ctx, i, "query_task", new(object).raw("ids", rawTexts(taskIDs)).members, heldOf)
}

func heldOf(raw celeryproto.Raw) (map[string]HeldTask, error) {
	members, err := raw.Object()
	if err != nil {
		return nil, err
	}
	held := map[string]HeldTask{}
	for _, m := range members {
		pair, err := m.Value.Array()
		if err == nil && len(pair) != 2 {
			err = errors.New("not a pair of state and request")
		}
		if err != nil {
			return nil, err
		}
		var h HeldTask
		if h.State, err = pair[0].Text(); err == nil {
			h.Request, err = requestOf(pair[1])
		}
		if err != nil {
			return nil, err
		}
		held[m.Key] = h
	}
	return held, nil
}

// Conf returns the Celery settings of workers by name, secrets hidden: those that differ from the defaults, or all.
func (i *Inspect) Conf(ctx context.Context, withDefaults bool) (map[string]map[string]celeryproto.Raw, error) {
	arguments := new(object).raw("with_defaults", rawBool(withDefaults)).members
	return inspect(ctx, i, "conf", arguments, func(raw celeryproto.Raw) (map[string]celeryproto.Raw, error) {
		members, err := raw.Object()
		if err != nil {
			return nil, err
		}
		conf := make(map[string]celeryproto.Raw, len(members))
		for _, m := range members {
			conf[m.Key] = m.Value
		}
		return conf, nil
	})
}

// Report returns a text on each worker's software and settings, for bug reports.
func (i *Inspect) Report(ctx context.Context) (map[string]string, error) {
	return inspect(ctx, i, "report", nil, okOf)
}

// Clock returns the workers' logical clocks.
func (i *Inspect) Clock(ctx context.Context) (map[string]int64, error) {
	return inspect(ctx, i, "clock", nil, func(raw celeryproto.Raw) (int64, error) {
		v, err := jsonOf[struct {
			Clock int64 `json:"clock"`
		}](raw)
		return v.Clock, err
	})
}

// MemSample notes how much memory the workers have, for MemDump, and returns it; "" where it is not known.
func (i *Inspect) MemSample(ctx context.Context) (map[string]string, error) {
	return inspect(ctx, i, "memsample", nil, textOf)
}

// MemDump returns a text with up to so many samples.
func (i *Inspect) MemDump(ctx context.Context, samples int) (map[string]string, error) {
	return inspect(ctx, i, "memdump", new(object).int("samples", int64(samples)).members, textOf)
}

// ObjGraph makes Python workers draw a graph of their objects into a file, whose name it returns. Go workers refuse it.
func (i *Inspect) ObjGraph(ctx context.Context, typ string, n, maxDepth int) (map[string]string, error) {
	arguments := new(object).int("num", int64(n)).int("max_depth", int64(maxDepth)).text("type", typ).members
	return inspect(ctx, i, "objgraph", arguments, func(raw celeryproto.Raw) (string, error) {
		v, err := jsonOf[struct {
			Filename string `json:"filename"`
		}](raw)
		return v.Filename, err
	})
}

// HelloReply is what workers tell each other when one starts.
type HelloReply struct {
	Revoked []string
	Clock   int64
}

// Hello says hello as a worker does when it starts: the workers take over the revoked IDs, and tell theirs.
func (i *Inspect) Hello(ctx context.Context, fromNode string, revoked []string) (map[string]HelloReply, error) {
	arguments := new(object).text("from_node", fromNode).raw("revoked", rawTexts(revoked)).members
	return inspect(ctx, i, "hello", arguments, func(raw celeryproto.Raw) (HelloReply, error) {
		if raw.IsNull() {
			return HelloReply{}, nil
		}
		members, err := raw.Object()
		if err != nil {
			return HelloReply{}, err
		}
		ids, _ := members.Get("revoked")
		clock, _ := members.Get("clock")
		n, err := jsonOf[int64](clock)
		return HelloReply{Revoked: revokedOf(ids), Clock: n}, err
	})
}
