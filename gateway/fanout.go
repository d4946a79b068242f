package gateway

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// messageType is the type of the layer message that df_websockets sends (df_websockets 1.2.6, tasks.py, _call_ws_signal). Channels
// calls the consumer's method of the type's name, with "." for "_".
const messageType = "ws_message"

// fanoutChunk is how many windows one goroutine serves at a time; a group of at most this many is served by the caller.
const fanoutChunk = 128

// fanoutLists hold the windows of a group while a message goes to them.
var fanoutLists = sync.Pool{New: func() any { return new([]*window) }}

// deliver sends one message of the layer to every window of the groups. It returns when every window has the frame in its
// outbox, so that the next message cannot overtake it; it waits for no socket. A window in several of the groups gets the frame
// once per group, as in Python: the script drops repeats by signal_id.
func (g *Gateway) deliver(groups []string, m message) {
	start := time.Now()
	if kind := m.Type(); kind != messageType && strings.ReplaceAll(kind, ".", "_") != messageType {
		g.dropMessage(MessageType)
		return
	}
	text, ok := m.Text()
	if !ok || !utf8.ValidString(text) { // a browser closes the socket for bytes that are not UTF-8
		g.dropMessage(MessageText)
		return
	}
	list := fanoutLists.Get().(*[]*window)
	windows := (*list)[:0]
	for _, name := range groups {
		windows = g.hub.members(windows, name)
	}
	if len(windows) > 0 {
		pushAll(windows, newMessage(text))
	}
	g.observer.fanOut(len(windows), time.Since(start))
	clear(windows) // the pool keeps no window alive
	*list = windows[:0]
	fanoutLists.Put(list)
}

// pushAll queues the frame for each window, with as many goroutines as there are processors.
func pushAll(windows []*window, frame *frame) {
	if len(windows) <= fanoutChunk {
		for _, w := range windows {
			w.push(frame)
		}
		return
	}
	var next atomic.Int64
	work := func() {
		for {
			end := int(next.Add(fanoutChunk))
			begin := end - fanoutChunk
			if begin >= len(windows) {
				return
			}
			for _, w := range windows[begin:min(end, len(windows))] {
				w.push(frame)
			}
		}
	}
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
}

func (g *Gateway) dropMessage(reason string) {
	g.observer.messageDropped(reason)
	g.samples.layer.warn(g.log, "channel layer: message dropped", "reason", reason)
}
