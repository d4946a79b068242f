package compat

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

// Types of exchanges, as AMQP and kombu call them.
const (
	exchangeDirect = "direct"
)

// persistent is the delivery mode of messages that a broker keeps over a restart; 1 is the other.
const persistent = 2

// Exchange is the declaration of an exchange (kombu.Exchange).
type Exchange struct {
	Name string `json:"name"`
	// Type is "direct" (also when empty), "topic", "fanout" or "headers".
	Type       string `json:"type"`
	Durable    bool   `json:"durable"`
	AutoDelete bool   `json:"auto_delete"`
	// DeliveryMode is that of messages that have none of their own: 1, 2, or 0 for the default.
	DeliveryMode int `json:"delivery_mode"`
	// NoDeclare says that the exchange is never declared.
	NoDeclare bool `json:"no_declare"`
}

// Binding is one of several that a queue has.
type Binding struct {
	Exchange   Exchange `json:"exchange"`
	RoutingKey string   `json:"routing_key"`
}

// Queue is the declaration of a queue (kombu.Queue). With Redis, a queue is a list with the queue's name; of the rest only the exchange
// with its bindings, and the time after which an unused queue vanishes, mean something.
type Queue struct {
	Name string `json:"name"`
	// Alias is another name for it in routes and for workers; Broadcast queues have one.
	Alias      string   `json:"alias"`
	Exchange   Exchange `json:"exchange"`
	RoutingKey string   `json:"routing_key"`
	// Bindings are bindings beyond the one to Exchange with RoutingKey.
	Bindings []Binding `json:"bindings"`
	// Arguments are the queue's arguments, such as x-expires and x-max-priority.
	Arguments  json.RawMessage `json:"queue_arguments"`
	Durable    bool            `json:"durable"`
	Exclusive  bool            `json:"exclusive"`
	AutoDelete bool            `json:"auto_delete"`
	NoAck      bool            `json:"no_ack"`
	NoDeclare  bool            `json:"no_declare"`
	// Expires is the time after which the queue vanishes when it is not used; nil is never. TTL also looks into Arguments.
	Expires        *Seconds `json:"expires"`
	MessageTTL     *Seconds `json:"message_ttl"`
	MaxLength      *int     `json:"max_length"`
	MaxLengthBytes *int     `json:"max_length_bytes"`
	MaxPriority    *int     `json:"max_priority"`
	// Broadcast says that the queue is a kombu.common.Broadcast: each worker gets a copy of each message.
	Broadcast bool `json:"broadcast"`
	// Unique says that Name ends with a UUID that differs in each process: one that consumes the queue puts its own there.
	Unique bool `json:"unique"`
}

// UnmarshalJSON reads a queue. What is missing is as in kombu: durable, and a direct exchange.
func (q *Queue) UnmarshalJSON(b []byte) error {
	type plain Queue // without this method
	queue := plain{Durable: true, Exchange: Exchange{Type: exchangeDirect, Durable: true}}
	if err := json.Unmarshal(b, &queue); err != nil {
		return err
	}
	if queue.Name == "" {
		return errors.New("celery.task_queues: a queue has no name")
	}
	*q = Queue(queue)
	return nil
}

// TTL returns the time after which the queue vanishes when it is not used; 0 is never. An argument x-expires, in milliseconds, is
// overridden by Expires (kombu 5.7, transport/base.py, to_rabbitmq_queue_arguments); one that is no number counts as none, as in kombu.
func (q *Queue) TTL() time.Duration {
	if q.Expires != nil {
		return q.Expires.Duration().Truncate(time.Millisecond)
	}
	var arguments struct {
		Expires float64 `json:"x-expires"`
	}
	if json.Unmarshal(q.Arguments, &arguments) != nil || !(arguments.Expires > 0 && arguments.Expires <= maxTTL) {
		return 0
	}
	return time.Duration(arguments.Expires) * time.Millisecond
}

// maxTTL bounds x-expires, in milliseconds, to what a Duration holds.
const maxTTL = float64(1<<63-1) / float64(time.Millisecond)

// Router is one element of task_routes: a table of rules, or code of the site.
type Router struct {
	// Rules are asked in this order, except that those with a name come before those with a pattern.
	Rules []Rule `json:"rules"`
	// Unsupported describes code that only Python can run; empty for a table.
	Unsupported string `json:"unsupported"`
}

