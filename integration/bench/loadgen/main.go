// Command loadgen is the browsers' side of the benchmarks: a process of its own that opens many websockets, counts every
// frame that arrives and reports the processor time that it used itself, so that a run in which it was the bottleneck shows.
//
// It takes one JSON command per line on standard input and answers each with one JSON line (see package loadproto).
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/dfws/dfws/integration/bench/loadproto"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
}

func run() error {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	out := json.NewEncoder(os.Stdout)
	fleet := newFleet()
	defer fleet.close()
	for in.Scan() {
		var cmd loadproto.Command
		if err := json.Unmarshal(in.Bytes(), &cmd); err != nil {
			return err
		}
		reply, err := execute(fleet, &cmd)
		if err != nil {
			return fmt.Errorf("%s: %w", cmd.Do, err)
		}
		if reply.CPUSeconds, err = loadproto.CPUSeconds(os.Getpid()); err != nil {
			return err
		}
		if err := out.Encode(reply); err != nil {
			return err
		}
	}
	return in.Err()
}

func execute(fleet *fleet, cmd *loadproto.Command) (*loadproto.Reply, error) {
	timeout := time.Duration(cmd.TimeoutSeconds * float64(time.Second))
	switch cmd.Do {
	case "connect":
		return fleet.connect(cmd, timeout), nil
	case "await":
		return fleet.await(cmd.Total, timeout), nil
	case "send":
		return fleet.send(cmd.Text, cmd.Total)
	case "roundtrip":
		return fleet.roundTrip(cmd, timeout), nil
	case "close":
		fleet.close()
		return &loadproto.Reply{}, nil
	}
	return nil, fmt.Errorf("unknown command")
}
