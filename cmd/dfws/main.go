// Command dfws is the Go side of a df_websockets site.
//
//	dfws gateway --settings FILE --listen ADDR --upstream URL
//
// takes daphne's place at the websockets and passes every other request on to Django.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

// version is set by the linker (see the Makefile).
var version = "unknown"

// Exit codes: 0 after a clean end, 1 when something failed, 2 when the command line or the settings are wrong.
const (
	exitFailed = 1
	exitUsage  = 2
)

const usage = `dfws is the Go side of a Django site that uses df_websockets.

  dfws gateway   the websockets, and everything else passed on to Django (dfws gateway -h)
  dfws version   version, Go version, platform
`

// usageError is a mistake of the person who runs the command.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// environment is what a command may touch of the outside world.
type environment struct {
	stdout, stderr io.Writer
	lookupEnv      func(string) (string, bool)
	reloadC        <-chan os.Signal // SIGHUP; nil never comes
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)       // a second signal ends the process at once
	reloadC := make(chan os.Signal, 1) // os/signal sends; a second one before the first is served says nothing new
	signal.Notify(reloadC, syscall.SIGHUP)
	env := environment{stdout: os.Stdout, stderr: os.Stderr, lookupEnv: os.LookupEnv, reloadC: reloadC}
	err := run(ctx, os.Args[1:], env)
	stop()
	var wrong usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.As(err, &wrong):
		fmt.Fprintln(os.Stderr, "dfws:", err)
		os.Exit(exitUsage)
	default:
		fmt.Fprintln(os.Stderr, "dfws:", err)
		os.Exit(exitFailed)
	}
}

func run(ctx context.Context, args []string, env environment) error {
	command := "help"
	if len(args) > 0 {
		command = args[0]
	}
	switch command {
	case "gateway":
		return runGateway(ctx, args[1:], env)
	case "version", "--version":
		_, err := fmt.Fprintf(env.stdout, "dfws %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return err
	case "help", "-h", "--help":
		_, err := fmt.Fprint(env.stdout, usage)
		return err
	}
	return usageError{fmt.Errorf("unknown command %q\n\n%s", command, usage)}
}
