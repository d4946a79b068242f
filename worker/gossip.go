package worker

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
)

// Bounds of what gossip remembers.
const (
	// maxPeers is how many workers may be known (celery 5.7, events/state.py, max_workers_in_memory).
	maxPeers = 5000
	// maxElections is how many elections may be under way; one that never ends, since a worker died, makes room for the next.
	maxElections  = 100
	maxCandidates = 1000 // of one election
	// peersEvery is how often silent workers are looked for (celery 5.7, worker/consumer/gossip.py).
	peersEvery = 5 * time.Second
)

// topicTask is the election topic whose winner sends a task.
const topicTask = "task"

// consensusVersion is cver of an election.
const consensusVersion = 1

// gossip listens to the events of the other workers: it keeps a list of those that live, and takes part in elections (celery 5.7,
// worker/consumer/gossip.py). Only the subscriber's goroutine uses it.
type gossip struct {
	node   *node
	hub    *eventHub
	send   func(ctx context.Context, signature celeryproto.Raw) error // sends the task of an election that this worker has won
	limits celeryproto.Limits
	log    *slog.Logger

	peers     map[string]peer
	looked    time.Time // at peers
	elections []*election
}

// peer is another worker.
type peer struct {
	seen time.Time     // its last event
	freq time.Duration // of its heartbeats
}

// aliveFor is how many heartbeats may be missing (celery 5.7, events/state.py, HEARTBEAT_EXPIRE_WINDOW).
const aliveFor = 2

func (p *peer) alive(now time.Time) bool { return now.Before(p.seen.Add(aliveFor * p.freq)) }

// election is a vote among workers on who does something.
type election struct {
	id         string
	candidates []candidate
	stands     bool // this worker is a candidate
	topic      string
	action     celeryproto.Raw
	acks       int
}

// candidate is a worker that stands in an election: the lowest clock wins, then the lowest name.
type candidate struct {
	clock int64
	name  string // "celery@host.1234"
}

func newGossip(n *node, hub *eventHub, limits celeryproto.Limits, log *slog.Logger) *gossip {
	return &gossip{node: n, hub: hub, limits: limits, log: log, peers: map[string]peer{}}
}

// stand makes this worker a candidate. What follows are the events of all, its own included.
func (g *gossip) stand(id, topic string, action celeryproto.Raw) error {
	if len(action) == 0 {
		action = rawNull
	}
	e := g.election(id)
	e.stands, e.topic, e.action, e.acks = true, topic, action, 0
	fields := new(object).text("id", id).text("topic", topic).raw("action", action).int("cver", consensusVersion)
	g.hub.worker(celeryproto.EventWorkerElect, fields.members)
	return nil
}

func (g *gossip) election(id string) *election {
	for _, e := range g.elections {
		if e.id == id {
			return e
		}
	}
	if len(g.elections) == maxElections {
		g.log.Warn("election never ended, forgotten", "election", printable(g.elections[0].id))
		g.elections = slices.Delete(g.elections, 0, 1)
	}
	e := &election{id: id}
	g.elections = append(g.elections, e)
	return e
}

// handle takes a message from the exchange of events.
func (g *gossip) handle(ctx context.Context, d redisbroker.FanoutDelivery) {
	events, err := celeryproto.DecodeEvents(d.Envelope, g.limits)
	if err != nil {
		g.log.Warn("event of another worker skipped", "bytes", len(d.Raw), "err", err)
		return
	}
	now := time.Now()
	for i := range events {
		e := &events[i]
		switch e.Type {
		case celeryproto.EventWorkerElect:
			g.elect(e)
		case celeryproto.EventWorkerElectAck:
			g.ack(ctx, e, now)
		default:
			g.observe(e, now)
		}
	}
}

