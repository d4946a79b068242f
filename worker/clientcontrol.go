package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
)

// ControlOptions choose the workers that are asked, and how long their answers are waited for.
type ControlOptions struct {
	// Destination names the workers, by their node names. Empty: all that Pattern fits.
	Destination []string
	// Pattern and Matcher choose workers by their names: celeryproto.MatcherGlob or MatcherPCRE. Both or none.
	Pattern, Matcher string
	// Timeout is how long the next answer is waited for; zero: 1 s, as in Celery. Nobody is waited for who cannot have got the message,
	// so it is rarely used up.
	Timeout time.Duration
	// Limit is how many answers are enough. Zero: those of all who are asked.
	Limit int
	// NoReply makes Control return at once, without any answer: Python's default, reply=False. Inspect always asks for answers.
	NoReply bool
}

// ReplyError is the answer of a worker that could not carry out a command.
type ReplyError struct {
	Node string // who answered
	Text string // what it said: a text of Celery's, or the repr of a Python exception
}

// Error implements error.
func (e *ReplyError) Error() string { return fmt.Sprintf("worker: node %s: %s", e.Node, e.Text) }

// DuplicateNodeError reports two workers of the same name, of which only one is among the answers.
type DuplicateNodeError struct{ Node string }

// Error implements error.
func (e *DuplicateNodeError) Error() string {
	return fmt.Sprintf("worker: several workers have the node name %s: give each one of its own", e.Node)
}

// Replies are answers by the names of the nodes, as JSON.
type Replies map[string]celeryproto.Raw

// Call sends any command of remote control and returns its answers: those of Celery, and of the site's own. arguments is a map with text
// keys, a struct with json tags, or nil. An answer {"error": text} is a *ReplyError in the error and not among the answers; all of them
// are joined.
func (c *Client) Call(ctx context.Context, method string, arguments any, o ControlOptions) (Replies, error) {
	r, err := o.request(method, arguments)
	if err != nil {
		return nil, err
	}
	return c.call(ctx, r)
}

// Cast sends any command without asking for answers.
func (c *Client) Cast(ctx context.Context, method string, arguments any, o ControlOptions) error {
	r, err := o.request(method, arguments)
	if err != nil {
		return err
	}
	return c.mailbox.cast(ctx, r)
}

func (o *ControlOptions) request(method string, arguments any) (request, error) {
	r := request{
		method: method, destination: o.Destination, pattern: o.Pattern, matcher: o.Matcher, timeout: o.Timeout, limit: o.Limit,
	}
	if (o.Pattern == "") != (o.Matcher == "") {
		return r, fmt.Errorf("worker: remote control %s: Pattern and Matcher need each other", method)
	}
	switch a := arguments.(type) {
	case nil:
	case celeryproto.Members:
		r.arguments = a
	default:
		raw, err := celeryproto.EncodeValue(arguments)
		if err == nil {
			r.arguments, err = raw.Object()
		}
		if err != nil {
			return r, fmt.Errorf("worker: remote control %s: arguments: %w", method, err)
		}
	}
	return r, nil
}

func (c *Client) call(ctx context.Context, r request) (Replies, error) {
	queue, err := c.replyQueue()
	if err != nil {
		return nil, err
	}
	replies := Replies{}
	var faults []error
	err = c.mailbox.call(ctx, queue, r, func(node string, value celeryproto.Raw) {
		if text, failed := errorReply(value); failed {
			faults = append(faults, &ReplyError{Node: node, Text: text})
			return
		}
		if _, twice := replies[node]; twice {
			faults = append(faults, &DuplicateNodeError{Node: node})
		}
		replies[node] = value
	})
	return replies, errors.Join(append(faults, err)...)
}

