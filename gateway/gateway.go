package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"

	"github.com/dfws/dfws/compat"
)

// Why [Gateway.Ready] may return an error.
var (
	// ErrNotRunning is returned by Ready before Run has begun, and by Run when it is called twice.
	ErrNotRunning = errors.New("gateway: not running")
	// ErrDraining is returned by Ready once Run's context has ended.
	ErrDraining = errors.New("gateway: draining")
)

// readyTimeout bounds what Ready asks of the channel layer.
const readyTimeout = 2 * time.Second

// Phases of a Gateway, in this order.
const (
	phaseNew int32 = iota
	phaseRunning
	phaseDraining
)

// Gateway serves the windows of one site and passes other requests on. Create it with New, serve Handler with an http.Server and
// let Run do the rest.
type Gateway struct {
	cfg      Config
	log      *slog.Logger
	observer *Observer
	ports    ports

	url         string // path of the websockets
	origins     originRules
	identifier  *identifier
	native      *nativeStrategy // nil unless it is one of the identifier's
	revoked     *revocations
	hub         *hub
	memberships *memberships
	windows     windowSet
	parking     parking
	probes      probes
	handover    *handover
	admission   *admission
	proxy       http.Handler // nil without an upstream
	upgrader    websocket.Upgrader
	outLimits   outboxLimits
	frameLimits compat.FrameLimits
	samples     samplers
	headers     headerRules
	users       *parties // by user
	addresses   *parties // by client address
	stats       counters
	queued      flow          // bytes of the signals that wait for the broker
	largeFrameC chan struct{} // a token per large frame in transit: its reader sends and receives it; the capacity is the limit

	gate   sync.RWMutex // held for reading while a handshake is counted in; for writing while the phase changes
	phase  atomic.Int32
	gaps   atomic.Int64   // of the stream of revocations; its start is one
	drainC chan struct{}  // closed by Run when it begins to drain
	conns  sync.WaitGroup // handshakes, reader goroutines and those that wait for a socket to write
}

// New checks the configuration and returns a gateway. It needs no Redis to be up.
func New(cfg Config) (*Gateway, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Services == nil {
		return nil, errors.New("gateway: config: Services: missing")
	}
	p, err := realPorts(&cfg)
	if err != nil {
		return nil, err
	}
	return newGateway(cfg, p)
}

// newGateway builds a gateway on given ports. cfg has its defaults.
func newGateway(cfg Config, p ports) (*Gateway, error) {
	site := &cfg.Settings.Site
	g := &Gateway{
		cfg:         cfg,
		log:         cfg.Logger,
		observer:    &cfg.Observer,
		ports:       p,
		url:         cfg.Settings.WebSocket.URL,
		origins:     newOriginRules(site.CSRFTrustedOrigins, cfg.AllowedOrigins, site.UseXForwardedHost),
		revoked:     newRevocations(time.Now),
		hub:         newHub(),
		outLimits:   newOutboxLimits(&cfg),
		frameLimits: compat.FrameLimits{MaxBytes: cfg.MaxFrameBytes},
		samples:     newSamplers(),
		headers:     newHeaderRules(&cfg),
		users:       newParties(cfg.WindowsPerUser, cfg.UserFramesPerSecond),
		addresses:   newParties(cfg.WindowsPerAddress, cfg.UserFramesPerSecond),
		largeFrameC: make(chan struct{}, max(cfg.LargeFrameBytes/cfg.MaxFrameBytes, 1)),
		drainC:      make(chan struct{}),
	}
	g.upgrader = newUpgrader()
	g.handover = newHandover(g, p.parked)
	g.admission = newAdmission(&g.cfg, g.drainC)
	g.memberships = newMemberships(g.hub, p.receiver, cfg.ConnectTimeout, g.log)
	if err := g.chooseStrategies(); err != nil {
		return nil, err
	}
	if cfg.Upstream != nil || cfg.FindUpstream != nil {
		g.proxy = newProxy(&g.cfg, g.samples.upstream, g.drainC)
	}
	return g, nil
}

