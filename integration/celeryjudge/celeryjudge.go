// Package celeryjudge tells what becomes of a message in a Celery worker: by rules that Check has of its own, and by Celery's code,
// which Judge runs. Tests of what reads and of what writes messages use both.
package celeryjudge

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/integration/needs"
)

//go:embed judge.py
var source []byte

// Fates of a message.
const (
	// Die: the worker exits, or reconnects and gets the message again for ever.
	Die = "die"
	// Drop: the worker logs it, and nobody who waits for a result learns of it.
	Drop = "drop"
	// Run: the worker takes the task.
	Run = "run"
)

// Verdict is what a Celery worker makes of a message.
type Verdict struct {
	Fate string // one of the fates
	Why  string
	// State of the task after Run; "" when none was stored.
	State string
}

// Judge lets Celery's code decide on elements of a queue. It has the task py.echo, which counts its arguments. Without DFWS_PYTHON the
// test is skipped, or fails where DFWS_REQUIRE lists python.
func Judge(t testing.TB, elements ...string) []Verdict {
	t.Helper()
	python := needs.Python(t, "celery")
	script := filepath.Join(t.TempDir(), "judge.py")
	if err := os.WriteFile(script, source, 0o600); err != nil {
		t.Fatal(err)
	}
	var in, out, faults bytes.Buffer
	for _, element := range elements {
		in.WriteString(base64.StdEncoding.EncodeToString([]byte(element)) + "\n")
	}
	cmd := exec.CommandContext(t.Context(), python, script)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &out, &faults
	if err := cmd.Run(); err != nil {
		t.Fatalf("python: %v\n%s", err, faults.Bytes())
	}
	verdicts := make([]Verdict, 0, len(elements))
	lines := bufio.NewScanner(&out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var v Verdict
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatalf("python: %v in %s", err, lines.Bytes())
		}
		verdicts = append(verdicts, v)
	}
	if len(verdicts) != len(elements) {
		t.Fatalf("python judged %d of %d messages\n%s", len(verdicts), len(elements), faults.Bytes())
	}
	return verdicts
}

// Check tells what in an element of a queue could kill, stall or poison a Celery worker, or make it drop the task. It knows messages of
// protocol 2 in JSON, not compressed.
func Check(queue string, element []byte) error {
	if !utf8.Valid(element) {
		return errors.New("not UTF-8")
	}
	// Of 1000 levels of the interpreter a worker has about 900, and pickling takes two for each.
	if err := celeryproto.CheckJSON(element, celeryproto.JSONLimits{MaxDepth: maxDepth}); err != nil {
		return err
	}
	if _, err := celeryproto.DecodeValue(element); err != nil { // typed values among it
		return err
	}
	e := reader{object: element}
	headers, properties := e.inner("headers"), e.inner("properties")
	info := properties.inner("delivery_info")
	e.want("content-type", `"application/json"`)
	e.want("content-encoding", `"utf-8"`)
	properties.want("body_encoding", `"base64"`)
	info.want("exchange", `""`)
	info.want("routing_key", string(celeryproto.AppendString(nil, queue)))
	properties.text("delivery_tag")
	headers.text("task")
	headers.text("id")
	for _, key := range []string{"eta", "expires"} {
		headers.time(key)
	}
	headers.limits()
	if raw := headers.raw("retries"); raw.Kind() != celeryproto.KindNumber {
		headers.fail("retries", "no number")
	}
	body, err := base64.StdEncoding.DecodeString(e.text("body"))
	if err != nil {
		return fmt.Errorf("body: %w", err)
	}
	return errors.Join(e.err, headers.err, properties.err, info.err, checkBody(body))
}

const maxDepth = 402 // 400 of an argument, the list of arguments and the body

func checkBody(body []byte) error {
	if err := celeryproto.CheckJSON(body, celeryproto.JSONLimits{MaxDepth: maxDepth}); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	if _, err := celeryproto.DecodeValue(body); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	parts, err := celeryproto.Raw(body).Array()
	if err != nil || len(parts) != 3 {
		return fmt.Errorf("body: %d parts, %w", len(parts), err)
	}
	for i, want := range []celeryproto.Kind{celeryproto.KindArray, celeryproto.KindObject, celeryproto.KindObject} {
		if got := parts[i].Kind(); got != want {
			return fmt.Errorf("body: part %d is of the kind %s", i, got)
		}
	}
	return nil
}

// reader looks at the members of an object and keeps the first fault.
type reader struct {
	object celeryproto.Raw
	err    error
}

func (r *reader) fail(key, fact string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: %s", key, fact)
	}
}

func (r *reader) raw(key string) celeryproto.Raw {
	members, err := r.object.Object()
	if err != nil {
		r.fail(key, err.Error())
		return nil
	}
	value, there := members.Get(key)
	if !there {
		r.fail(key, "missing")
	}
	return value
}

func (r *reader) inner(key string) *reader {
	child := &reader{object: r.raw(key)}
	if child.object.Kind() != celeryproto.KindObject {
		r.fail(key, "no object")
		child.object = celeryproto.Raw("{}")
	}
	return child
}

func (r *reader) want(key, value string) {
	if got := r.raw(key); string(got) != value {
		r.fail(key, fmt.Sprintf("%s, want %s", got, value))
	}
}

// text is a text that is not empty.
func (r *reader) text(key string) string {
	text, err := r.raw(key).Text()
	if err != nil || text == "" || !utf8.ValidString(text) {
		r.fail(key, fmt.Sprintf("%q, %v", text, err))
	}
	return text
}

// time is null, or a datetime of ISO 8601 with an offset.
func (r *reader) time(key string) {
	raw := r.raw(key)
	if raw.IsNull() {
		return
	}
	text, err := raw.Text()
	if err == nil {
		_, err = celeryproto.ParseISOTime(text)
	}
	if err != nil {
		r.fail(key, err.Error())
	}
}

// limits are two numbers or nulls.
func (r *reader) limits() {
	limits, err := r.raw("timelimit").Array()
	if err != nil || len(limits) != 2 {
		r.fail("timelimit", fmt.Sprintf("%d, %v", len(limits), err))
		return
	}
	for _, limit := range limits {
		if kind := limit.Kind(); kind != celeryproto.KindNull && kind != celeryproto.KindNumber {
			r.fail("timelimit", "of the kind "+kind.String())
		}
	}
}
