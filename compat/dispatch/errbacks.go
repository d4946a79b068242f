package dispatch

import "slices"

// Errbacks is what the Python workers say about errbacks of tasks that fail in Go. Celery has two kinds: a function that takes
// (request, exc, traceback) is called in the worker where the task failed, one that takes the task's ID is sent as a task. Only Python can
// tell them apart, and only Python can call the first kind, so the task Task does for a Go worker what a Python worker does itself.
//
//	keyword argument  value
//	request           the members of Celery's Task.request: the message's headers and embed, args, kwargs, properties, reply_to,
//	                  correlation_id, hostname and delivery_info (exchange, routing_key, priority, redelivered); id is required
//	exception         {"exc_type": …, "exc_message": […], "exc_module": …}, as in a result
//	traceback         text, or null
//	errbacks          the signatures
//
// The message's root_id and parent_id do not matter: what the errbacks send is a child of the failed task.
type Errbacks struct {
	// Task is the name of the task.
	Task string `json:"task"`
	// Queue is where to send it: a queue of Python workers.
	Queue string `json:"queue"`
	// OldStyle are the tasks of the Python workers that take the task's ID, whatever arguments a signature has; sorted. All others go
	// through Task, those that Python does not know as well: a list that is out of date costs a detour and never a wrong call.
	OldStyle []string `json:"old_style"`
}

// Direct reports whether an errback can be sent as a task without asking Python: it is known to take the failed task's ID. e may be nil, as
// without the Django app dfws in the Python workers: then nobody can be asked, and every errback is sent.
func (e *Errbacks) Direct(task string) bool {
	if e == nil {
		return true
	}
	_, found := slices.BinarySearch(e.OldStyle, task)
	return found
}

// Errbacks returns how errbacks are called; nil while no Python worker has said so. It must not be changed.
func (r *Registry) Errbacks() *Errbacks {
	for _, e := range r.current.Load().entries {
		if e.Publisher == PublisherPython {
			return e.Errbacks
		}
	}
	return nil
}