// Rule leads the tasks that it matches to a destination. It has one of Task, Glob and Regex; one with none of them is Unsupported and
// matches everything, because nobody but Python knows what it matches.
type Rule struct {
	// Task is the name of a task.
	Task *string `json:"task"`
	// Glob is a pattern of Python's fnmatch, where "*" matches dots too.
	Glob string `json:"glob"`
	// Regex is a regular expression of Python's re, which has to match at the start of the name.
	Regex string `json:"regex"`
	// Flags are those of Regex, by Python's letters: a, i, m, s, x.
	Flags string `json:"flags"`
	// Route is an object of options for apply_async; its queue is a name or a declaration.
	Route json.RawMessage `json:"route"`
	// Unsupported says why the rule's destination cannot be computed here; empty when it can.
	Unsupported string `json:"unsupported"`
}

// UnmarshalJSON reads a rule and refuses one that matches nothing or leads nowhere.
func (r *Rule) UnmarshalJSON(b []byte) error {
	type plain Rule // without this method
	var rule plain
	if err := json.Unmarshal(b, &rule); err != nil {
		return err
	}
	matchers := 0
	for _, given := range []bool{rule.Task != nil, rule.Glob != "", rule.Regex != ""} {
		if given {
			matchers++
		}
	}
	switch {
	case matchers > 1 || matchers == 0 && rule.Unsupported == "":
		return errors.New("celery.task_routes: a rule has not one of task, glob and regex")
	case rule.Unsupported == "" && celeryproto.Raw(rule.Route).Kind() != celeryproto.KindObject:
		return fmt.Errorf("celery.task_routes: %s leads nowhere: its route is no object", (*Rule)(&rule).name())
	}
	*r = Rule(rule)
	return nil
}

// name is how messages call the rule.
func (r *Rule) name() string {
	switch {
	case r.Task != nil:
		return fmt.Sprintf("%q", *r.Task)
	case r.Glob != "":
		return fmt.Sprintf("%q", r.Glob)
	case r.Regex != "":
		return fmt.Sprintf("the expression %q", r.Regex)
	}
	return "a rule"
}

// Annotations is one element of task_annotations: attributes by the name of a task, or "*" for all; or code of the site.
type Annotations struct {
	Tasks map[string]map[string]json.RawMessage `json:"tasks"`
	// Unsupported describes code that only Python can run; empty for a table.
	Unsupported string `json:"unsupported"`
}

// onlyPython describes what of the annotations only Python can run, in the order of the tasks' names.
func (a *Annotations) onlyPython() []string {
	if a.Unsupported != "" {
		return []string{a.Unsupported}
	}
	var found []string
	for task, attributes := range a.Tasks {
		for name, value := range attributes {
			if what, is := unsupportedValue(celeryproto.Raw(value)); is {
				found = append(found, task+": "+name+" is a "+what)
			}
		}
	}
	slices.Sort(found)
	return found
}

// Annotation returns the attributes that task_annotations gives a task, such as rate_limit, by name. As in Celery, the first table with
// the task counts, and the first with "*" wins over it (celery.app.annotations.resolve_all). The error names, joined, what only Python
// can run: classes with annotations, and attributes that are functions.
func (c *Celery) Annotation(task string) (map[string]celeryproto.Raw, error) {
	attributes := map[string]celeryproto.Raw{}
	var faults []error
	asked := make([]bool, len(c.TaskAnnotations)) // which of the site's classes were
	for _, key := range []string{task, "*"} {
		for i := range c.TaskAnnotations {
			a := &c.TaskAnnotations[i]
			if a.Unsupported != "" {
				if !asked[i] {
					faults = append(faults, annotationError(task, a.Unsupported))
				}
				asked[i] = true
				continue
			}
			table, found := a.Tasks[key]
			for name, value := range table {
				if what, is := unsupportedValue(celeryproto.Raw(value)); is {
					faults = append(faults, annotationError(task, name+" is a "+what))
					continue
				}
				attributes[name] = celeryproto.Raw(value)
			}
			if found {
				break
			}
		}
	}
	return attributes, errors.Join(faults...)
}

func annotationError(task, what string) error {
	return fmt.Errorf("compat: settings: celery.task_annotations: %s: %s, which only Python can run", task, what)
}

// unsupportedValue reports whether a value is {"unsupported": …}, and what it says.
func unsupportedValue(raw celeryproto.Raw) (string, bool) {
	if raw.Kind() != celeryproto.KindObject {
		return "", false
	}
	var u unsupported
	if members, err := raw.Object(); err != nil || len(members) != 1 || json.Unmarshal(raw, &u) != nil {
		return "", false
	}
	return u.Unsupported, u.Unsupported != ""
}
