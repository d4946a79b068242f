package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/dfws/dfws/compat/dispatch"
)

const (
	// handoverBatch is how many pages one round trip announces, withdraws or looks up at most.
	handoverBatch = 512
	// handoverWriters is how many hand-overs are written or read at the same time.
	handoverWriters = 8
	// handoverRetry is how long the next try waits after Redis was away.
	handoverRetry = 500 * time.Millisecond
	// parkedTTLMargin is how much longer Redis keeps what it knows of a parked window than the gateway keeps the window.
	parkedTTLMargin = 5 * time.Second
)

// parkedStore is how gateways hand over what they keep for windows without a socket: dispatch.Parked, where the methods are explained.
type parkedStore interface {
	Announce(ctx context.Context, pages []string, ttl time.Duration) error
	Withdraw(ctx context.Context, pages []string) error
	Owners(ctx context.Context, pages []string) ([][]string, error)
	Put(ctx context.Context, page string, messages [][]byte, ttl time.Duration) error
	Take(ctx context.Context, page, owner string, last bool) (messages []string, dropped int, err error)
	Send(ctx context.Context, to string, n dispatch.Note) (received bool, err error)
	Others(ctx context.Context) (int, error)
	Watch(ctx context.Context, report func(dispatch.Note)) error
	WatchAll(ctx context.Context, report func(dispatch.Note)) error
}

// lookup asks which other gateways keep messages for a page.
type lookup struct {
	page   pageKey
	doneC  chan struct{} // closed by the hand-over goroutine
	owners []string      // set before doneC is closed, as is err
	err    error
}

// claim is a window of this gateway that has asked another one for what it missed.
type claim struct {
	win    *window
	owner  string
	readyC chan dispatch.Note // capacity 1: the answer, sent by the watcher, received by the handshake; nil if none waits
	until  time.Time          // what comes later has nobody to go to
}

// mark says whether this gateway keeps messages for a page.
type mark struct {
	page pageKey
	kept bool
}

// trail is a parked window that another gateway has got, while messages may still be under way to it.
type trail struct {
	w     *window
	to    string
	token string
	until time.Time
}

// handover exchanges parked windows with the other gateways. One goroutine batches what goes to Redis, so that many windows that are cut
// at once, or come back, share round trips; two others listen.
type handover struct {
	g     *Gateway
	store parkedStore
	log   *slog.Logger
	wakeC chan struct{} // capacity 1: a hint that there is work; sent by everybody, received by run

	mu      sync.Mutex
	lookups []*lookup
	marks   []mark
	jobs    []func(ctx context.Context) // hand-overs to write or read
	notes   []lateNote                  // to all gateways, after the announces
	working int                         // jobs that are not done yet
	claims  map[string]*claim           // by token
	trails  []trail
}

func newHandover(g *Gateway, store parkedStore) *handover {
	return &handover{g: g, store: store, log: g.log, wakeC: make(chan struct{}, 1), claims: make(map[string]*claim)}
}

// newGatewayName is this process among the gateways.
func newGatewayName() string { return randomName() }

func randomName() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (Go 1.24)
	return hex.EncodeToString(b[:])
}

// queue adds work and wakes the goroutine.
func (h *handover) queue(add func()) {
	h.mu.Lock()
	add()
	h.mu.Unlock()
	select {
	case h.wakeC <- struct{}{}:
	default:
	}
}

// announce tells Redis that the gateway keeps messages for a page; with a note, all gateways.
func (h *handover) announce(page pageKey, late *lateNote) {
	h.queue(func() {
		h.marks = append(h.marks, mark{page, true})
		if late != nil {
			h.notes = append(h.notes, *late)
		}
	})
}

// withdraw takes announce back.
func (h *handover) withdraw(page pageKey) {
	h.queue(func() { h.marks = append(h.marks, mark{page, false}) })
}

// lookUp asks, while the window joins its groups, who keeps messages for it; nil for a window that cannot come back.
func (h *handover) lookUp(win *window) *lookup {
	if win.page == (pageKey{}) {
		return nil
	}
	l := &lookup{page: win.page, doneC: make(chan struct{})}
	h.queue(func() { h.lookups = append(h.lookups, l) })
	return l
}

// job has something done by the goroutine.
func (h *handover) job(do func(ctx context.Context)) {
	h.queue(func() {
		h.jobs = append(h.jobs, do)
		h.working++
	})
}

