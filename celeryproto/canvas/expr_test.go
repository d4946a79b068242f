package canvas_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
)

// frozen counts the IDs that Freeze has given: others than Apply gives.
var frozen atomic.Int64

// expr says how a signature is made; testdata/reference.py and build make it.
type expr = object

func raw(t testing.TB, v any) celeryproto.Raw {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func exprs(e expr, key string) []expr {
	items, _ := e[key].([]any)
	list := make([]expr, len(items))
	for i := range items {
		list[i] = items[i].(expr)
	}
	return list
}

func anys(v any) []any {
	list, _ := v.([]any)
	return list
}

// build makes the signature by this package.
func build(t testing.TB, e expr) *canvas.Signature {
	t.Helper()
	part := func(key string) *canvas.Signature { return build(t, e[key].(expr)) }
	switch e["op"] {
	case "task":
		s := canvas.New(e["task"].(string), anys(e["args"])...)
		if kwargs, ok := e["kwargs"].(object); ok && len(kwargs) > 0 {
			s.WithKwargs(kwargs)
		}
		if immutable, _ := e["immutable"].(bool); immutable {
			s.Immutable(true)
		}
		return s
	case "json":
		s, err := canvas.Decode(raw(t, e["sig"]))
		if err != nil {
			t.Fatalf("decode: %v", err)
		}
		return s
	case "chain", "group":
		var items []*canvas.Signature
		for _, item := range exprs(e, "items") {
			items = append(items, build(t, item))
		}
		if e["op"] == "chain" {
			return canvas.Chain(items...)
		}
		return canvas.Group(items...)
	case "chord":
		return canvas.Chord(part("header"), part("body"))
	case "or":
		return part("a").Then(part("b"))
	case "map":
		if e["kind"] == "map" {
			return canvas.Map(part("task"), e["it"])
		}
		return canvas.Starmap(part("task"), e["it"])
	case "chunks":
		return canvas.Chunks(part("task"), e["it"], e["n"].(int))
	}
	return change(t, part("on"), e)
}

// change does what an expression says to a signature.
func change(t testing.TB, on *canvas.Signature, e expr) *canvas.Signature {
	t.Helper()
	switch e["op"] {
	case "set":
		for key, v := range e["options"].(object) {
			on.Set(key, v)
		}
	case "immutable":
		on.Immutable(e["value"].(bool))
	case "link":
		on.Link(build(t, e["sig"].(expr)))
	case "link_error":
		on.LinkError(build(t, e["sig"].(expr)))
	case "clone":
		return on.Partial(anys(e["args"])...)
	case "skew":
		return on.Skew(e["start"].(float64), e["stop"].(float64), e["step"].(float64))
	case "freeze":
		e := &canvas.Env{ReplyTo: "reply-to", NewID: func() string { return fmt.Sprintf("go9%011d", frozen.Add(1)) }}
		if _, err := on.Freeze(e, canvas.FreezeOptions{}); err != nil {
			return canvas.New("t.broken", func() {}) // Python fails here too
		}
	case "stamp":
		headers, _ := e["headers"].(object)
		appendStamps, _ := e["append"].(bool)
		return on.Stamp(visitor(t, e["visitor"]), appendStamps, headers)
	default:
		t.Fatalf("expression %v", e["op"])
	}
	return on
}

// visitor is the class Stamps of testdata/reference.py.
func visitor(t testing.TB, spec any) *canvas.Visitor {
	t.Helper()
	parts, ok := spec.(object)
	if !ok {
		return nil
	}
	of := func(name string) func(*canvas.Signature, celeryproto.Members) celeryproto.Members {
		return func(*canvas.Signature, celeryproto.Members) celeryproto.Members {
			stamps, _ := parts[name].(object)
			var members celeryproto.Members
			var names []string
			for _, key := range []string{"x", "y", "z"} {
				if v, ok := stamps[key]; ok {
					members.Set(key, raw(t, v))
					names = append(names, key)
				}
			}
			if named, _ := parts["named"].(bool); named && len(names) > 0 {
				members.Set("stamped_headers", raw(t, names))
			}
			return members
		}
	}
	return &canvas.Visitor{
		OnSignature: of("signature"), OnGroupStart: of("group"), OnChainStart: of("chain"), OnChordBody: of("body"),
		OnCallback: of("callback"), OnErrback: of("errback"),
	}
}

// generator makes random expressions.
type generator struct {
	*rand.Rand
	links, stamps, options bool
}

func (g generator) task() expr {
	e := expr{"op": "task", "task": []string{"t.a", "t.b", "t.c", "t.body"}[g.IntN(4)]}
	args := []any{}
	for range g.IntN(3) {
		args = append(args, []any{g.IntN(100), "s", []any{1, 2}, object{"k": nil}, 1.5}[g.IntN(5)])
	}
	e["args"] = args
	if g.IntN(5) == 0 {
		e["kwargs"] = object{"kw": g.IntN(9)}
	}
	if g.IntN(6) == 0 {
		e["immutable"] = true
	}
	return e
}

func (g generator) items(depth, from, upto int) []any {
	items := []any{}
	for range from + g.IntN(upto-from+1) {
		items = append(items, g.expr(depth-1))
	}
	return items
}

// expr makes a signature with compositions nested at most depth deep.
func (g generator) expr(depth int) expr {
	if depth <= 0 {
		return g.decorated(g.task(), depth)
	}
	var e expr
	switch g.IntN(12) {
	case 0, 1:
		return g.decorated(g.task(), depth)
	case 2, 3, 4:
		e = expr{"op": "chain", "items": g.items(depth, 1, 4)}
	case 5, 6, 7:
		e = expr{"op": "group", "items": g.items(depth, 1, 3)}
	case 8, 9:
		e = expr{"op": "chord", "header": expr{"op": "group", "items": g.items(depth, 1, 3)}, "body": g.expr(depth - 1)}
	case 10:
		e = expr{"op": "or", "a": g.expr(depth - 1), "b": g.expr(depth - 1)}
	default:
		e = g.rare(depth)
	}
	return g.decorated(e, depth)
}

func (g generator) rare(depth int) expr {
	switch g.IntN(6) {
	case 0:
		return expr{"op": "map", "kind": "map", "task": g.task(), "it": []any{1, 2}}
	case 1:
		return expr{"op": "map", "kind": "starmap", "task": g.task(), "it": []any{[]any{1, 2}, []any{3, 4}}}
	case 2:
		return expr{"op": "chunks", "task": g.task(), "it": []any{[]any{1}, []any{2}, []any{3}}, "n": 2}
	case 3:
		return expr{"op": "group", "items": []any{}}
	case 4:
		return expr{"op": "chain", "items": []any{}}
	default:
		return expr{"op": "clone", "on": g.expr(depth - 1), "args": []any{7}}
	}
}

// decorated adds links, options or stamps.
func (g generator) decorated(e expr, depth int) expr {
	if g.links && g.IntN(7) == 0 && e["op"] != "group" {
		e = expr{"op": "link", "on": e, "sig": g.expr(min(depth-1, 1))}
	}
	if g.links && g.IntN(7) == 0 {
		e = expr{"op": "link_error", "on": e, "sig": expr{"op": "task", "task": []string{"t.old", "t.new"}[g.IntN(2)], "args": []any{}}}
	}
	if g.options && g.IntN(7) == 0 {
		e = expr{"op": "set", "on": e, "options": g.someOptions()}
	}
	if g.options && g.IntN(12) == 0 {
		e = expr{"op": "immutable", "on": e, "value": g.IntN(3) > 0}
	}
	if g.stamps && g.IntN(7) == 0 {
		e = g.stamp(e)
	}
	if g.options && g.IntN(20) == 0 {
		e = expr{"op": "freeze", "on": e}
	}
	if g.options && e["op"] == "group" && g.IntN(10) == 0 {
		e = expr{"op": "skew", "on": e, "start": 1.0, "stop": 2.0, "step": 0.5}
	}
	return e
}

func (g generator) someOptions() object {
	all := object{
		"queue": "video", "priority": 3, "retries": 1, "time_limit": 30, "shadow": "s", "custom": object{"a": 1}, "headers": object{"h": 1},
		"serializer": "json", "ignore_result": true, "group_index": 4, "task_id": "preset", "root_id": "rooted", "reply_to": "other",
		"countdown": 60, "expires": 3600, "use_link": true, "parent_id": "above", "eta": "2040-01-01T00:00:00",
	}
	keys := slices.Sorted(maps.Keys(all))
	options := object{}
	for range 1 + g.IntN(2) {
		key := keys[g.IntN(len(keys))]
		options[key] = all[key]
	}
	return options
}

func (g generator) stamp(e expr) expr {
	values := []any{"v", 1, []any{"l1", "l2"}}
	some := func() object {
		stamps := object{}
		for range g.IntN(3) {
			switch name := []string{"x", "y", "z"}[g.IntN(3)]; name {
			case "z": // Python cannot merge an object with something else
				stamps[name] = object{"d": g.IntN(2), "e": "f"}
			default:
				stamps[name] = values[g.IntN(3)]
			}
		}
		return stamps
	}
	e = expr{"op": "stamp", "on": e, "append": g.IntN(2) == 0}
	if g.IntN(3) > 0 {
		e["visitor"] = object{
			"named": g.IntN(2) == 0, "signature": some(), "group": some(), "chain": some(), "body": some(), "callback": some(), "errback": some(),
		}
	}
	if e["visitor"] == nil || g.IntN(2) == 0 {
		e["headers"] = some()
	}
	return e
}
