package compat

import (
	"fmt"

	"github.com/dfws/dfws/celeryproto"
)

// QueueNotFoundError is returned by Routes for a queue that task_queues lacks while task_create_missing_queues is off. It is Celery's
// QueueNotFound.
type QueueNotFoundError struct {
	Queue string
}

// Error implements error.
func (e *QueueNotFoundError) Error() string {
	return fmt.Sprintf("queue %q is missing from task_queues", e.Queue)
}

// RouteError is returned by Routes.Route for a task whose route only Python can compute.
type RouteError struct {
	// Task is the task's name.
	Task string
	// Reason says what of task_routes stands in the way.
	Reason string
}

// Error implements error.
func (e *RouteError) Error() string {
	return fmt.Sprintf("compat: route of task %s: task_routes has a %s, which only Python can run: "+
		"give the task a queue, or put a rule for it in front", e.Task, e.Reason)
}

// router is one element of task_routes, ready for lookups.
type router struct {
	exact       map[string]*rule
	patterns    []*rule
	unsupported string
}

// rule is a Rule whose pattern is compiled.
type rule struct {
	// match reports whether the rule is for a task; known is false when only Python can tell. Nil for a rule with a task's name.
	match       func(task string) (matches, known bool)
	options     celeryproto.Members
	unsupported string
	name        string
}

// addRouter compiles one element of task_routes.
func (r *Routes) addRouter(source *Router) {
	compiled := router{exact: map[string]*rule{}, unsupported: source.Unsupported}
	if source.Unsupported != "" {
		r.unsupported = append(r.unsupported, source.Unsupported)
	}
	for i := range source.Rules {
		rule := newRule(&source.Rules[i])
		if rule.unsupported != "" {
			r.unsupported = append(r.unsupported, rule.unsupported)
		}
		if task := source.Rules[i].Task; task != nil {
			compiled.exact[*task] = rule
		} else {
			compiled.patterns = append(compiled.patterns, rule)
		}
	}
	r.routers = append(r.routers, compiled)
}

// newRule compiles a rule. One that cannot be compiled matches whatever only Python knows.
func newRule(source *Rule) *rule {
	compiled := &rule{name: source.name(), unsupported: source.Unsupported}
	if source.Unsupported == "" {
		options, err := celeryproto.Raw(source.Route).Object()
		if err != nil {
			compiled.unsupported = "route of " + source.name() + " that is no object"
		}
		compiled.options = options
	}
	unknown := func(string) (matches, known bool) { return false, false }
	switch {
	case source.Task != nil:
	case source.Glob != "":
		glob := parseGlob(source.Glob)
		compiled.match = func(task string) (matches, known bool) { return glob.match(task), true }
	case source.Regex != "":
		expression, err := compilePattern(source.Regex, source.Flags)
		if err != nil {
			compiled.unsupported = err.Error()
			compiled.match = unknown
			break
		}
		compiled.match = expression.match
	default:
		compiled.match = unknown
	}
	return compiled
}

// lookup returns the options of the first rule for a task; nil when there is none. Within a table, a rule with the task's name comes before
// those with patterns (celery.app.routes.MapRoute).
func (r *Routes) lookup(task string) (celeryproto.Members, error) {
	for i := range r.routers {
		router := &r.routers[i]
		if router.unsupported != "" {
			return nil, &RouteError{Task: task, Reason: router.unsupported}
		}
		found, err := router.find(task)
		if err != nil || found != nil {
			if found == nil {
				return nil, err
			}
			if found.unsupported != "" {
				return nil, &RouteError{Task: task, Reason: found.unsupported}
			}
			return found.options, nil
		}
	}
	return nil, nil
}

// find returns the rule of a table for a task; nil when there is none.
func (r *router) find(task string) (*rule, error) {
	if exact, ok := r.exact[task]; ok {
		return exact, nil
	}
	for _, rule := range r.patterns {
		matches, known := rule.match(task)
		if !known {
			reason := rule.unsupported
			if reason == "" {
				reason = fmt.Sprintf("rule for %s, about a name that is not ASCII", rule.name)
			}
			return nil, &RouteError{Task: task, Reason: reason}
		}
		if matches {
			return rule, nil
		}
	}
	return nil, nil
}
