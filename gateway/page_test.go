package gateway

import (
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// page is a page of df_websockets' script: it comes back when its socket is gone, and drops repeats by signal_id.
type page struct {
	t    testing.TB
	at   func() *rig // where it connects next
	key  string
	c    *client
	seen map[string]bool
	got  []string
	n    atomic.Int64 // of got, for those who send
	// giveUp tells them that the page reads no more.
	giveUp atomic.Bool
	// repeats are the messages that came more than once.
	repeats int
}

func newPage(t testing.TB, at func() *rig, key string) *page {
	return &page{t: t, at: at, key: key, seen: map[string]bool{}}
}

// connect comes back, as often as it takes.
func (p *page) connect() {
	p.t.Helper()
	eventually(p.t, "the page is connected", func() bool {
		r := p.at()
		c, _, err := r.dial(cookies(p.key, testSession))
		p.c = c
		return err == nil
	})
}

// read takes up to n new messages, fewer if none comes.
func (p *page) read(n int) {
	for end := len(p.got) + n; len(p.got) < end; {
		_ = p.c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, text, err := p.c.ReadMessage()
		if err != nil {
			return
		}
		p.take(text)
	}
}

func (p *page) take(text []byte) {
	var frame struct {
		ID string `json:"signal_id"`
	}
	if err := json.Unmarshal(text, &frame); err != nil {
		return // a heartbeat
	}
	if p.seen[frame.ID] {
		p.repeats++
		return
	}
	p.seen[frame.ID] = true
	p.got = append(p.got, frame.ID)
	p.n.Store(int64(len(p.got)))
}

// await waits until the page has got so many messages; false if it gave up.
func (p *page) await(n int) bool {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for p.n.Load() < int64(n) {
		if p.giveUp.Load() {
			return false
		}
		<-tick.C
	}
	return true
}

// cut loses the socket in one way or another.
func (p *page) cut(n int) {
	switch n % 3 {
	case 0:
		_ = p.c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseGoingAway, ""))
		_ = p.c.Close() // what arrives before the answer to a close is nothing to a page any more
	case 1:
		cuts["FIN"](p.c)
	default:
		cuts["RST"](p.c)
	}
}

// check asserts that the page has got the messages 0 to n-1, each once, in order.
func (p *page) check(n int) {
	p.t.Helper()
	if len(p.got) != n {
		p.t.Fatalf("%d of %d messages arrived", len(p.got), n)
	}
	for i, id := range p.got {
		if id != fmt.Sprint(i) {
			p.t.Fatalf("message %d is %s", i, id)
		}
	}
	p.t.Logf("%d messages, %d repeats", n, p.repeats)
}
