// Command bareloop is what a broadcast costs at least: it accepts websockets, and writes each line of its standard input to all of them
// as one text frame, one after the other, with nothing else to do. The gateway is measured against it.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bareloop:", err)
		os.Exit(1)
	}
}

// windows are the open connections.
type windows struct {
	mu   sync.Mutex
	open []net.Conn
}

func run() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var all windows
	server := &http.Server{Handler: http.HandlerFunc(all.accept), ReadHeaderTimeout: time.Minute}
	failedC := make(chan error, 1)
	go func() { failedC <- server.Serve(listener) }()
	fmt.Println(listener.Addr())
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if err := all.write(in.Text()); err != nil {
			return err
		}
	}
	closed := server.Close()
	if err := <-failedC; !errors.Is(err, http.ErrServerClosed) {
		closed = errors.Join(closed, err)
	}
	return errors.Join(in.Err(), closed)
}

func (a *windows) accept(w http.ResponseWriter, r *http.Request) {
	upgrader := websocket.Upgrader{ReadBufferSize: 512, WriteBufferSize: 512}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // the load generator has counted it
	}
	a.mu.Lock()
	a.open = append(a.open, conn.NetConn())
	a.mu.Unlock()
}

func (a *windows) write(text string) error {
	const textFrame, short, twoBytes = 0x81, 126, 1 << 16
	if len(text) < short || len(text) >= twoBytes {
		return fmt.Errorf("a frame of %d bytes; %d to %d can be written", len(text), short, twoBytes-1)
	}
	frame := append([]byte{textFrame, short, byte(len(text) >> 8), byte(len(text))}, text...)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, conn := range a.open {
		if _, err := conn.Write(frame); err != nil {
			return err
		}
	}
	return nil
}