// observe notes that another worker lives, or goes.
func (g *gossip) observe(e *celeryproto.Event, now time.Time) {
	if celeryproto.EventGroup(e.Type) != groupWorker || e.Hostname == "" {
		return
	}
	if e.Hostname == g.node.name {
		if e.PID != g.node.pid && e.PID != 0 {
			g.log.Error("another worker has the same node name: give each one of its own", "node", e.Hostname, "pid", e.PID)
		}
		g.node.clock.Forward()
		return
	}
	if e.Clock != nil {
		g.node.clock.Adjust(*e.Clock)
	}
	if e.Type == celeryproto.EventWorkerOffline {
		g.log.Debug("worker has left", "node", printable(e.Hostname))
		delete(g.peers, e.Hostname)
		return
	}
	status := e.WorkerStatus()
	old, known := g.peers[e.Hostname]
	const usualFreq = 60 // of celery 5.7, events/state.py, Worker
	freq := limitOf(&status.Freq, cmp.Or(old.freq, usualFreq*time.Second))
	if !known {
		g.log.Debug("worker has joined", "node", printable(e.Hostname))
		g.makeRoom()
	}
	g.peers[e.Hostname] = peer{seen: now, freq: min(freq, time.Hour)}
	g.look(now)
}

// look forgets workers that have been silent for too long.
func (g *gossip) look(now time.Time) {
	if now.Sub(g.looked) < peersEvery {
		return
	}
	g.looked = now
	for name, p := range g.peers {
		if !p.alive(now) {
			g.log.Info("missed heartbeat", "node", printable(name))
			delete(g.peers, name)
		}
	}
}

// makeRoom forgets the worker that has been silent for the longest time, when there are too many.
func (g *gossip) makeRoom() {
	if len(g.peers) < maxPeers {
		return
	}
	oldest := ""
	for name, p := range g.peers {
		if oldest == "" || p.seen.Before(g.peers[oldest].seen) {
			oldest = name
		}
	}
	delete(g.peers, oldest)
}

// alive counts the other workers that live: Celery leaves out its own as well.
func (g *gossip) alive(now time.Time) int {
	n := 0
	for _, p := range g.peers {
		if p.alive(now) {
			n++
		}
	}
	return n
}

// elect notes a candidate, and lets all know that it was heard: without this no election of Python workers ends.
func (g *gossip) elect(ev *celeryproto.Event) {
	id, ok := textField(ev, "id")
	if !ok || ev.Clock == nil || ev.Hostname == "" {
		g.log.Error("election request without all of its fields", "node", printable(ev.Hostname))
		return
	}
	e := g.election(id)
	if len(e.candidates) < maxCandidates {
		e.candidates = append(e.candidates, candidate{*ev.Clock, ev.Hostname + "." + strconv.Itoa(ev.PID)})
	}
	g.hub.worker(celeryproto.EventWorkerElectAck, new(object).text("id", id).members)
}

// ack counts who has heard of a candidate. All candidates see the same events in the same order, so all come to the same end.
func (g *gossip) ack(ctx context.Context, ev *celeryproto.Event, now time.Time) {
	id, _ := textField(ev, "id")
	i := slices.IndexFunc(g.elections, func(e *election) bool { return e.id == id })
	if i < 0 || !g.elections[i].stands {
		return
	}
	e := g.elections[i]
	if e.acks++; e.acks < g.alive(now) || len(e.candidates) == 0 {
		return
	}
	g.elections = slices.Delete(g.elections, i, i+1)
	leader := slices.MinFunc(e.candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.clock, b.clock), cmp.Compare(a.name, b.name))
	})
	if leader.name != g.node.name+"."+strconv.Itoa(g.node.pid) {
		g.log.Info("another worker won an election", "election", printable(id), "node", printable(leader.name))
		return
	}
	g.log.Info("won an election", "election", printable(id))
	g.win(ctx, e)
}

func (g *gossip) win(ctx context.Context, e *election) {
	if e.topic != topicTask {
		g.log.Error("unknown election topic", "topic", printable(e.topic))
		return
	}
	if e.action.IsNull() {
		g.log.Error("election without a task", "election", printable(e.id))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	if err := g.send(ctx, e.action); err != nil {
		g.log.Error("task of a won election not sent", "election", printable(e.id), "err", err)
	}
}

func textField(e *celeryproto.Event, key string) (string, bool) {
	raw, _ := e.Fields.Get(key)
	text, err := raw.Text()
	return text, err == nil
}
