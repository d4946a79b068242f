package worker

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
)

// party is a set of workers on one exchange of events, without Redis.
type party struct {
	t       *testing.T
	members []*gossip
	outbox  []celeryproto.Event // in the order of publishing
	won     map[string][]string // task by node
}

func newParty(t *testing.T, names ...string) *party {
	t.Helper()
	p := &party{t: t, won: map[string][]string{}}
	for i, name := range names {
		n := newNode(name)
		n.pid = 100 + i
		observer, _ := countedDrops()
		hub := &eventHub{outbox: newEventOutbox(n, "celeryev", nil, testLogger(t), observer)}
		g := newGossip(n, hub, celeryproto.Limits{}, testLogger(t))
		g.send = func(_ context.Context, sig celeryproto.Raw) error {
			p.won[name] = append(p.won[name], sig.String())
			return nil
		}
		p.members = append(p.members, g)
	}
	return p
}

// exchange gives what was published to all, until nobody has anything to say.
func (p *party) exchange() {
	p.t.Helper()
	for {
		for _, g := range p.members {
			events, _ := g.hub.outbox.take()
			for _, e := range events {
				p.outbox = append(p.outbox, e.Event)
			}
		}
		if len(p.outbox) == 0 {
			return
		}
		e := p.outbox[0]
		p.outbox = p.outbox[1:]
		p.give(&e)
	}
}

func (p *party) give(e *celeryproto.Event) {
	p.t.Helper()
	envelope, err := e.Envelope("celeryev", celeryproto.BusOptions{})
	must(p.t, err)
	for _, g := range p.members {
		g.handle(p.t.Context(), redisbroker.FanoutDelivery{Exchange: "celeryev", Envelope: envelope})
	}
}

func (p *party) beat(g *gossip) {
	h := &heart{hub: g.hub, interval: 2 * time.Second, status: func() (int, int) { return 0, 0 }}
	h.beat(celeryproto.EventWorkerOnline)
}

func TestElection(t *testing.T) {
	t.Parallel()
	p := newParty(t, "a@h", "b@h", "c@h")
	for _, g := range p.members {
		p.beat(g)
	}
	p.exchange()
	for _, g := range p.members {
		if n := g.alive(time.Now()); n != 2 {
			t.Errorf("%s knows %d others", g.node.name, n)
		}
	}
	for i, g := range p.members[:2] { // the third is no candidate
		must(t, g.stand("e1", topicTask, celeryproto.Raw(fmt.Sprintf(`{"task": "t%d"}`, i))))
	}
	p.exchange()
	if len(p.won) != 1 {
		t.Errorf("won: %v, want one winner", p.won)
	}
	for _, g := range p.members[:2] {
		if len(g.elections) != 0 {
			t.Errorf("%s: the election has not ended", g.node.name)
		}
	}
}

func TestElectionAlone(t *testing.T) {
	t.Parallel()
	p := newParty(t, "a@h")
	must(t, p.members[0].stand("e1", topicTask, celeryproto.Raw(`{"task": "t"}`)))
	must(t, p.members[0].stand("e2", "other", nil))
	must(t, p.members[0].stand("e3", topicTask, nil))
	p.exchange()
	if got := p.won["a@h"]; len(got) != 1 || got[0] != `{"task": "t"}` {
		t.Errorf("won: %v", got)
	}
}

func TestElectionsAreForgotten(t *testing.T) {
	t.Parallel()
	p := newParty(t, "a@h")
	g := p.members[0]
	clock := int64(1)
	for i := range maxElections + 10 {
		p.give(&celeryproto.Event{
			Type: celeryproto.EventWorkerElect, Hostname: "b@h", PID: 1, Clock: &clock,
			Fields: celeryproto.Members{{Key: "id", Value: rawInt(int64(i))}},
		})
		p.give(&celeryproto.Event{
			Type: celeryproto.EventWorkerElect, Hostname: "b@h", PID: 1, Clock: &clock,
			Fields: celeryproto.Members{{Key: "id", Value: rawText(fmt.Sprint(i))}},
		})
		p.give(&celeryproto.Event{Type: celeryproto.EventWorkerElectAck, Hostname: "b@h", PID: 1, Clock: &clock})
	}
	if len(g.elections) != maxElections {
		t.Errorf("%d elections remembered", len(g.elections))
	}
}

func TestPeers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, "a@h", "b@h")
		g := p.members[0]
		p.beat(p.members[1])
		p.exchange()
		time.Sleep(3 * time.Second)
		if g.alive(time.Now()) != 1 {
			t.Error("a heartbeat every 2 s means alive for 4 s")
		}
		time.Sleep(time.Second + time.Millisecond)
		if g.alive(time.Now()) != 0 {
			t.Error("alive without heartbeats")
		}
		time.Sleep(peersEvery)
		clock := int64(1000)
		p.give(&celeryproto.Event{
			Type: celeryproto.EventWorkerHeartbeat, Hostname: "c@h", PID: 3, Clock: &clock,
			Fields: celeryproto.Members{{Key: "freq", Value: celeryproto.Raw("1e300")}},
		})
		if len(g.peers) != 1 || g.node.clock.Value() < clock {
			t.Errorf("%d peers, clock %d", len(g.peers), g.node.clock.Value())
		}
		p.give(&celeryproto.Event{Type: celeryproto.EventWorkerOffline, Hostname: "c@h", PID: 3})
		if len(g.peers) != 0 {
			t.Error("still there after worker-offline")
		}
		for i := range maxPeers + 5 {
			p.give(&celeryproto.Event{
				Type: celeryproto.EventWorkerOnline, Hostname: strings.Repeat("x", 3) + fmt.Sprint(i), PID: 3,
				Fields: celeryproto.Members{{Key: "freq", Value: celeryproto.Raw("2.0")}},
			})
		}
		if len(g.peers) > maxPeers {
			t.Errorf("%d peers", len(g.peers))
		}
	})
}
