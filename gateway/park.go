package gateway

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"sync"
	"time"

	"github.com/dfws/dfws/compat"
)

const (
	// trailTime is how long a gateway that has handed a window over still collects for it: a sender may have read the members of a
	// group before the other gateway was one of them, and write afterwards.
	trailTime = time.Second
	// mergeTime is how long a window that was taken over drops repeats: longer than the trail and the way from there.
	mergeTime = 3 * trailTime
	// probeTimeout is how long a socket may take to prove that it lives when another one with its window key opens.
	probeTimeout = 3 * time.Second
	// maxProbes bounds the sockets that one handshake has probed.
	maxProbes = 8
)

// pageKey names a page that may come back: who has the window key and the same identity. It is zero for windows that cannot.
type pageKey [16]byte

// newPageKey is unguessable, since the window key is.
func newPageKey(windowKey string, id *identity) pageKey {
	if windowKey == "" {
		return pageKey{}
	}
	h := sha256.New()
	for _, part := range []string{"dfws.page", windowKey, id.session, id.user, id.stamp} {
		h.Write([]byte{byte(len(part) >> 8), byte(len(part))})
		h.Write([]byte(part))
	}
	return pageKey(h.Sum(nil)[:16])
}

// String is how the page is named in Redis.
func (k pageKey) String() string { return hex.EncodeToString(k[:]) }

func newOutboxLimits(cfg *Config) outboxLimits {
	l := outboxLimits{frames: cfg.OutboxFrames, bytes: cfg.OutboxBytes, memory: &memory{limit: int64(cfg.ParkTotalBytes)}}
	if cfg.ParkFor != Off {
		// A window that has just got everything back must have room for what comes next.
		l.keptFrames, l.keptBytes = min(cfg.ParkFrames, max(cfg.OutboxFrames/2, 1)), min(cfg.ParkBytes, cfg.OutboxBytes/2)
	}
	return l
}

// parked is a window without a socket. It stays in its groups.
type parked struct {
	w          *window
	until      time.Time
	prev, next *parked // guarded by the parking
}

// parking holds the parked windows, those that wait longest first. They are found by the group of their window key.
type parking struct {
	mu          sync.Mutex
	first, last *parked
	count       int
	closed      bool // the gateway ends: nobody is parked any more
}

// add parks a window. It returns the one that must go for it, if any; false if nobody is parked any more.
func (p *parking) add(w *window, until time.Time, limit int) (evicted *window, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, false
	}
	w.parked = &parked{w: w, until: until, prev: p.last}
	if p.last != nil {
		p.last.next = w.parked
	} else {
		p.first = w.parked
	}
	p.last = w.parked
	if p.count++; limit != Off && p.count > limit {
		evicted = p.first.w
		p.unlink(p.first)
	}
	return evicted, true
}

// unlink takes one out. The caller holds mu.
func (p *parking) unlink(e *parked) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		p.first = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		p.last = e.prev
	}
	e.w.parked = nil
	p.count--
}

// remove takes a window out and says whether it was parked.
func (p *parking) remove(w *window) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.parked == nil {
		return false
	}
	p.unlink(w.parked)
	return true
}

// expired takes out the next window whose time is over, nil if there is none.
func (p *parking) expired(now time.Time) *window {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first == nil || p.first.until.After(now) {
		return nil
	}
	w := p.first.w
	p.unlink(p.first)
	return w
}

// takeYoungest keeps the parked ones of some windows, those that wait longest first, and takes the last of them out.
func (p *parking) takeYoungest(windows []*window) []*window {
	p.mu.Lock()
	defer p.mu.Unlock()
	windows = slices.DeleteFunc(windows, func(w *window) bool { return w.parked == nil })
	slices.SortFunc(windows, func(a, b *window) int { return a.parked.until.Compare(b.parked.until) })
	if n := len(windows); n > 0 {
		p.unlink(windows[n-1].parked)
	}
	return windows
}

// all returns the parked windows, those that wait longest first.
func (p *parking) all() (list []*window) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for e := p.first; e != nil; e = e.next {
		list = append(list, e.w)
	}
	return list
}

// close takes out everybody and lets nobody in any more.
func (p *parking) close() []*window {
	list := p.all()
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.first != nil {
		p.unlink(p.first)
	}
	p.closed = true
	return list
}

// has says whether a window is parked.
func (p *parking) has(w *window) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return w.parked != nil
}

func (p *parking) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// setPage says which page the window is of, if it is one that can come back: it must have a window key, and the group of it.
func (g *Gateway) setPage(w *window, windowKey string, groups []string) {
	if g.cfg.ParkFor == Off || windowKey == "" {
		return
	}
	if slot := slices.Index(groups, compat.GroupName(compat.WindowTopic(windowKey))); slot >= 0 {
		w.page, w.pageSlot = newPageKey(windowKey, &w.identity), slot
	}
}

// canReturn says whether what a window missed may be given to its next socket.
func (w *window) canReturn() bool {
	return w.page != pageKey{} && len(w.groups) > 0 && CloseCode(w.code.Load()) != CloseRevoked
}

