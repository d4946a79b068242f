package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dfws/dfws/cmd/internal/app"
	"github.com/dfws/dfws/compat/dispatch"
	_ "github.com/dfws/dfws/compat/djangodb/mysql"    // where a site keeps its sessions and users
	_ "github.com/dfws/dfws/compat/djangodb/postgres" // likewise
	_ "github.com/dfws/dfws/compat/djangodb/sqlite"   // likewise
	"github.com/dfws/dfws/compat/djangonative"
	"github.com/dfws/dfws/gateway"
)

// Timeouts of the front HTTP server. Bodies have none: uploads and streams take as long as they take.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 75 * time.Second
	maxHeaderBytes    = 64 << 10
	// shutdownTimeout is how long requests under way may take after the windows are gone.
	shutdownTimeout = 10 * time.Second
)

// gatewayOptions are the options of `dfws gateway`; README.md has the same table.
type gatewayOptions struct {
	settings, listen, upstream, admin string
	identify, callback                string
	logFormat, logLevel               string
	printConfig                       bool
	origins                           app.List
	frontOptions
	gateway.Config
}

func newGatewayOptions(env environment) (*app.Options, *gatewayOptions) {
	options, o := app.NewOptions("dfws gateway", env.stderr), &gatewayOptions{}
	set := options.Set
	set.StringVar(&o.settings, "settings", "", "`file` that `manage.py dfws settings --output FILE` wrote")
	set.StringVar(&o.listen, "listen", "127.0.0.1:8000", "`address` for browsers")
	set.StringVar(&o.upstream, "upstream", "", "`URL` of Django's HTTP server: http, https or unix:///path; empty: 404 for everything but windows")
	set.StringVar(&o.admin, "admin", "", "`address` of /healthz, /readyz and /metrics; empty: none. Keep it from the outside")
	set.StringVar(&o.logFormat, "log-format", "text", "text or json")
	set.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	set.BoolVar(&o.printConfig, "print-config", false, "print every option, its value and where it came from, and end")
	set.Var(&o.origins, "allow-origin", "further `origin` whose pages may open windows (https://example.com, https://*.example.com); * for all, as daphne")
	set.StringVar(&o.identify, "identify", gateway.StrategyAuto, "how windows are identified, in this order, comma-separated: ticket, callback, native, anonymous; auto: what the site allows")
	set.StringVar(&o.callback, "callback", "", "`URL` of the Django server that is asked about windows, as upstream; empty: upstream")
	set.DurationVar(&o.CallbackTimeout, "callback-timeout", gateway.DefaultCallbackTimeout, "how long Django may take for an answer about a window")
	set.IntVar(&o.CallbackConcurrency, "callback-concurrency", gateway.DefaultCallbackConcurrency, "questions to Django under way; other handshakes wait")
	set.DurationVar(&o.RecheckInterval, "recheck", gateway.DefaultRecheckInterval, "how often the users behind windows that were identified natively are checked again")
	set.BoolVar(&o.TopicsOfOthers, "topics-of-others", false, "windows keep topics that were bound for a user who is not logged in any more, as daphne")
	set.BoolVar(&o.TrustForwarded, "trust-forwarded", false, "keep X-Forwarded-… of requests: only behind a proxy that sets them itself")
	set.BoolVar(&o.AllowUnderscoreHeaders, "allow-underscore-headers", false, "pass headers with _ in their name on to Django")
	set.IntVar(&o.MaxWindows, "max-windows", gateway.DefaultMaxWindows, "open windows; more get 503; -1: no limit")
	set.IntVar(&o.MaxFrameBytes, "max-frame-bytes", gateway.DefaultMaxFrameBytes, "one frame of a browser; a larger one closes its window with 1009")
	set.IntVar(&o.LargeFrameBytes, "large-frames-bytes", gateway.DefaultLargeFrameBytes, "what frames over 64 KiB may hold together while they arrive; others wait")
	set.IntVar(&o.WindowsPerUser, "windows-per-user", gateway.DefaultWindowsPerUser, "windows of one logged-in user; more get 429; -1: no limit")
	set.IntVar(&o.WindowsPerAddress, "windows-per-address", gateway.DefaultWindowsPerAddress, "windows of one public address (IPv6: /64); more get 429; -1: no limit")
	set.IntVar(&o.TopicsPerWindow, "topics-per-window", gateway.DefaultTopicsPerWindow, "topics of one page; the window of one with more gets 403; -1: no limit")
	set.DurationVar(&o.FrameTimeout, "frame-timeout", gateway.DefaultFrameTimeout, "how long a frame over 4 KiB may take to arrive; then its window is closed with 1008")
	set.DurationVar(&o.MaxDelay, "max-delay", gateway.DefaultMaxDelay, "countdown and expires that a browser may choose; a signal with more is ignored; 0: no limit")
	set.Float64Var(&o.UserFramesPerSecond, "user-frames-per-second", 0, "frames of all windows of a user, or of an address, that are handled per second; 0: no limit")
	set.Float64Var(&o.FramesPerSecond, "frames-per-second", 0, "frames of one window that are handled per second, faster ones wait; 0: no limit")
	set.IntVar(&o.OutboxBytes, "outbox-bytes", gateway.DefaultOutboxBytes, "what may wait for one window; more closes it with 4408")
	set.IntVar(&o.OutboxFrames, "outbox-frames", gateway.DefaultOutboxFrames, "frames that may wait for one window")
	set.DurationVar(&o.PingInterval, "ping-interval", gateway.DefaultPingInterval, "silence after which a window is pinged")
	set.DurationVar(&o.PongTimeout, "ping-timeout", gateway.DefaultPongTimeout, "time for its answer")
	set.DurationVar(&o.PublishDeadline, "publish-deadline", gateway.DefaultPublishDeadline, "how long a signal may wait for the broker; then its window is closed with 1013")
	set.IntVar(&o.SignalsInFlight, "signals-in-flight", gateway.DefaultSignalsInFlight, "signals of one window that may wait for the broker; its next frames wait")
	set.IntVar(&o.PublishMessages, "publish-queue", gateway.DefaultPublishMessages, "signals that may wait for the broker")
	set.IntVar(&o.PublishBytes, "publish-queue-bytes", gateway.DefaultPublishBytes, "their bytes")
	set.DurationVar(&o.UpstreamHeaderTimeout, "upstream-timeout", gateway.DefaultUpstreamHeaderTimeout, "how long Django may take to begin an answer; then 504")
	set.DurationVar(&o.DrainWindow, "drain", gateway.DefaultDrainWindow, "time over which windows are closed after SIGTERM")
	o.define(set)
	set.DurationVar(&o.ParkFor, "park", gateway.DefaultParkFor, "how long a window without a socket collects messages for the page's next one; 0: not at all")
	set.IntVar(&o.ParkFrames, "park-frames", gateway.DefaultParkFrames, "messages that one window may collect; the oldest go first")
	set.IntVar(&o.ParkBytes, "park-bytes", gateway.DefaultParkBytes, "their bytes")
	set.IntVar(&o.ParkTotalBytes, "park-total-bytes", gateway.DefaultParkTotalBytes, "messages that all windows hold, each counted once")
	set.IntVar(&o.MaxParked, "max-parked", gateway.DefaultMaxParked, "windows without a socket; those that wait longest go first; -1: no limit")
	set.DurationVar(&o.DrainLinger, "drain-linger", gateway.DefaultDrainLinger, "time after the drain to hand windows over to other gateways, if there are any; 0: none")
	set.IntVar(&o.AdmitRate, "admit-rate", gateway.DefaultAdmitRate, "new windows per second; more wait, and then get 503; -1: no limit")
	set.IntVar(&o.AdmitBurst, "admit-burst", gateway.DefaultAdmitBurst, "new windows at once")
	set.DurationVar(&o.AdmitWait, "admit-wait", gateway.DefaultAdmitWait, "how long a new window may wait for its turn; 0: not at all")
	return options, o
}

