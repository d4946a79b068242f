package layertest

import (
	"bufio"
	"context"
	_ "embed" // peer.py
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/channelslayer"
	"github.com/dfws/dfws/integration/needs"
)

//go:embed peer.py
var peerSource string

// PeerError is an exception of Python.
type PeerError struct {
	Type string // "ChannelFull", "TypeError"
	Text string
}

// Error implements error.
func (e *PeerError) Error() string { return "python: " + e.Type + ": " + e.Text }

// Peer is a Python process with real channels_redis layers.
type Peer struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	reader sync.WaitGroup

	mu      sync.Mutex
	lastID  int
	waiting map[int]chan peerAnswer // one answer each, sent by the reader
	gone    error                   // set when the process has ended
}

type peerAnswer struct {
	ID    int             `json:"id"`
	OK    json.RawMessage `json:"ok"`
	Error string          `json:"error"`
	Text  string          `json:"text"`
	gone  error
}

// StartPeer starts the process and ends it by Cleanup. Without an interpreter in DFWS_PYTHON the test is skipped, or fails when
// DFWS_REQUIRE lists python.
func StartPeer(t testing.TB) *Peer {
	t.Helper()
	python := needs.Python(t, "channels_redis")
	p := &Peer{cmd: exec.Command(python, "-c", peerSource), waiting: map[int]chan peerAnswer{}}
	p.cmd.Stderr = &logWriter{t: t}
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", python, err)
	}
	p.stdin = stdin
	p.reader.Go(func() { p.read(stdout) })
	t.Cleanup(func() { p.stop(t) })
	var versions map[string]string
	if err := p.call(t.Context(), &versions, map[string]any{"op": "versions"}); err != nil {
		t.Fatalf("python peer: %v", err)
	}
	t.Logf("python peer: %v", versions)
	return p
}

// logWriter shows Python's complaints in the test's log.
type logWriter struct{ t testing.TB }

func (w *logWriter) Write(b []byte) (int, error) {
	w.t.Logf("python: %s", b)
	return len(b), nil
}

// stop closes stdin, which ends the process, and insists after a while.
func (p *Peer) stop(t testing.TB) {
	_ = p.stdin.Close() // it may have ended already
	timer := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	p.reader.Wait()
	if err := p.cmd.Wait(); err != nil {
		t.Logf("python peer: %v", err)
	}
}

// Kill ends the process at once, as a crash does.
func (p *Peer) Kill() error { return p.cmd.Process.Kill() }

func (p *Peer) read(stdout io.Reader) {
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			p.end(fmt.Errorf("python peer ended: %w", err))
			return
		}
		var answer peerAnswer
		if err := json.Unmarshal(line, &answer); err != nil {
			p.end(fmt.Errorf("python peer wrote no JSON: %w", err))
			return
		}
		p.mu.Lock()
		if wait := p.waiting[answer.ID]; wait != nil {
			wait <- answer
			delete(p.waiting, answer.ID)
		}
		p.mu.Unlock()
	}
}

func (p *Peer) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = err
	for id, wait := range p.waiting {
		wait <- peerAnswer{gone: err}
		delete(p.waiting, id)
	}
}

// start sends a request; the answer comes on the chan.
func (p *Peer) start(request map[string]any) (int, chan peerAnswer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone != nil {
		return 0, nil, p.gone
	}
	p.lastID++
	request["id"] = p.lastID
	line, err := json.Marshal(request)
	if err != nil {
		return 0, nil, err
	}
	wait := make(chan peerAnswer, 1)
	p.waiting[p.lastID] = wait
	_, err = p.stdin.Write(append(line, '\n'))
	return p.lastID, wait, err
}

func (p *Peer) call(ctx context.Context, result any, request map[string]any) error {
	id, wait, err := p.start(request)
	if err != nil {
		return err
	}
	var answer peerAnswer
	select {
	case answer = <-wait:
	case <-ctx.Done():
		if request["op"] != "receive" {
			return context.Cause(ctx)
		}
		// A receive is cancelled as asyncio does it, and what it had already got is not lost.
		if _, _, err := p.start(map[string]any{"op": "cancel", "layer": request["layer"], "target": id}); err != nil {
			return err
		}
		answer = <-wait
	}
	switch {
	case answer.gone != nil:
		return answer.gone
	case answer.Error == "CancelledError" && ctx.Err() != nil:
		return context.Cause(ctx)
	case answer.Error != "":
		return peerError(answer)
	case result == nil:
		return nil
	}
	d := json.NewDecoder(strings.NewReader(string(answer.OK)))
	d.UseNumber()
	return d.Decode(result)
}

func peerError(answer peerAnswer) error {
	err := &PeerError{Type: answer.Error, Text: answer.Text}
	switch {
	case err.Type == "ChannelFull":
		return errors.Join(channelslayer.ErrChannelFull, err)
	case err.Type == "TypeError" && strings.Contains(err.Text, "name must be a valid unicode string"):
		return errors.Join(channelslayer.ErrInvalidName, err)
	case err.Type == "AssertionError" && err.Text == "Wrong client prefix":
		return errors.Join(channelslayer.ErrWrongClientPrefix, err)
	case err.Type == "RuntimeError" && strings.Contains(err.Text, "channels that exist in-process"):
		return errors.Join(channelslayer.ErrUnknownChannel, err)
	case err.Type == "KeyError", err.Type == "CancelledError": // the layer was closed
		return errors.Join(channelslayer.ErrClosed, err)
	}
	return err
}

// toWire replaces byte strings, which JSON cannot carry.
func toWire(v any) any {
	switch v := v.(type) {
	case []byte:
		return map[string]any{"__bytes__": base64.StdEncoding.EncodeToString(v)}
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = toWire(e)
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			m[k] = toWire(e)
		}
		return m
	case float64:
		return pythonFloat(v)
	}
	return v
}

// fromWire undoes it and gives numbers the types that a channelslayer.Message has.
func fromWire(v any) any {
	switch v := v.(type) {
	case json.Number:
		return number(v)
	case []any:
		for i, e := range v {
			v[i] = fromWire(e)
		}
	case map[string]any:
		if text, ok := v["__bytes__"].(string); ok && len(v) == 1 {
			b, err := base64.StdEncoding.DecodeString(text)
			if err == nil {
				return b
			}
		}
		for k, e := range v {
			v[k] = fromWire(e)
		}
	}
	return v
}
