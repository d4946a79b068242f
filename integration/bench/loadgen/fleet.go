package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/dfws/dfws/integration/bench/loadproto"
)

// sources is how many 127.0.0.x addresses the connections come from.
const sources = 8

// fleet is the set of open windows.
type fleet struct {
	readers sync.WaitGroup
	closing atomic.Bool
	lost    atomic.Int64 // windows that ended although nobody closed them

	mu       sync.Mutex
	windows  []*window
	received int
	delays   []time.Duration // of the frames that carry their time of sending
	arrivedC chan struct{}   // capacity 1; sent by readers after each frame, received by await
}

// window is one that is open. Reading and writing have a goroutine each.
type window struct {
	conn *websocket.Conn
	gotC chan struct{} // capacity 1; sent by the reader after each frame, received by roundTrip
}

func newFleet() *fleet { return &fleet{arrivedC: make(chan struct{}, 1)} }

// connect opens one window per cookie text, cmd.Concurrency at a time, and returns how long that took.
func (f *fleet) connect(cmd *loadproto.Command, timeout time.Duration) *loadproto.Reply {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	next := make(chan int)
	var dialers sync.WaitGroup
	var failed atomic.Int64
	var firstErr atomic.Pointer[string]
	start := time.Now()
	for range cmd.Concurrency {
		dialers.Go(func() {
			for i := range next {
				began := time.Now()
				conn, err := dial(ctx, cmd, i)
				if err != nil {
					failed.Add(1)
					text := err.Error()
					firstErr.CompareAndSwap(nil, &text)
					continue
				}
				f.add(conn, time.Since(began))
			}
		})
	}
	for i := range cmd.Cookies {
		next <- i
	}
	close(next)
	dialers.Wait()
	reply := f.summary(time.Since(start))
	reply.Failed = int(failed.Load())
	if text := firstErr.Load(); text != nil {
		reply.Error = *text
	}
	return reply
}

func dial(ctx context.Context, cmd *loadproto.Command, i int) (*websocket.Conn, error) {
	local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%sources))}
	dialer := websocket.Dialer{
		NetDialContext:  (&net.Dialer{LocalAddr: local}).DialContext,
		ReadBufferSize:  1024,
		WriteBufferSize: 512,
	}
	conn, response, err := dialer.DialContext(ctx, cmd.URL, http.Header{"Cookie": {cmd.Cookies[i]}})
	if response != nil && response.Body != nil {
		_ = response.Body.Close()
	}
	return conn, err
}

func (f *fleet) add(conn *websocket.Conn, took time.Duration) {
	w := &window{conn, make(chan struct{}, 1)}
	f.mu.Lock()
	f.windows = append(f.windows, w)
	f.delays = append(f.delays, took)
	f.mu.Unlock()
	f.readers.Go(func() { f.read(w) })
}

func (f *fleet) read(w *window) {
	for {
		_, frame, err := w.conn.ReadMessage()
		if err != nil {
			if !f.closing.Load() {
				f.lost.Add(1)
			}
			return
		}
		now := time.Now()
		f.mu.Lock()
		f.received++
		if sent, ok := sentAt(frame); ok {
			f.delays = append(f.delays, now.Sub(sent))
		}
		f.mu.Unlock()
		for _, c := range []chan struct{}{f.arrivedC, w.gotC} {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
}

// sentAt reads the time of sending out of a frame of the benchmark: ..."sent_ns": 1764000000000000000...
func sentAt(frame []byte) (time.Time, bool) {
	_, rest, ok := bytes.Cut(frame, []byte(`"sent_ns": `))
	if !ok {
		return time.Time{}, false
	}
	end := 0
	for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	ns, err := strconv.ParseInt(string(rest[:end]), 10, 64)
	return time.Unix(0, ns), err == nil
}

// await waits until total frames have arrived since the last command that counted, and forgets them.
func (f *fleet) await(total int, timeout time.Duration) *loadproto.Reply {
	start := time.Now()
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for {
		f.mu.Lock()
		enough := f.received >= total
		f.mu.Unlock()
		if enough {
			break
		}
		select {
		case <-f.arrivedC:
			continue
		case <-deadline.C:
		}
		break
	}
	return f.summary(time.Since(start))
}

// send writes total frames of the given text, spread evenly over the windows, all windows at once.
func (f *fleet) send(text string, total int) (*loadproto.Reply, error) {
	f.mu.Lock()
	windows := f.windows
	f.mu.Unlock()
	var senders sync.WaitGroup
	var failed atomic.Int64
	start := time.Now()
	for i, w := range windows {
		share := total / len(windows)
		if i < total%len(windows) {
			share++
		}
		senders.Go(func() {
			for range share {
				if err := w.conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
					failed.Add(1)
					return
				}
			}
		})
	}
	senders.Wait()
	reply := f.summary(time.Since(start))
	reply.Failed = int(failed.Load())
	return reply, nil
}

// roundTrip lets some windows send a frame, wait for one, and send the next, until total frames were answered in all.
func (f *fleet) roundTrip(cmd *loadproto.Command, timeout time.Duration) *loadproto.Reply {
	f.mu.Lock()
	windows := f.windows[:min(cmd.Concurrency, len(f.windows))]
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	delays := make([][]time.Duration, len(windows))
	var next, failed atomic.Int64
	var senders sync.WaitGroup
	start := time.Now()
	for i, w := range windows {
		senders.Go(func() {
			select {
			case <-w.gotC: // of a frame before
			default:
			}
			for next.Add(1) <= int64(cmd.Total) {
				began := time.Now()
				if err := w.conn.WriteMessage(websocket.TextMessage, []byte(cmd.Text)); err != nil {
					failed.Add(1)
					return
				}
				select {
				case <-w.gotC:
					delays[i] = append(delays[i], time.Since(began))
				case <-ctx.Done():
					failed.Add(1)
					return
				}
			}
		})
	}
	senders.Wait()
	f.mu.Lock()
	f.delays = slices.Concat(delays...)
	f.mu.Unlock()
	reply := f.summary(time.Since(start))
	reply.Failed = int(failed.Load())
	return reply
}

func (f *fleet) summary(took time.Duration) *loadproto.Reply {
	f.mu.Lock()
	defer f.mu.Unlock()
	reply := &loadproto.Reply{
		Seconds: took.Seconds(), Open: len(f.windows), Lost: int(f.lost.Load()), Received: f.received,
		P50Millis: loadproto.Percentile(f.delays, 50), P99Millis: loadproto.Percentile(f.delays, 99),
	}
	f.received, f.delays = 0, nil
	return reply
}

func (f *fleet) close() {
	f.closing.Store(true)
	f.mu.Lock()
	windows := f.windows
	f.windows = nil
	f.mu.Unlock()
	for _, w := range windows {
		_ = w.conn.Close() // the window goes away without a goodbye, as browsers' do
	}
	f.readers.Wait()
	f.closing.Store(false)
}