func runGateway(ctx context.Context, args []string, env environment) error {
	options, o := newGatewayOptions(env)
	if err := options.Parse(args, env.lookupEnv); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usageError{err}
	}
	logger, err := app.NewLogger(env.stderr, o.logFormat, o.logLevel)
	if err != nil {
		return usageError{err}
	}
	if o.settings == "" {
		return usageError{errors.New("--settings FILE is needed: `manage.py dfws settings --output FILE` writes it")}
	}
	settings, fromFile, err := app.LoadSettings(o.settings, "gateway", logger)
	if err != nil {
		return usageError{err}
	}
	if err := options.ApplyFile(fromFile); err != nil {
		return usageError{err}
	}
	if o.printConfig {
		return options.Print(env.stdout)
	}
	if err := writtenZeros(options, o); err != nil {
		return usageError{err}
	}
	if o.Upstream, err = parseServer("upstream", o.upstream); err != nil {
		return usageError{err}
	}
	if o.CallbackURL, err = parseServer("callback", o.callback); err != nil {
		return usageError{err}
	}
	var strategies app.List
	if err := strategies.Set(o.identify); err != nil {
		return usageError{err}
	}
	o.Identify = strategies
	if logger, err = app.NewLogger(env.stderr, o.logFormat, o.logLevel); err != nil { // the settings file may have changed them
		return usageError{err}
	}
	app.QuietRedis(logger)
	app.TuneRuntime(env.lookupEnv)
	metrics := app.NewMetrics()
	services, err := dispatch.Connect(ctx, dispatch.ServicesConfig{Settings: settings, Logger: logger,
		Observers: dispatch.Observers{Dispatch: metrics.Dispatch, Broker: metrics.Broker, Layer: metrics.Layer}})
	if err != nil {
		return usageError{err}
	}
	f, err := newFront(o, settings, metrics, logger)
	if err != nil {
		return usageError{errors.Join(err, services.Close())}
	}
	o.Settings, o.Services, o.Logger, o.Observer, o.AllowedOrigins = settings, services, logger, metrics.Gateway, o.origins
	reader, err := djangonative.Open(djangonative.Config{Settings: settings})
	if err == nil {
		o.Native = reader
	}
	o.NoNative = err // for a strategy that nobody may have asked for
	gw, err := gateway.New(o.Config)
	if err == nil {
		err = serveGateway(ctx, o, gw, f, app.AdminHandler(f.ready(gw.Ready), metrics.Registry, o.pprof), env.reloadC)
	} else {
		err = usageError{err}
	}
	if reader != nil {
		err = errors.Join(err, reader.Close())
	}
	return errors.Join(err, f.close(), services.Close())
}

