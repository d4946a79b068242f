package celeryproto

// ResultRequest is what django-celery-results 2.6 stores of the message that a
// result is of, beside what every backend stores (backends/database.py,
// _get_extended_properties and _get_meta_from_request).
type ResultRequest struct {
	// ArgsRepr and KwargsRepr are the message's "argsrepr" and "kwargsrepr"; "" for
	// none, as in protocol 1.
	ArgsRepr, KwargsRepr string
	// PeriodicTaskName is the header "periodic_task_name" of django-celery-beat.
	PeriodicTaskName string
	// Meta is the header "meta", a JSON object of the application's; nil for none.
	Meta Raw
}

// ResultRequest returns what the database backend stores of the task.
func (t *Task) ResultRequest() *ResultRequest {
	r := &ResultRequest{ArgsRepr: t.ArgsRepr, KwargsRepr: t.KwargsRepr}
	if name, ok := t.ExtraHeaders.Get("periodic_task_name"); ok && name.Kind() == KindString {
		r.PeriodicTaskName, _ = name.Text() // checked when the task was decoded
	}
	if meta, ok := t.ExtraHeaders.Get("meta"); ok && meta.Kind() == KindObject {
		r.Meta = meta
	}
	return r
}