// run works until ctx ends.
func (h *handover) run(ctx context.Context) error {
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			h.failLookups(context.Cause(ctx))
			return nil
		case <-h.wakeC:
		case <-retry.C:
		}
		if !h.work(ctx) {
			retry.Reset(handoverRetry)
		}
	}
}

// work does everything that is queued, and says whether Redis took what must reach it in the end.
func (h *handover) work(ctx context.Context) bool {
	for {
		lookups := takeBatch(h, &h.lookups, handoverBatch)
		marks := takeBatch(h, &h.marks, handoverBatch)
		jobs, notes := takeBatch(h, &h.jobs, handoverBatch), takeBatch(h, &h.notes, handoverBatch)
		if len(lookups)+len(marks)+len(jobs)+len(notes) == 0 {
			return true
		}
		h.doLookups(ctx, lookups)
		h.doJobs(ctx, jobs)
		if !h.doMarks(ctx, marks) {
			h.mu.Lock()
			h.marks, h.notes = append(marks, h.marks...), append(notes, h.notes...)
			h.mu.Unlock()
			return false
		}
		for _, n := range notes {
			n.SilentMillis = time.Since(n.seen).Milliseconds()
			h.send(ctx, "", n.Note) // what goes wrong is logged; the messages are kept all the same
		}
	}
}

// takeBatch takes the first n of a list that h.mu guards.
func takeBatch[T any](h *handover, list *[]T, n int) []T {
	h.mu.Lock()
	defer h.mu.Unlock()
	n = min(n, len(*list))
	batch := (*list)[:n:n]
	if *list = (*list)[n:]; len(*list) == 0 {
		*list = nil
	}
	return batch
}

// bounded is a context for one round trip, or a few that belong together.
func (h *handover) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, h.g.cfg.HandoverTimeout)
}

func pageNames(pages []pageKey) []string {
	names := make([]string, len(pages))
	for i, page := range pages {
		names[i] = page.String()
	}
	return names
}

func (h *handover) doLookups(ctx context.Context, lookups []*lookup) {
	if len(lookups) == 0 {
		return
	}
	ctx, cancel := h.bounded(ctx)
	defer cancel()
	pages := make([]pageKey, len(lookups))
	for i, l := range lookups {
		pages[i] = l.page
	}
	owners, err := h.store.Owners(ctx, pageNames(pages))
	for i, l := range lookups {
		if l.err = err; err == nil {
			l.owners = owners[i]
		}
		close(l.doneC)
	}
}

// failLookups answers those who wait when there is nobody left to look.
func (h *handover) failLookups(cause error) {
	for batch := takeBatch(h, &h.lookups, handoverBatch); len(batch) > 0; batch = takeBatch(h, &h.lookups, handoverBatch) {
		for _, l := range batch {
			l.err = cause
			close(l.doneC)
		}
	}
}

// doMarks tells Redis the last that is known of each page, and says whether Redis took what must be known.
func (h *handover) doMarks(ctx context.Context, marks []mark) bool {
	last := make(map[pageKey]bool, len(marks))
	for _, m := range marks {
		last[m.page] = m.kept
	}
	var announces, withdraws []pageKey
	for page, kept := range last { // in any order
		if kept {
			announces = append(announces, page)
		} else {
			withdraws = append(withdraws, page)
		}
	}
	if !h.doAnnounces(ctx, announces) {
		return false
	}
	h.doWithdraws(ctx, withdraws)
	return true
}

func (h *handover) doAnnounces(ctx context.Context, pages []pageKey) bool {
	if len(pages) == 0 {
		return true
	}
	ctx, cancel := h.bounded(ctx)
	defer cancel()
	err := h.store.Announce(ctx, pageNames(pages), h.g.cfg.ParkFor+parkedTTLMargin)
	if err != nil {
		h.g.samples.parked.warn(h.log, "parked windows cannot be found by other gateways, trying again", "windows", len(pages), "err", err)
	}
	return err == nil
}

// doWithdraws is a kindness: who asks for what was withdrawn is told that there is nothing, and Redis forgets it by itself.
func (h *handover) doWithdraws(ctx context.Context, pages []pageKey) {
	if len(pages) == 0 {
		return
	}
	ctx, cancel := h.bounded(ctx)
	defer cancel()
	if err := h.store.Withdraw(ctx, pageNames(pages)); err != nil {
		h.g.samples.parked.warn(h.log, "windows that came back could not be withdrawn in Redis", "windows", len(pages), "err", err)
	}
}

