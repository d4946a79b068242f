package gateway

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"
)

const (
	// readBufferSize holds the common frame in one read; larger frames are read past it.
	readBufferSize = 256
	// closeAnswerTime bounds how long a window that the browser has closed waits for its answer to be written.
	closeAnswerTime = 100 * time.Millisecond
	// retryAfter is what a refused client is told, in seconds: the script's own delay.
	retryAfter = "3"
)

// Handler returns the handler for the site's public address.
func (g *Gateway) Handler() http.Handler { return http.HandlerFunc(g.serve) }

func (g *Gateway) serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == g.url && wantsWebsocket(r):
		g.serveWindow(w, r)
	case g.proxy != nil:
		g.proxy.ServeHTTP(w, r)
	default:
		http.NotFound(w, r)
	}
}

// serveWindow turns a handshake into a window, or refuses it. The window lives on after it returns.
func (g *Gateway) serveWindow(w http.ResponseWriter, r *http.Request) {
	if no := checkHandshake(r, &g.origins); no != nil {
		g.refuse(w, r, no)
		return
	}
	if err := g.ports.health.registry(); err != nil {
		// Its signals would go to the fallback queues alone: whoever handles them on others would never hear of them.
		g.refuse(w, r, &refusal{status: http.StatusServiceUnavailable, reason: RefusedRegistry, text: "the signals of the site are not known yet"})
		return
	}
	if no := g.admission.enter(r.Context()); no != nil {
		g.refuse(w, r, no)
		return
	}
	if no := g.admit(); no != nil {
		g.refuse(w, r, no)
		return
	}
	if no := g.open(w, r); no != nil {
		g.release()
		if no.status == 0 {
			g.stats.refused.Add(1)
			g.observer.refused(no.reason)
			return // the connection is gone
		}
		g.refuse(w, r, no)
	}
}

// open identifies the window, joins its groups, answers the handshake and starts the window's goroutine. The groups come first: a
// page that sees its socket open misses no message from then on.
func (g *Gateway) open(w http.ResponseWriter, r *http.Request) (no *refusal) {
	start := time.Now()
	var s share
	defer func() {
		if no != nil {
			s.leave()
		}
	}()
	if no := g.enterAddress(&s, r); no != nil {
		return no
	}
	ctx, cancel := context.WithTimeout(r.Context(), g.cfg.ConnectTimeout)
	defer cancel()
	h := readHandshake(r, g.cfg.Settings)
	found, err := g.identifier.identify(ctx, h)
	if err != nil {
		g.samples.handshakes.warn(g.log, "handshake refused: the window could not be identified", "err", err)
		return &refusal{status: http.StatusServiceUnavailable, reason: RefusedIdentify, text: "the window cannot be identified now"}
	}
	g.observer.identified(found.outcome)
	if found.fault != nil {
		g.samples.handshakes.warn(g.log, "bad ticket, the window is anonymous", "window", found.identity.window, "err", found.fault)
	}
	if no := g.enterUser(&s, &found); no != nil {
		return no
	}
	win := g.newWindow(found.identity)
	g.setPage(win, h.windowKey, found.groups)
	elsewhere := g.handover.lookUp(win)
	win.share = s
	if err := g.memberships.join(ctx, win, found.groups); err != nil {
		g.samples.handshakes.warn(g.log, "handshake refused: the channel layer did not take the groups", "err", err)
		return &refusal{status: http.StatusServiceUnavailable, reason: RefusedJoin, text: "the channel layer does not answer now"}
	}
	var suspects []*window
	if win.canReturn() {
		suspects = g.takeOver(win)
		g.handover.takeOver(ctx, win, elsewhere)
	}
	if err := g.upgrade(w, r, win, found.cookies); err != nil {
		g.park(win) // with what it has taken over
		g.log.Debug("handshake broken", "window", win.identity.window, "err", err)
		return &refusal{reason: RefusedConnection}
	}
	g.windows.add(win)
	if g.revoked.covers(&win.identity) {
		win.close(CloseRevoked) // it came while the handshake was answered
	}
	if g.phase.Load() == phaseDraining {
		win.close(CloseGoingAway) // drain may have missed it
	}
	g.observer.opened(time.Since(start))
	g.log.Debug("window opened", "window", win.identity.window, "identified", found.outcome, "groups", len(found.groups))
	if len(suspects) > 0 {
		g.probeSuspects(win, suspects)
	} else {
		win.opened()
	}
	g.conns.Go(win.read)
	return nil
}

func (g *Gateway) newWindow(id identity) *window {
	win := &window{g: g, identity: id}
	if g.cfg.FramesPerSecond > 0 {
		win.limiter = rate.NewLimiter(rate.Limit(g.cfg.FramesPerSecond), g.cfg.FramesBurst)
	}
	return win
}

// forget removes a window whose connection ended from the open ones. Its reader calls it.
func (g *Gateway) forget(w *window) {
	if w.byBrowser && w.code.Load() != uint32(CloseAbnormal) {
		// Another goroutine may be about to write the answer to the browser's close.
		g.await(context.Background(), closeAnswerTime, func() bool { return !w.out.answering() })
	}
	w.out.cut()
	_ = w.conn.Close() // it may be closed already
	g.windows.remove(w)
	g.park(w)
	code := CloseCode(w.code.Load())
	g.observer.closed(code, w.byBrowser)
	g.log.Debug("window closed", "window", w.identity.window, "code", int(code), "by_browser", w.byBrowser)
	w.share.leave()
	g.release()
}

// newUpgrader answers handshakes that checkHandshake has let through.
func newUpgrader() websocket.Upgrader {
	return websocket.Upgrader{
		ReadBufferSize:  readBufferSize,
		WriteBufferPool: new(noBuffers),
		CheckOrigin:     func(*http.Request) bool { return true },                // checkHandshake did
		Error:           func(http.ResponseWriter, *http.Request, int, error) {}, // open answers
	}
}

// noBuffers keeps the library from giving each connection a write buffer: it never writes a message.
type noBuffers struct{}

func (*noBuffers) Get() any { return nil }
func (*noBuffers) Put(any)  {}

// hijacker lets the websocket library take over the connection while the window keeps the connection itself.
type hijacker struct {
	http.ResponseWriter
	s *socket
}

// Hijack implements http.Hijacker, also for wrapped response writers.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buf, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.s.Conn = conn
	return h.s, buf, nil
}

// errHandshake is returned by upgrade when the library refuses what checkHandshake let through.
var errHandshake = errors.New("gateway: handshake not answered")

// upgrade answers 101. After an error nothing more can be sent.
func (g *Gateway) upgrade(w http.ResponseWriter, r *http.Request, win *window, cookies []string) error {
	s := &socket{w: win}
	var header http.Header
	if len(cookies) > 0 {
		header = http.Header{"Set-Cookie": cookies}
	}
	ws, err := g.upgrader.Upgrade(&hijacker{ResponseWriter: w, s: s}, r, header)
	if err != nil {
		if s.Conn == nil {
			http.Error(w, errHandshake.Error(), http.StatusInternalServerError)
		}
		return err
	}
	s.open = true
	win.conn, win.ws = s.Conn, ws
	if sc, ok := s.Conn.(syscall.Conn); ok {
		if win.raw, err = sc.SyscallConn(); err != nil {
			win.raw = nil // flushWaiting needs none
		}
	}
	ws.SetPingHandler(win.onPing)
	ws.SetPongHandler(win.onPong)
	ws.SetCloseHandler(win.onClose)
	return nil
}
