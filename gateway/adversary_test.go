package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/dfws/dfws/compat/dispatch"
)

const (
	// attackFloor is what a beat may take under attack however quick it was before: attackers, victim and gateway share the processors
	// of a machine that may be busy with other things. A gateway that holds up windows for others does it for longer.
	attackFloor = 2 * time.Second
	// attackHeap is what the heap may grow by while an attack is at its height, the attackers' own part included.
	attackHeap = 48 << 20
	beats      = 100
	// floodPatience is how long an attacker tries to write.
	floodPatience = time.Second
)

// attack is something that clients may do to the gateway, and what becomes of it.
type attack struct {
	change  func(*Config)
	peers   int
	do      func(*rawPeer) // must return when the gateway has ended the connection, or when it is over
	code    int            // each attacker is closed with it; 0: it stays open
	outcome string         // of a frame, counted at least once per peer
}

// flood writes the same bytes again and again.
func flood(unit []byte, times int) func(*rawPeer) {
	const perWrite = 100
	return func(p *rawPeer) {
		block := bytes.Repeat(unit, perWrite)
		for range times / perWrite {
			_ = p.SetWriteDeadline(time.Now().Add(floodPatience))
			if _, err := p.Write(block); err != nil {
				return // the gateway does not read on, or has closed
			}
		}
	}
}

func sendOnce(b []byte) func(*rawPeer) { return func(p *rawPeer) { p.write(b) } }

func attacks() map[string]attack {
	part := rawFrame(opText, strings.Repeat(" ", 900<<10))
	hurried := func(c *Config) {
		c.LargeFrameBytes, c.FrameTimeout, c.CloseTimeout = 4<<20, 300*time.Millisecond, 500*time.Millisecond
	}
	quickPings := func(c *Config) {
		c.PingInterval, c.PongTimeout, c.CloseTimeout = 50*time.Millisecond, 200*time.Millisecond, 100*time.Millisecond
	}
	quickEnd := func(c *Config) { c.CloseTimeout = 500 * time.Millisecond }
	control := strings.Repeat("p", maxLen7)
	unknown := message1(opText, `{"signal":"nobody","opts":{}}`)
	deep := message1(opText, `{"signal":"site.signal","opts":`+strings.Repeat("[", 60_000))
	tiny := fragmented(opText, cutInto(strings.Repeat("x", 100_000), 1)...)
	big := message1(opBinary, strings.Repeat("x", 1<<20+1))
	return map[string]attack{
		"pings":                       {peers: 5, do: flood(message1(opPing, control), 100_000), code: int(ClosePolicy), outcome: FrameControlFlood},
		"pongs":                       {peers: 5, do: flood(message1(opPong, control), 50_000), code: int(ClosePolicy), outcome: FrameControlFlood},
		"junk":                        {peers: 5, do: flood(message1(opText, "junk"), 5000), outcome: "not_json"},
		"signals":                     {peers: 5, do: flood(message1(opText, goodFrame), 2000), outcome: FrameSignal},
		"signals that nobody handles": {peers: 5, do: flood(unknown, 2000), outcome: "unknown_signal"},
		"fragments of one byte":       {peers: 5, do: sendOnce(tiny), outcome: "not_json"},
		"oversize":                    {peers: 20, change: quickEnd, do: sendOnce(big), code: int(CloseTooBig), outcome: FrameTooBig},
		"promises":                    {peers: 150, change: quickPings, do: sendOnce(rawHeader(bitFin|opText, 1<<20)), code: int(CloseNoPong)},
		"half-open":                   {peers: 100, change: quickPings, do: func(*rawPeer) {}, code: int(CloseNoPong)},
		"parts of large frames":       {peers: 60, change: hurried, do: sendOnce(part), code: -1},
		"nesting":                     {peers: 5, do: flood(deep, 100), outcome: "too_deep"},
	}
}

// TestAttacks: while some clients misbehave, memory stays bounded, another window's heartbeats are answered as before, and the attackers
// end as the package comment says. Not parallel: it measures.
func TestAttacks(t *testing.T) {
	for name, a := range attacks() {
		t.Run(name, func(t *testing.T) { a.run(t) })
	}
}

