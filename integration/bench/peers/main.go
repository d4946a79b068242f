// Command peers is the other side of `make bench-worker`: asynq and gocelery, each with a client of its own that fills the queue
// and a worker that empties it. It is a module of its own, so that asynq is in no go.mod that our users see.
//
//	peers asynq|gocelery fill -redis HOST:PORT -n N [-results]
//	peers asynq|gocelery work -redis HOST:PORT -concurrency N [-results]
//
// fill ends when N tasks are in the queue. work prints "ready", waits for a line on its standard input, and works until that
// ends.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
)

// fillers is how many goroutines fill a queue.
const fillers = 8

// options of both commands.
type options struct {
	redis       string
	n           int
	concurrency int
	results     bool // asynq alone can do without
}

// peer is one of the programs that we are compared with.
type peer interface {
	// enqueue puts one task into the queue. It is called from several goroutines.
	enqueue(i int) error
	// start begins to work; stop waits for what runs.
	start() error
	stop()
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: peers asynq|gocelery fill|work [options]")
	}
	var o options
	flags := flag.NewFlagSet("peers", flag.ExitOnError)
	flags.StringVar(&o.redis, "redis", "127.0.0.1:6379", "host:port")
	flags.IntVar(&o.n, "n", 0, "tasks to put into the queue")
	flags.IntVar(&o.concurrency, "concurrency", 1, "tasks that run at once")
	flags.BoolVar(&o.results, "results", false, "store results")
	if err := flags.Parse(args[2:]); err != nil {
		return err
	}
	var p peer
	switch args[0] {
	case "asynq":
		p = newAsynq(o)
	case "gocelery":
		var err error
		if p, err = newGocelery(o); err != nil {
			return err
		}
	default:
		return fmt.Errorf("no peer %q", args[0])
	}
	switch args[1] {
	case "fill":
		return fill(p, o.n)
	case "work":
		return work(p)
	default:
		return fmt.Errorf("no command %q", args[1])
	}
}

func fill(p peer, n int) error {
	var wg sync.WaitGroup
	errs := make([]error, fillers)
	for f := range fillers {
		wg.Go(func() {
			for i := f; i < n && errs[f] == nil; i += fillers {
				errs[f] = p.enqueue(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func work(p peer) error {
	fmt.Println("ready")
	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadString('\n'); err != nil {
		return err
	}
	if err := p.start(); err != nil {
		return err
	}
	for {
		if _, err := in.ReadString('\n'); err != nil { // its end is ours
			p.stop()
			return nil
		}
	}
}