// errorReply is the text of {"error": text}.
func errorReply(value celeryproto.Raw) (text string, failed bool) {
	if value.Kind() != celeryproto.KindObject {
		return "", false
	}
	members, err := value.Object()
	if err != nil || len(members) != 1 || members[0].Key != "error" {
		return "", false
	}
	if text, err = members[0].Value.Text(); err != nil {
		text = members[0].Value.String()
	}
	return text, true
}

// replyQueue is this client's queue for answers; the first call makes it.
func (c *Client) replyQueue() (*redisbroker.ReplyQueue, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return nil, redisbroker.ErrClosed
	}
	if c.replies == nil {
		c.replies = c.services.Broker.NewReplyQueue(redisbroker.ReplyQueueConfig{
			Exchange: celeryproto.ReplyExchange(c.site.namespace), Expires: c.site.queueExpires,
		})
		c.wg.Go(func() { _ = c.replies.Run(c.ctx) }) // it never fails
	}
	return c.replies, nil
}

// okReplies are the texts of {"ok": text}; another answer, such as null, is "".
func okReplies(replies Replies, err error) (map[string]string, error) {
	texts := make(map[string]string, len(replies))
	for node, value := range replies {
		texts[node] = ""
		if members, objErr := value.Object(); objErr == nil {
			ok, _ := members.Get("ok")
			if text, textErr := ok.Text(); textErr == nil {
				texts[node] = text
			} else {
				texts[node] = ok.String()
			}
		}
	}
	return texts, err
}

// Control changes workers while they run, by the names of Celery's app.control. Each method returns what the workers said, by node; the
// error joins a *ReplyError for each that could not. With ControlOptions.NoReply nothing is waited for.
type Control struct {
	client  *Client
	options ControlOptions
}

// Control returns remote control of some or all workers.
func (c *Client) Control(o ControlOptions) *Control { return &Control{client: c, options: o} }

func (c *Control) do(ctx context.Context, method string, arguments celeryproto.Members) (map[string]string, error) {
	r, err := c.options.request(method, arguments)
	if err != nil {
		return nil, err
	}
	if c.options.NoReply {
		return nil, c.client.mailbox.cast(ctx, r)
	}
	return okReplies(c.client.call(ctx, r))
}

// Ping asks for a sign of life.
func (c *Control) Ping(ctx context.Context) (map[string]string, error) { return c.do(ctx, "ping", nil) }

// Revoke makes workers not run tasks.
func (c *Control) Revoke(ctx context.Context, taskIDs ...string) (map[string]string, error) {
	return c.do(ctx, "revoke", revokeArguments(taskIDs, false, defaultSignal))
}

// Terminate is Revoke, and ends tasks that run: in Python their process gets the OS signal, "SIGTERM" when empty; in Go their handler's
// context ends.
func (c *Control) Terminate(ctx context.Context, signal string, taskIDs ...string) (map[string]string, error) {
	if signal == "" {
		signal = defaultSignal
	}
	return c.do(ctx, "revoke", revokeArguments(taskIDs, true, signal))
}

// RevokeByStampedHeaders makes workers not run tasks that have one of these values of a stamp; with terminate it ends those that run.
func (c *Control) RevokeByStampedHeaders(ctx context.Context, headers map[string][]string, terminate bool) (map[string]string, error) {
	var stamps celeryproto.Members
	for name, values := range headers {
		stamps = append(stamps, celeryproto.Member{Key: name, Value: rawTexts(values)})
	}
	arguments := new(object).raw("headers", stamps.Append(nil)).raw("terminate", rawBool(terminate)).text("signal", defaultSignal)
	return c.do(ctx, "revoke_by_stamped_headers", arguments.members)
}

// RateLimit changes how often a task is begun: "10/s", "2/m", "100/h"; "" is without limit.
func (c *Control) RateLimit(ctx context.Context, task, rate string) (map[string]string, error) {
	return c.do(ctx, "rate_limit", new(object).text("task_name", task).text("rate_limit", rate).members)
}

