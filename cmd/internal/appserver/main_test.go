package appserver

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// modeEnv names a file whose content makes this program an application server: "serve", "fail", "hang", "error", "stubborn", "child".
const modeEnv = "APPSERVER_TEST_MODE_FILE"

func TestMain(m *testing.M) {
	if file := os.Getenv(modeEnv); file != "" {
		os.Exit(beServer(file, os.Args[1]))
	}
	goleak.VerifyTestMain(m)
}

// beServer is the application server of the tests.
func beServer(modeFile, socket string) int {
	mode, err := os.ReadFile(modeFile)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("starting as", string(mode))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	switch string(mode) {
	case "fail":
		fmt.Fprintln(os.Stderr, "ModuleNotFoundError: No module named 'site'")
		return 3
	case "hang":
		<-ctx.Done()
		return 0
	case "stubborn":
		ctx = context.Background()
		signal.Ignore(syscall.SIGTERM)
	case "child": // one that outlives its parent, in its group
		child := exec.Command("sleep", "1000")
		if err := child.Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println("child", child.Process.Pid)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	server := &http.Server{Handler: pages(string(mode))}
	stopped := context.AfterFunc(ctx, func() { _ = server.Shutdown(context.Background()) })
	defer stopped()
	_ = server.Serve(listener)
	return 0
}

func pages(mode string) http.Handler {
	var held [][]byte
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if mode == "error" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprintf(w, "%d", os.Getpid())
	})
	mux.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { os.Exit(4) })
	mux.HandleFunc("/hold", func(w http.ResponseWriter, _ *http.Request) {
		held = append(held, []byte(strings.Repeat(strconv.Itoa(os.Getpid()), 16<<20)))
		fmt.Fprint(w, len(held))
	})
	return mux
}
