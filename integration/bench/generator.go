package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/dfws/dfws/integration/bench/loadproto"
)

// generator is the load generator's process.
type generator struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	replies *bufio.Scanner
	cpu     float64   // seconds used up to the last reply but one
	since   time.Time // of that reply
	at      time.Time // of the last reply
	last    *loadproto.Reply
}

func startGenerator(binary string) (*generator, error) {
	g := &generator{cmd: exec.Command(binary)}
	g.cmd.Stderr = os.Stderr
	var err error
	if g.stdin, err = g.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := g.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	g.replies = bufio.NewScanner(stdout)
	return g, g.cmd.Start()
}

// ask sends one command and waits for its reply.
func (g *generator) ask(cmd loadproto.Command) (*loadproto.Reply, error) {
	line, err := json.Marshal(cmd)
	if err != nil {
		return nil, err
	}
	if g.last != nil {
		g.cpu, g.since = g.last.CPUSeconds, g.at
	}
	if _, err := g.stdin.Write(append(line, '\n')); err != nil {
		return nil, fmt.Errorf("load generator: %w", err)
	}
	if !g.replies.Scan() {
		return nil, fmt.Errorf("load generator: ended: %w", errors.Join(g.replies.Err(), g.cmd.Wait()))
	}
	g.last, g.at = &loadproto.Reply{}, time.Now()
	return g.last, json.Unmarshal(g.replies.Bytes(), g.last)
}

// share is the share of one processor core that the load generator used since the reply before the last one.
func (g *generator) share() float64 {
	if g.since.IsZero() {
		return 0
	}
	return (g.last.CPUSeconds - g.cpu) / g.at.Sub(g.since).Seconds()
}

func (g *generator) stop() error {
	return errors.Join(g.stdin.Close(), g.cmd.Wait())
}