// TimeLimit changes a task's time limits; zero is none.
func (c *Control) TimeLimit(ctx context.Context, task string, soft, hard time.Duration) (map[string]string, error) {
	seconds := func(d time.Duration) celeryproto.Raw {
		if d == 0 {
			return rawNull
		}
		return secondsOrZero(d)
	}
	arguments := new(object).text("task_name", task).raw("hard", seconds(hard)).raw("soft", seconds(soft))
	return c.do(ctx, "time_limit", arguments.members)
}

// EnableEvents makes workers publish what happens to tasks, DisableEvents ends that.
func (c *Control) EnableEvents(ctx context.Context) (map[string]string, error) {
	return c.do(ctx, "enable_events", nil)
}

// DisableEvents makes workers publish no events of tasks. A Python worker that was started with -E goes on (Celery 5.7).
func (c *Control) DisableEvents(ctx context.Context) (map[string]string, error) {
	return c.do(ctx, "disable_events", nil)
}

// Heartbeat makes workers publish a heartbeat at once.
func (c *Control) Heartbeat(ctx context.Context) (map[string]string, error) {
	return c.do(ctx, "heartbeat", nil)
}

// PoolGrow adds n processes or slots, PoolShrink takes n away.
func (c *Control) PoolGrow(ctx context.Context, n int) (map[string]string, error) {
	return c.do(ctx, "pool_grow", new(object).int("n", int64(n)).members)
}

// PoolShrink takes n processes or slots away.
func (c *Control) PoolShrink(ctx context.Context, n int) (map[string]string, error) {
	return c.do(ctx, "pool_shrink", new(object).int("n", int64(n)).members)
}

// PoolRestart restarts the processes of Python workers, with their modules loaded anew when reload is set. Go workers refuse it.
func (c *Control) PoolRestart(ctx context.Context, modules []string, reload bool) (map[string]string, error) {
	names := rawNull
	if modules != nil {
		names = rawTexts(modules)
	}
	arguments := new(object).raw("modules", names).raw("reload", rawBool(reload)).raw("reloader", rawNull)
	return c.do(ctx, "pool_restart", arguments.members)
}

// Autoscale changes the bounds of workers that were started with autoscaling.
func (c *Control) Autoscale(ctx context.Context, most, least int) (map[string]string, error) {
	return c.do(ctx, "autoscale", new(object).int("max", int64(most)).int("min", int64(least)).members)
}

// AddConsumer makes workers consume a further queue, CancelConsumer ends that.
func (c *Control) AddConsumer(ctx context.Context, queue string) (map[string]string, error) {
	arguments := new(object).text("queue", queue).raw("exchange", rawNull).text("exchange_type", exchangeDirect).raw("routing_key", rawNull)
	return c.do(ctx, "add_consumer", arguments.members)
}

// CancelConsumer makes workers consume a queue no longer.
func (c *Control) CancelConsumer(ctx context.Context, queue string) (map[string]string, error) {
	return c.do(ctx, "cancel_consumer", new(object).text("queue", queue).members)
}

// Election lets the workers choose one among them, which then does action: for the topic "task" it sends that signature, anything that
// becomes one as JSON (a *canvas.Signature). All should know each other already: workers that do not may elect two, or none. Name no
// single Python worker in Destination: the only candidate dies of an IndexError (kombu 5.7, clocks.py, sort_heap).
func (c *Control) Election(ctx context.Context, id, topic string, action any) (map[string]string, error) {
	raw, err := celeryproto.EncodeValue(action)
	if err != nil {
		return nil, fmt.Errorf("worker: election: %w", err)
	}
	return c.do(ctx, "election", new(object).text("id", id).text("topic", topic).raw("action", raw).members)
}

// Shutdown stops workers warmly. They never answer, so nothing is waited for.
func (c *Control) Shutdown(ctx context.Context) error {
	r, err := c.options.request("shutdown", nil)
	if err != nil {
		return err
	}
	return c.client.mailbox.cast(ctx, r)
}
