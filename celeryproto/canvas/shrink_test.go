package canvas_test

// smaller are expressions that are contained in e, or e with less in it.
func smaller(e expr) []expr {
	var all []expr
	with := func(key string, v any) {
		c := expr{}
		for k, old := range e {
			c[k] = old
		}
		c[key] = v
		all = append(all, c)
	}
	for _, key := range []string{"on", "a", "b", "header", "body", "sig", "task"} {
		sub, ok := e[key].(expr)
		if !ok {
			continue
		}
		if _, isExpr := sub["op"]; !isExpr {
			continue
		}
		all = append(all, sub)
		for _, s := range smaller(sub) {
			with(key, s)
		}
	}
	items, _ := e["items"].([]any)
	for i, item := range items {
		all = append(all, item.(expr))
		rest := append(append([]any{}, items[:i]...), items[i+1:]...)
		with("items", rest)
		for _, s := range smaller(item.(expr)) {
			changed := append([]any{}, items...)
			changed[i] = s
			with("items", changed)
		}
	}
	if args, ok := e["args"].([]any); ok && len(args) > 0 {
		with("args", []any{})
	}
	if kwargs, ok := e["kwargs"].(object); ok && len(kwargs) > 0 {
		with("kwargs", object{})
	}
	if e["immutable"] == true {
		with("immutable", false)
	}
	return all
}

// shrunk is the smallest expression that still fails.
func shrunk(e expr, fails func(expr) bool) expr {
	for again := true; again; {
		again = false
		for _, s := range smaller(e) {
			if fails(s) {
				e, again = s, true
				break
			}
		}
	}
	return e
}