// writtenZeros gives a zero that an operator has written its meaning, or refuses it: gateway.Config would take it for the default.
func writtenZeros(options *app.Options, o *gatewayOptions) error {
	if o.DrainWindow == 0 {
		o.DrainWindow = gateway.Off // at once
	}
	for _, d := range []*time.Duration{&o.ParkFor, &o.DrainLinger, &o.AdmitWait} {
		if *d == 0 {
			*d = gateway.Off
		}
	}
	if o.UpstreamHeaderTimeout == 0 {
		o.UpstreamHeaderTimeout = gateway.Off // no limit
	}
	if o.MaxDelay == 0 {
		o.MaxDelay = gateway.Off // no limit
	}
	var faults []error
	options.Set.VisitAll(func(f *flag.Flag) {
		value, ok := f.Value.(flag.Getter)
		if !ok || f.Value.String() == f.DefValue {
			return
		}
		if v := value.Get(); v == 0 || v == time.Duration(0) {
			faults = append(faults, fmt.Errorf("%s: must not be 0", f.Name))
		}
	})
	return errors.Join(faults...)
}

// parseServer reads the address of an application server; nil for none.
func parseServer(option, text string) (*url.URL, error) {
	if text == "" {
		return nil, nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: not a URL", option) // the text may hold a password
	}
	return u, nil
}

// serveGateway runs everything until ctx ends, then stops it in this order: the gateway drains (new websockets get 503, open
// windows are closed, their signals are written), then HTTP requests under way end, then the application server, and at last the admin
// server and the watchers stop, so that probes see the drain.
func serveGateway(ctx context.Context, o *gatewayOptions, gw *gateway.Gateway, f *front, admin http.Handler, reloadC <-chan os.Signal) error {
	listener, err := listen(ctx, "listen", o.listen)
	if err != nil {
		return err
	}
	logger := o.Logger
	behind, stopBehind := context.WithCancel(context.WithoutCancel(ctx)) // what outlives the drain
	defer stopBehind()
	var group errgroup.Group
	if o.admin != "" {
		adminListener, err := listen(ctx, "admin", o.admin)
		if err != nil {
			return errors.Join(err, listener.Close())
		}
		group.Go(func() error {
			err := app.ServeAdmin(behind, adminListener, admin)
			if err != nil {
				logger.Error("the admin address is lost; the gateway goes on without probes and metrics", "err", err)
			}
			return err
		})
		logger.Info("admin address", "addr", adminListener.Addr().String())
	}
	group.Go(func() error { return o.Services.Run(behind) })
	group.Go(func() error {
		app.ReturnMemory(behind)
		return nil
	})
	f.watch(behind, &group, reloadC)

	runCtx, cancelRun := context.WithCancelCause(ctx)
	defer cancelRun(nil)
	stopAppServer := f.runAppServer(behind, cancelRun)
	server := f.server(gw.Handler())
	group.Go(func() error {
		err := f.serve(server, listener)
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		cancelRun(err)
		return fmt.Errorf("listen: %w", err)
	})
	logger.Info("gateway listens", "addr", listener.Addr().String(), "tls", f.certs != nil, "websocket", o.Settings.WebSocket.URL,
		"upstream", o.upstream, "exec", o.exec.Command, "version", version)
	runErr := gw.Run(runCtx)
	grace, cancel := context.WithTimeout(behind, shutdownTimeout)
	defer cancel()
	shutdownErr := server.Shutdown(grace)
	if errors.Is(shutdownErr, context.DeadlineExceeded) {
		logger.Warn("requests were still under way at the end and are cut", "after", shutdownTimeout)
		shutdownErr = server.Close()
	}
	appErr := stopAppServer()
	stopBehind()
	return errors.Join(runErr, shutdownErr, appErr, group.Wait())
}

func listen(ctx context.Context, option, address string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s: %w", option, err)}
	}
	return l, nil
}