func (a *attack) run(t *testing.T) {
	r := newRig(t, a.change)
	victim := r.connect("victim")
	victim.SetPingHandler(nil) // the library's own, which answers
	before := beatP99(victim)
	heap := heapNow()
	peers := make([]*rawPeer, a.peers)
	for i := range peers {
		peers[i] = r.connectRaw("attacker" + string(rune('a'+i%26)) + string(rune('a'+i/26)))
	}
	var wg sync.WaitGroup
	for _, p := range peers {
		wg.Go(func() { a.do(p) })
	}
	during := beatP99(victim)
	grown := heapNow() - heap
	wg.Wait()
	t.Logf("p99 of heartbeats: %v before, %v under attack; heap grew by %d KiB", before, during, grown>>10)
	if limit := 2*before + attackFloor; during > limit {
		t.Errorf("beats took up to %v under attack, %v before it", during, before)
	}
	if grown > attackHeap {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	a.checkEnds(t, r, victim)
	victim.beat()
	for _, p := range peers {
		_ = p.Close()
	}
	r.eventually("the attackers are gone", func() bool {
		victim.beat()
		return r.Stats().Windows == 1
	})
	if len(r.largeFrameC) != 0 {
		t.Error("room for large frames was not given back")
	}
}

func (a *attack) checkEnds(t *testing.T, r *rig, victim *client) {
	t.Helper()
	eventually := func(what string, ok func() bool) {
		t.Helper()
		r.eventually(what, func() bool {
			victim.beat() // reads, and answers pings
			return ok()
		})
	}
	switch {
	case a.code > 0:
		counter := "closed " + CloseCode(a.code).String()
		eventually("all are closed as documented", func() bool { return r.counts.get(counter) == a.peers })
	case a.code == -1: // whoever had room took too long, and whoever waited for it waited too long
		eventually("all are closed as documented", func() bool {
			return r.counts.get("closed 1008") > 0 && r.counts.get("closed 1008")+r.counts.get("closed 1013") == a.peers
		})
	default:
		if n := r.Stats().Windows; n != a.peers+1 {
			t.Errorf("%d windows are open, want all %d", n, a.peers+1)
		}
	}
	if a.outcome != "" {
		eventually("counted", func() bool { return r.counts.get("frame "+a.outcome) >= a.peers })
	}
}

// beatP99 is how long the slowest of a hundred heartbeats but one took.
func beatP99(c *client) time.Duration {
	c.t.Helper()
	took := make([]time.Duration, beats)
	for i := range took {
		start := time.Now()
		c.beat()
		took[i] = time.Since(start)
	}
	slices.Sort(took)
	return took[len(took)*99/100-1]
}

func heapNow() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestSignalsWaitWithinBounds: a broker that takes nothing, and clients that send on: each has its share of the queue and no more.
func TestSignalsWaitWithinBounds(t *testing.T) {
	t.Parallel()
	const share, peers = 16, 10
	r := newRig(t, func(c *Config) { c.SignalsInFlight = share })
	r.publisher.change(func() { r.publisher.hold = true })
	var wg sync.WaitGroup
	for i := range peers {
		p := r.connectRaw("attacker" + string(rune('a'+i)))
		wg.Go(func() { p.write(bytes.Repeat(message1(opText, goodFrame), 500)) })
	}
	r.eventually("every share is full", func() bool { return len(r.publisher.queued()) == share*peers })
	r.connect("other").beat()
	wg.Wait()
	if n := len(r.publisher.queued()); n != share*peers {
		t.Errorf("%d signals wait, want %d", n, share*peers)
	}
	r.publisher.change(func() { // let the readers go
		r.publisher.hold = false
		for _, done := range r.publisher.held {
			done(nil)
		}
	})
	r.eventually("all are handled", func() bool { return len(r.publisher.queued()) == 500*peers })
}

// TestHostileHandshakes: each ends with its status, and the identity of a replayed ticket is worth nothing.
func TestHostileHandshakes(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.tickets.set("key", windowTicket(t, "key"))
	with := func(name, value string) http.Header {
		h := cookies("key", testSession)
		h.Set(name, value)
		return h
	}
	for name, tc := range map[string]struct {
		header  http.Header
		status  int
		counter string
	}{
		"foreign page":             {with("Origin", "https://evil.example"), http.StatusForbidden, "refused " + RefusedOrigin},
		"sandboxed page":           {with("Origin", "null"), http.StatusForbidden, "refused " + RefusedOrigin},
		"replay, other session":    {cookies("key", "stolen"), http.StatusSwitchingProtocols, "identified " + IdentifiedOther},
		"replay, no session":       {http.Header{"Cookie": {"dfwskey=key"}}, http.StatusSwitchingProtocols, "identified " + IdentifiedOther},
		"guessed key":              {cookies("guess", testSession), http.StatusSwitchingProtocols, "identified " + IdentifiedNoTicket},
		"key of 100 KiB is no key": {cookies(strings.Repeat("k", 100<<10), testSession), http.StatusSwitchingProtocols, "identified " + IdentifiedNoKey},
	} {
		before := r.counts.get(tc.counter)
		c, resp, err := r.dial(tc.header)
		if resp == nil || resp.StatusCode != tc.status {
			t.Errorf("%s: %v, %v; want %d", name, resp, err, tc.status)
			continue
		}
		if r.counts.get(tc.counter) <= before {
			t.Errorf("%s: not counted as %s", name, tc.counter)
		}
		if c == nil {
			continue
		}
		r.receiver.send(groupOf("-auth.user.1"), "private")
		c.beat() // and not "private" before it
	}
	r.revoke(dispatch.Revocation{Session: dispatch.SessionHash(testSession)})
	if _, _, err := r.dial(cookies("key", testSession)); err != nil || r.counts.get("identified "+IdentifiedRevoked) != 1 {
		t.Errorf("a ticket that outlived its session: %v, %v", err, r.counts.n)
	}
}

// TestCloseFrameArrives: also when more of the client's bytes are on their way.
func TestCloseFrameArrives(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for i := range 50 {
		p := r.connectRaw(fmt.Sprint("page", i)) // the next window of one page waits until its last one is judged
		p.write(rawFrame(bitFin|bitRSV1|opText, "x"))
		p.write(bytes.Repeat(message1(opText, goodFrame), 1000)) // on its way when the gateway closes
		if end := p.drain(patience); end.code != websocket.CloseProtocolError || errors.Is(end.err, net.ErrClosed) {
			t.Fatalf("ended with %+v", end)
		}
	}
}