// pageGroup is the group in which all windows of the page are.
func (w *window) pageGroup() string { return w.groups[w.pageSlot].group.name }

// park keeps a window that has no socket any more, or lets it go. Who calls it is the only one that still deals with the window.
func (g *Gateway) park(w *window) {
	if !w.canReturn() {
		reason := DroppedClosed
		if CloseCode(w.code.Load()) == CloseRevoked {
			reason = DroppedRevoked
		}
		g.letGo(w, reason)
		return
	}
	w.ws, w.limiter, w.identity.raw, w.identity.info = nil, nil, nil, nil // a parked window costs what its messages cost
	dropped, forgot := w.out.park(&g.outLimits)
	g.lost(w, DroppedOverflow, dropped)
	g.lost(w, DroppedUnproven, forgot)
	late := w.lateNote()
	evicted, ok := g.parking.add(w, time.Now().Add(g.cfg.ParkFor), g.cfg.MaxParked)
	if !ok {
		g.letGo(w, DroppedDrained)
		return
	}
	g.observer.parked(1)
	if evicted != nil {
		g.observer.parked(-1)
		g.letGo(evicted, DroppedEvicted)
	}
	if g.revoked.covers(&w.identity) && g.unpark(w) { // it came in between
		g.letGo(w, DroppedRevoked)
		return
	}
	g.handover.announce(w.page, late)
}

// unpark takes a window out of the parking and says whether it was there: who gets true deals with it.
func (g *Gateway) unpark(w *window) bool {
	if !g.parking.remove(w) {
		return false
	}
	g.observer.parked(-1)
	return true
}

// letGo ends a window without a socket that nobody comes back to.
func (g *Gateway) letGo(w *window, reason string) {
	g.memberships.leave(w)
	g.lost(w, reason, w.out.kill(&g.outLimits))
}

// lost counts messages that a window does not get, so that each can be accounted for.
func (g *Gateway) lost(w *window, reason string, messages int) {
	if messages == 0 {
		return
	}
	g.observer.framesDropped(w.identity.window, reason, messages)
	g.samples.parked.info(g.log, "messages of a window were lost", "window", w.identity.window, "reason", reason, "frames", messages)
}

// expireParked lets go of the windows that did not come back. The heartbeat goroutine calls it.
func (g *Gateway) expireParked(now time.Time) {
	for w := g.parking.expired(now); w != nil; w = g.parking.expired(now) {
		g.observer.parked(-1)
		g.letGo(w, DroppedExpired)
	}
}

// takeOver gives a window that is about to open what earlier sockets of its page have missed, and returns the sockets that may be dead
// without anybody having noticed. The window has joined its groups: it misses nothing from now on.
func (g *Gateway) takeOver(win *window) (suspects []*window) {
	page := slices.DeleteFunc(g.windowsOf(win.page, win.pageGroup()), func(w *window) bool { return w == win })
	if len(page) == 0 {
		return nil
	}
	waiting := g.inherit(win, page)
	// One that is parked only now is a suspect as well: its messages are still to come, before those of win.
	suspects = slices.DeleteFunc(page, func(w *window) bool { return w.out.ended() || slices.Contains(waiting, w) })
	slices.SortFunc(suspects, func(a, b *window) int { return cmp.Compare(a.seen.Load(), b.seen.Load()) })
	return suspects[:min(len(suspects), maxProbes)]
}

// windowsOf returns the windows of a page, those without a socket as well.
func (g *Gateway) windowsOf(page pageKey, group string) []*window {
	return slices.DeleteFunc(g.hub.members(nil, group), func(w *window) bool { return w.page != page })
}

// inherit gives win the messages of the parked windows of its page, which it returns, and ends one of them.
//
// Usually there is one. Several are tabs that share the cookie, and which of them comes first is not known. They have the same groups, so
// each gets what all of them have missed (its script drops what it knows), and the others go on waiting.
func (g *Gateway) inherit(win *window, page []*window) (waiting []*window) {
	waiting = g.parking.takeYoungest(slices.Clone(page))
	if len(waiting) == 0 {
		return nil
	}
	g.observer.parked(-1)
	ended := waiting[len(waiting)-1]
	messages := append(g.shared(waiting[:len(waiting)-1]), ended.out.surrender(win)...)
	g.memberships.leave(ended)
	g.hand(win, messages, TakenOverHere)
	if len(waiting) == 1 {
		g.handover.withdraw(win.page)
	}
	return waiting
}

// shared returns what parked windows have missed, held once more.
func (g *Gateway) shared(waiting []*window) (messages []*frame) {
	for _, w := range waiting {
		messages = append(messages, w.out.share(&g.outLimits)...)
	}
	return messages
}

// hand puts messages, held, before those that wait for win.
func (g *Gateway) hand(win *window, messages []*frame, from string) {
	if !win.out.inherit(messages, time.Now().Add(mergeTime), &g.outLimits) {
		for _, f := range messages {
			f.release(g.outLimits.memory)
		}
		g.lost(win, DroppedClosed, len(messages))
		return
	}
	g.observer.takenOver(from, len(messages))
	g.log.Debug("window taken over", "window", win.identity.window, "from", from, "frames", len(messages))
}
