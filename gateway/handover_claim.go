package gateway

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/dfws/dfws/compat/dispatch"
)

// takeOver gives a window that is about to open what other gateways have kept for it. The window has joined its groups. What cannot be
// had in time is counted: a window never waits longer than Config.HandoverTimeout.
func (h *handover) takeOver(ctx context.Context, win *window, l *lookup) {
	ctx, cancel := h.bounded(ctx)
	defer cancel()
	select {
	case <-l.doneC:
		if l.err != nil {
			h.failed(win, HandoverRedis, l.err)
			return
		}
	case <-ctx.Done():
		h.failed(win, HandoverRedis, context.Cause(ctx))
		return
	}
	for _, owner := range l.owners {
		h.claim(ctx, win, owner)
	}
}

func (h *handover) failed(win *window, reason string, err error) {
	h.g.observer.handoverFailed(reason)
	h.g.samples.parked.warn(h.log, "window opened without what another gateway may have kept for it", "window", win.identity.window, "reason", reason, "err", err)
}

// claim asks one gateway, and gives win what it has.
func (h *handover) claim(ctx context.Context, win *window, owner string) {
	token := randomName()
	c := &claim{win: win, owner: owner, readyC: make(chan dispatch.Note, 1), until: time.Now().Add(h.g.cfg.HandoverTimeout + mergeTime)}
	h.mu.Lock()
	h.claims[token] = c
	h.mu.Unlock()
	received, err := h.store.Send(ctx, owner, dispatch.Note{
		Kind: dispatch.NoteClaim, Page: win.page.String(), Group: win.pageGroup(), Token: token})
	if err != nil {
		h.failed(win, HandoverRedis, err)
		return
	}
	last := true
	if received {
		select {
		case n := <-c.readyC:
			if n.Messages == 0 {
				win.out.inherit(nil, time.Now().Add(mergeTime), &h.g.outLimits) // more may follow
				return
			}
			last = n.Left == 0
		case <-ctx.Done():
			h.failed(win, HandoverTimeout, context.Cause(ctx))
			h.giveUp(c)
			return
		}
	}
	// If nobody was there, the gateway has ended, and has written what it had.
	texts, dropped, err := h.store.Take(ctx, win.page.String(), owner, last)
	switch {
	case err != nil:
		h.failed(win, HandoverRedis, err)
		return
	case len(texts) == 0 && !received:
		h.failed(win, HandoverGone, nil)
		return
	}
	messages, bad := framesOf(texts, h.g.outLimits.memory)
	h.g.lost(win, DroppedOverflow, dropped+bad)
	h.g.hand(win, messages, TakenOverThere)
}

// giveUp ends the wait for an answer. When it comes after all, it is as what follows a hand-over: late, and not lost.
func (h *handover) giveUp(c *claim) {
	h.mu.Lock()
	defer h.mu.Unlock()
	readyC := c.readyC
	c.readyC = nil
	c.until = time.Now().Add(h.g.cfg.ParkFor)
	select {
	case n := <-readyC:
		h.later(c, n)
	default:
	}
}

// later takes the messages of an answer that nobody waits for. The caller holds mu.
func (h *handover) later(c *claim, n dispatch.Note) {
	h.jobs = append(h.jobs, func(ctx context.Context) { h.takeMore(ctx, c, n) })
	h.working++
}

// hear handles the notes of other gateways. It waits for nothing.
func (h *handover) hear(n dispatch.Note) {
	switch n.Kind {
	case dispatch.NoteClaim:
		h.answer(n)
	case dispatch.NoteReady, dispatch.NoteMore:
		h.queue(func() { h.answered(n) })
	case dispatch.NoteLate:
		h.late(n)
	}
}

// answered handles the answer to a claim. The caller holds mu.
func (h *handover) answered(n dispatch.Note) {
	c := h.claims[n.Token]
	switch {
	case c == nil || c.owner != n.From || n.Page != c.win.page.String():
	case n.Kind == dispatch.NoteReady && c.readyC != nil:
		select {
		case c.readyC <- n:
		default: // a second answer to one claim
		}
	case n.Messages > 0:
		h.later(c, n)
	}
}

// takeMore gives a window what followed after it was handed over.
func (h *handover) takeMore(ctx context.Context, c *claim, n dispatch.Note) {
	// What follows a hand-over says nothing about what the owner keeps by now.
	texts, dropped, err := h.store.Take(ctx, n.Page, c.owner, n.Kind == dispatch.NoteReady && n.Left == 0)
	if err != nil {
		h.failed(c.win, HandoverRedis, err)
		return
	}
	messages, bad := framesOf(texts, h.g.outLimits.memory)
	h.g.lost(c.win, DroppedOverflow, dropped+bad)
	if c.win.out.abandoned() {
		h.g.lost(c.win, DroppedClosed, len(messages))
	}
	for _, f := range messages {
		c.win.push(f)
		f.release(h.g.outLimits.memory)
	}
}

