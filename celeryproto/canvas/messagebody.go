package canvas

import (
	"fmt"

	"github.com/dfws/dfws/celeryproto"
)

// headers of protocol 2, in the order of as_task_v2.
func (b *builder) headers(e *celeryproto.Envelope, args, kwargs, stamps celeryproto.Raw) {
	lang := b.def.Lang
	if lang == "" {
		lang = celeryproto.LangGo
	}
	id := textValue(b.send.ID())
	argsRepr := celeryproto.ReprTuple(args)
	if b.send.ArgsList && len(b.send.Args) > 0 {
		argsRepr = celeryproto.Repr(args)
	}
	root := b.get(optRootID)
	if !rawTruth(root) {
		root = id
	}
	limits := concat("[", b.get(optTimeLimit), ", ", b.get(optSoftTimeLimit), "]")
	e.Headers = celeryproto.Members{
		{Key: "lang", Value: textValue(lang)},
		{Key: "task", Value: textValue(b.send.Task)},
		{Key: "id", Value: id},
		{Key: "shadow", Value: b.get(optShadow)},
		{Key: "eta", Value: b.eta},
		{Key: "expires", Value: b.expires},
		{Key: "group", Value: b.get(optGroupID)},
		{Key: "group_index", Value: b.get(optGroupIndex)},
		{Key: "retries", Value: b.or(optRetries, intValue(0))},
		{Key: "timelimit", Value: limits},
		{Key: "root_id", Value: root},
		{Key: "parent_id", Value: b.get(optParentID)},
		{Key: "argsrepr", Value: b.leaked(optArgsRepr, argsRepr)},
		{Key: "kwargsrepr", Value: b.leaked(optKwargsRepr, celeryproto.Repr(kwargs))},
		{Key: "origin", Value: b.leaked(optOrigin, b.def.Origin)},
		{Key: "ignore_result", Value: b.get(optIgnoreResult)},
		{Key: "replaced_task_nesting", Value: b.or(optNesting, intValue(0))},
		{Key: "stamped_headers", Value: b.get(optStampedHeaders)},
		{Key: "stamps", Value: stamps},
	}
}

// leaked is an option that as_task_v2 reads and that leaks all the same.
func (b *builder) leaked(option, otherwise string) celeryproto.Raw {
	if v, ok := b.rest.get(option).(celeryproto.Raw); ok && !v.IsNull() {
		return v
	}
	return orText(otherwise)
}

// userHeaders are the option headers: they win over Celery's own.
func (b *builder) userHeaders(e *celeryproto.Envelope) error {
	headers, ok := b.named[optHeaders]
	if !ok {
		return nil
	}
	members, err := headers.Object()
	if err != nil {
		return fmt.Errorf("option headers: %w", err)
	}
	all := dictOf(e.Headers)
	all.update(dictOf(members))
	e.Headers = e.Headers[:0]
	for _, m := range all.entries {
		e.Headers = append(e.Headers, celeryproto.Member{Key: m.key, Value: m.val.(celeryproto.Raw)}) // both were JSON
	}
	return nil
}

// callbacks is maybe_list(link).
func (b *builder) callbacks(option string) celeryproto.Raw {
	v := b.get(option)
	if v.IsNull() || v.Kind() == celeryproto.KindArray {
		return v
	}
	return concat("[", v, "]")
}

func (b *builder) bodyV2(args, kwargs celeryproto.Raw) celeryproto.Raw {
	return concat("[", args, ", ", kwargs, `, {"callbacks": `, b.callbacks(optLink), `, "errbacks": `, b.callbacks(optLinkError),
		`, "chain": `, b.get(optChain), `, "chord": `, b.get(optChord), "}]")
}

func (b *builder) bodyV1(args, kwargs celeryproto.Raw) celeryproto.Raw {
	utc := rawTrue
	if b.def.LocalTime {
		utc = rawFalse
	}
	group := b.get(optGroupID)
	return concat(`{"task": `, textValue(b.send.Task), `, "id": `, textValue(b.send.ID()), `, "args": `, args, `, "kwargs": `, kwargs,
		`, "group": `, group, `, "group_index": `, b.get(optGroupIndex), `, "retries": `, b.or(optRetries, intValue(0)),
		`, "eta": `, b.eta, `, "expires": `, b.expires, `, "utc": `, utc, `, "callbacks": `, b.callbacks(optLink),
		`, "errbacks": `, b.callbacks(optLinkError), `, "timelimit": [`, b.get(optTimeLimit), ", ", b.get(optSoftTimeLimit),
		`], "taskset": `, group, `, "chord": `, b.get(optChord), "}")
}

// concat joins texts and JSON values.
func concat(parts ...any) celeryproto.Raw {
	size := 0
	for _, part := range parts {
		switch part := part.(type) {
		case string:
			size += len(part)
		case celeryproto.Raw:
			size += len(part)
		}
	}
	all := make(celeryproto.Raw, 0, size)
	for _, part := range parts {
		switch part := part.(type) {
		case string:
			all = append(all, part...)
		case celeryproto.Raw:
			all = append(all, part...)
		}
	}
	return all
}