// Run does everything behind the handler until ctx ends, then drains (see doc.go, "Stopping") and returns nil. It may be called once.
func (g *Gateway) Run(ctx context.Context) error {
	if !g.enter(phaseNew, phaseRunning) {
		return ErrNotRunning
	}
	// What the windows need must outlive them: it ends when the drain says so, not with ctx.
	serveCtx, stopServing := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopServing(nil)
	serving, serveCtx := errgroup.WithContext(serveCtx)
	serving.Go(func() error { return named("receiver", g.ports.receiver.run(serveCtx, g.deliver)) })
	serving.Go(func() error { return g.memberships.run(serveCtx) })
	serving.Go(func() error { return g.runHeartbeat(serveCtx) })
	serving.Go(func() error { return g.runRecheck(serveCtx) })
	serving.Go(func() error {
		return named("revocations", g.ports.tickets.WatchRevocations(serveCtx, g.revoke))
	})
	serving.Go(func() error { return g.handover.run(serveCtx) })
	serving.Go(func() error { return named("notes", g.ports.parked.Watch(serveCtx, g.handover.hear)) })
	openCtx, stopOpening := context.WithCancel(serveCtx)
	defer stopOpening()
	serving.Go(func() error { return named("notes to all", g.ports.parked.WatchAll(openCtx, g.handover.hear)) })
	publishCtx, stopPublishing := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopPublishing(nil)
	var publishing errgroup.Group
	publishing.Go(func() error {
		err := g.ports.publisher.Run(publishCtx)
		if err != nil {
			stopServing(err) // without a publisher there is nothing to run for
		}
		return named("publisher", err)
	})

	g.log.Info("gateway runs", "url", g.url, "proxy", g.proxy != nil)
	select {
	case <-ctx.Done():
	case <-serveCtx.Done(): // one of them failed
	}
	stopOpening()
	g.drain(serveCtx)
	stopPublishing(ErrDraining) // flushes: windows have sent what they sent
	publishErr := publishing.Wait()
	g.handOver(serveCtx)
	stopServing(ErrDraining) // the receiver leaves all groups
	serveErr := serving.Wait()
	g.conns.Wait()
	g.log.Info("gateway drained", "err", errors.Join(publishErr, serveErr))
	return errors.Join(publishErr, serveErr)
}

// enter changes the phase, if it is the expected one.
func (g *Gateway) enter(from, to int32) bool {
	g.gate.Lock()
	defer g.gate.Unlock()
	return g.phase.CompareAndSwap(from, to)
}

// admit counts a handshake in; the caller must call conns.Done when its window is gone. It returns the reason if there is no admission.
func (g *Gateway) admit() *refusal {
	g.gate.RLock()
	defer g.gate.RUnlock()
	if g.phase.Load() != phaseRunning {
		return &refusal{status: http.StatusServiceUnavailable, reason: RefusedDraining, text: "the gateway is starting or stopping"}
	}
	if n := g.stats.windows.Add(1); g.cfg.MaxWindows != Off && n > int64(g.cfg.MaxWindows) {
		g.stats.windows.Add(-1)
		return &refusal{status: http.StatusServiceUnavailable, reason: RefusedFull, text: "too many windows"}
	}
	g.conns.Add(1)
	return nil
}

// release undoes admit.
func (g *Gateway) release() {
	g.stats.windows.Add(-1)
	g.conns.Done()
}

// Ready returns nil when windows can connect and their signals have somewhere to go: Run is running, the registry of signals is
// loaded, and the channel layer answers.
func (g *Gateway) Ready() error {
	switch g.phase.Load() {
	case phaseNew:
		return ErrNotRunning
	case phaseDraining:
		return ErrDraining
	}
	if err := g.ports.health.registry(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	return g.ports.health.layer(ctx)
}

// Stats is a snapshot of what a Gateway does.
type Stats struct {
	// Windows counts open windows and handshakes, Parked those without a socket that may come back, Groups the channel-layer groups with
	// at least one of them.
	Windows, Parked, Groups int
	// Refused counts handshakes that were not accepted.
	Refused uint64
	// FramesIn counts frames of browsers, Signals those that went to the publisher, PublishErrors those that it gave up.
	FramesIn, Signals, PublishErrors uint64
	// FramesOut counts frames that were written to browsers.
	FramesOut uint64
}

type counters struct {
	windows                          atomic.Int64
	refused                          atomic.Uint64
	framesIn, signals, publishErrors atomic.Uint64
	framesOut                        atomic.Uint64
}

// Stats returns the current numbers.
func (g *Gateway) Stats() Stats {
	return Stats{
		Windows:       int(g.stats.windows.Load()),
		Parked:        g.parking.len(),
		Groups:        g.hub.count(),
		Refused:       g.stats.refused.Load(),
		FramesIn:      g.stats.framesIn.Load(),
		Signals:       g.stats.signals.Load(),
		PublishErrors: g.stats.publishErrors.Load(),
		FramesOut:     g.stats.framesOut.Load(),
	}
}

// named adds a noun to an error.
func named(noun string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("gateway: %s: %w", noun, err)
}