// answer hands the parked windows of a page over to the gateway that claims them, as inherit does here. One of them ends, but still
// collects for a while what was under way.
func (h *handover) answer(n dispatch.Note) {
	page, ok := parsePage(n.Page)
	if !ok {
		return
	}
	waiting := h.g.parking.takeYoungest(h.g.windowsOf(page, n.Group))
	ready := dispatch.Note{Kind: dispatch.NoteReady, Page: n.Page, Token: n.Token}
	if len(waiting) == 0 {
		h.withdraw(page)
		h.job(func(ctx context.Context) { h.send(ctx, n.From, ready) })
		return
	}
	h.g.observer.parked(-1)
	ready.Left = len(waiting) - 1
	ended := waiting[ready.Left]
	messages := append(h.g.shared(waiting[:ready.Left]), ended.out.collect()...)
	ready.Messages = len(messages)
	h.job(func(ctx context.Context) {
		if err := h.write(ctx, page, messages); err != nil {
			h.keep(ended, messages, err)
			return
		}
		h.release(messages)
		if ready.Messages == 0 && ready.Left == 0 {
			h.withdraw(page)
		}
		h.mu.Lock()
		h.trails = append(h.trails, trail{ended, n.From, n.Token, h.trailEnd(ended)})
		h.mu.Unlock()
		h.send(ctx, n.From, ready)
	})
}

// trailEnd is until when a window that was handed over collects: also until nothing more can follow from where it came from. The caller
// holds mu.
func (h *handover) trailEnd(w *window) time.Time {
	end := time.Now().Add(trailTime)
	for _, c := range h.claims {
		if c.win == w && c.until.After(end) {
			end = c.until
		}
	}
	return end
}

// keep parks a window again whose messages Redis did not take. The claimant waits in vain.
func (h *handover) keep(w *window, messages []*frame, err error) {
	h.g.samples.parked.warn(h.log, "window could not be handed over", "window", w.identity.window, "err", err)
	if !w.out.inherit(messages, time.Now(), &h.g.outLimits) {
		h.release(messages)
	}
	h.g.park(w)
}

// parsePage reads what pageKey.String wrote.
func parsePage(text string) (page pageKey, ok bool) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(page) {
		return page, false
	}
	page = pageKey(b)
	return page, page != pageKey{}
}

// lateNote is for a window whose socket may have been dead for a while before anybody noticed: its page may be at another gateway already.
func (w *window) lateNote() *lateNote {
	if CloseCode(w.code.Load()) != CloseNoPong {
		return nil
	}
	return &lateNote{dispatch.Note{Kind: dispatch.NoteLate, Page: w.page.String(), Group: w.pageGroup()}, time.Unix(0, w.seen.Load())}
}

// lateNote is a note to all, and when the socket gave its last sign of life.
type lateNote struct {
	dispatch.Note
	seen time.Time
}

// lateMargin is for the way of a note, and for a page that came back as soon as its socket was dead.
const lateMargin = time.Second

// late claims messages for a window of this gateway that opened after its earlier socket had fallen silent elsewhere. They come after what
// the window has got since: late, and not lost.
func (h *handover) late(n dispatch.Note) {
	page, ok := parsePage(n.Page)
	if !ok {
		return
	}
	fellSilent := time.Now().Add(-time.Duration(n.SilentMillis)*time.Millisecond - lateMargin).UnixNano()
	for _, w := range h.g.windowsOf(page, n.Group) {
		if !w.out.alive() || w.since.Load() < fellSilent {
			continue
		}
		h.job(func(ctx context.Context) { h.claimLate(ctx, w, n) })
		return
	}
}

// claimLate asks as claim does; the answer is taken as what follows a hand-over.
func (h *handover) claimLate(ctx context.Context, w *window, late dispatch.Note) {
	token := randomName()
	c := &claim{win: w, owner: late.From, until: time.Now().Add(h.g.cfg.HandoverTimeout + mergeTime)}
	h.mu.Lock()
	h.claims[token] = c
	h.mu.Unlock()
	h.send(ctx, late.From, dispatch.Note{Kind: dispatch.NoteClaim, Page: late.Page, Group: late.Group, Token: token})
}