func (h *handover) doJobs(ctx context.Context, jobs []func(context.Context)) {
	var group errgroup.Group
	group.SetLimit(handoverWriters)
	for _, do := range jobs {
		group.Go(func() error {
			ctx, cancel := h.bounded(ctx)
			defer cancel()
			do(ctx)
			h.mu.Lock()
			defer h.mu.Unlock()
			h.working--
			return nil
		})
	}
	_ = group.Wait() // the jobs return no errors
}

// send sends a note and logs what goes wrong.
func (h *handover) send(ctx context.Context, to string, n dispatch.Note) (received bool) {
	received, err := h.store.Send(ctx, to, n)
	if err != nil {
		h.g.samples.parked.warn(h.log, "note to another gateway not sent", "kind", n.Kind, "err", err)
	}
	return received
}

// busy says whether something is still to be written for another gateway.
func (h *handover) busy() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.working > 0 || len(h.trails) > 0
}

// write writes messages, held, where another gateway finds them, and says whether Redis took them.
func (h *handover) write(ctx context.Context, page pageKey, messages []*frame) error {
	texts := make([][]byte, len(messages))
	for i, f := range messages {
		texts[i] = f.text()
	}
	return h.store.Put(ctx, page.String(), texts, h.g.cfg.ParkFor+parkedTTLMargin)
}

func (h *handover) release(messages []*frame) {
	for _, f := range messages {
		f.release(h.g.outLimits.memory)
	}
}

// sweep ends trails and claims whose time is over; all trails when the gateway ends. The heartbeat goroutine calls it.
func (h *handover) sweep(now time.Time) {
	h.mu.Lock()
	var over []trail
	h.trails = slices.DeleteFunc(h.trails, func(t trail) bool {
		if t.until.After(now) {
			return false
		}
		over = append(over, t)
		return true
	})
	h.working += len(over) // endTrail is as good as a job
	for token, c := range h.claims {
		if c.until.Before(now) {
			delete(h.claims, token)
		}
	}
	h.mu.Unlock()
	for _, t := range over {
		h.endTrail(t)
	}
	h.mu.Lock()
	h.working -= len(over)
	h.mu.Unlock()
}

// endTrail sends after what arrived since the window was handed over. Most of it is known there.
func (h *handover) endTrail(t trail) {
	h.g.memberships.leave(t.w)
	messages := t.w.out.surrender(nil)
	if len(messages) == 0 {
		return
	}
	h.job(func(ctx context.Context) {
		defer h.release(messages)
		if err := h.write(ctx, t.w.page, messages); err != nil {
			h.g.lost(t.w, DroppedDrained, len(messages))
			h.g.samples.parked.warn(h.log, "messages that were under way during a hand-over were not written", "window", t.w.identity.window, "err", err)
			return
		}
		h.send(ctx, t.to, dispatch.Note{Kind: dispatch.NoteMore, Page: t.w.page.String(), Token: t.token, Messages: len(messages)})
	})
}

// leave writes what a window has missed, at the end of the gateway, for whoever claims it later.
func (h *handover) leave(w *window) {
	h.g.memberships.leave(w)
	messages := w.out.surrender(nil)
	if len(messages) == 0 {
		return
	}
	h.job(func(ctx context.Context) {
		defer h.release(messages)
		err := h.write(ctx, w.page, messages)
		if err == nil {
			err = h.store.Announce(ctx, []string{w.page.String()}, h.g.cfg.ParkFor+parkedTTLMargin)
		}
		if err != nil {
			h.g.lost(w, DroppedDrained, len(messages))
			h.g.samples.parked.warn(h.log, "what a window has missed could not be written", "window", w.identity.window, "err", err)
		}
	})
}

// framesOf are the messages that another gateway wrote.
func framesOf(texts []string, m *memory) (messages []*frame, bad int) {
	for _, text := range texts {
		if !utf8.ValidString(text) { // not by a gateway
			bad++
			continue
		}
		f := fromElsewhere(text)
		f.hold(m)
		messages = append(messages, f)
	}
	return messages, bad
}
