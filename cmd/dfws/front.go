package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dfws/dfws/cmd/internal/app"
	"github.com/dfws/dfws/cmd/internal/appserver"
	"github.com/dfws/dfws/cmd/internal/listener"
	"github.com/dfws/dfws/cmd/internal/staticfiles"
	"github.com/dfws/dfws/compat"
)

// frontOptions are the options of what stands before and behind the gateway: TLS, load balancers, static files, the application server.
type frontOptions struct {
	exec                 appserver.Config
	static               bool
	staticMaxAge         time.Duration
	tlsCerts, tlsKeys    app.List
	proxyProtocol, pprof bool
	trustedProxies       app.List
}

func (o *frontOptions) define(set *flag.FlagSet) {
	set.StringVar(&o.exec.Command, "exec", "", "`command` of Django's HTTP server, which the gateway then starts, watches and replaces; {socket} in it is where it must listen")
	set.StringVar(&o.exec.ReadyPath, "exec-ready-path", appserver.DefaultReadyPath, "`path` that is asked for to see whether it answers")
	set.DurationVar(&o.exec.StartTimeout, "exec-start-timeout", appserver.DefaultStartTimeout, "how long it may take to answer after its start")
	set.DurationVar(&o.exec.StopTimeout, "exec-stop-timeout", appserver.DefaultStopTimeout, "how long it may take to end after SIGTERM; then it is killed")
	set.IntVar(&o.exec.StartAttempts, "exec-start-attempts", appserver.DefaultStartAttempts, "starts that may fail before it has ever answered; then the gateway ends")
	set.Int64Var(&o.exec.MaxMemory, "exec-max-memory", 0, "`bytes` that its processes may hold together before it is replaced; 0: no limit")
	set.DurationVar(&o.exec.MaxAge, "exec-max-age", 0, "time after which it is replaced; 0: never")
	set.BoolVar(&o.static, "static", false, "serve STATIC_ROOT below STATIC_URL")
	set.DurationVar(&o.staticMaxAge, "static-max-age", staticfiles.DefaultMaxAge, "how long static files without a hash in their name may be cached; 0: not without asking")
	set.Var(&o.tlsCerts, "tls-cert", "`file` with a certificate and its chain (PEM); several for several names")
	set.Var(&o.tlsKeys, "tls-key", "`file` with its key; as many, in the same order")
	set.BoolVar(&o.proxyProtocol, "proxy-protocol", false, "connections from --trusted-proxy begin with a PROXY header (version 1 or 2)")
	set.Var(&o.trustedProxies, "trusted-proxy", "`address` or network of proxies whose X-Forwarded-… headers, and PROXY headers, are believed")
	set.BoolVar(&o.pprof, "pprof", false, "Go's profiles at /debug/pprof/ of the admin address")
}

// front is what the options have become.
type front struct {
	log        *slog.Logger
	app        *appserver.Supervisor // nil without --exec
	files      *staticfiles.Files    // nil without --static
	certs      *listener.Certificates
	balancers  []netip.Prefix // nil without --proxy-protocol
	badBalance func()         // counts wrong PROXY headers
}

// newFront checks the options and opens what they name.
func newFront(o *gatewayOptions, settings *compat.Settings, metrics *app.Metrics, log *slog.Logger) (*front, error) {
	f := &front{log: log, badBalance: metrics.ProxyHeaderRefused}
	var faults []error
	fault := func(option string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", option, err))
		}
	}
	var err error
	o.TrustedProxies, err = parsePrefixes(o.trustedProxies)
	fault("trusted-proxy", err)
	if o.proxyProtocol {
		f.balancers = o.TrustedProxies
		if len(o.trustedProxies) == 0 {
			fault("proxy-protocol", errors.New("needs --trusted-proxy: the addresses of the load balancers"))
		}
	}
	if o.pprof && o.admin == "" {
		fault("pprof", errors.New("needs --admin"))
	}
	if o.exec.Command != "" {
		fault("exec", f.newAppServer(o, settings, metrics))
	}
	if len(o.tlsCerts) != len(o.tlsKeys) {
		fault("tls-key", fmt.Errorf("%d keys for %d certificates", len(o.tlsKeys), len(o.tlsCerts)))
	} else if len(o.tlsCerts) > 0 {
		pairs := make([]listener.Pair, len(o.tlsCerts))
		for i := range pairs {
			pairs[i] = listener.Pair{Cert: o.tlsCerts[i], Key: o.tlsKeys[i]}
		}
		f.certs, err = listener.LoadCertificates(pairs, log)
		fault("tls-cert", err)
	}
	if o.static {
		if o.staticMaxAge == 0 {
			o.staticMaxAge = -1
		}
		f.files, err = staticfiles.New(staticfiles.Config{URL: settings.Site.StaticURL, Root: settings.Site.StaticRoot, MaxAge: o.staticMaxAge,
			Logger: log, Served: metrics.StaticServed})
		fault("static", err)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func (f *front) newAppServer(o *gatewayOptions, settings *compat.Settings, metrics *app.Metrics) (err error) {
	if o.upstream != "" {
		return errors.New("cannot be combined with --upstream: the gateway chooses where the server that it starts listens")
	}
	o.exec.ReadyHost, o.exec.Logger, o.exec.Observer = readyHost(settings.Site.AllowedHosts), f.log, metrics.AppServer
	if f.app, err = appserver.New(o.exec); err != nil {
		return err
	}
	o.FindUpstream = f.app.Upstream
	return nil
}

// readyHost is a host that Django takes: the first of ALLOWED_HOSTS that names one.
func readyHost(allowed []string) string {
	for _, host := range allowed {
		if host = strings.TrimPrefix(host, "."); host != "" && host != "*" {
			return host
		}
	}
	return "localhost"
}

// parsePrefixes reads networks and single addresses.
func parsePrefixes(texts []string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	var faults []error
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if addr, addrErr := netip.ParseAddr(text); addrErr == nil && addr.Zone() == "" {
			prefix, err = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%q is neither an address nor a network like 10.0.0.0/8", text))
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes, errors.Join(faults...)
}

func (f *front) close() error {
	if f.files == nil {
		return nil
	}
	return f.files.Close()
}

// ready is nil when pages can be served as well as windows.
func (f *front) ready(gateway func() error) func() error {
	if f.app == nil {
		return gateway
	}
	return func() error { return errors.Join(gateway(), f.app.Ready()) }
}

// server is the one for browsers.
func (f *front) server(gateway http.Handler) *http.Server {
	return &http.Server{Handler: f.handler(gateway), ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes, ErrorLog: app.HTTPErrors(f.log)}
}

// handler puts the static files beside the gateway.
func (f *front) handler(gateway http.Handler) http.Handler {
	if f.files == nil {
		return gateway
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, f.files.Prefix()) {
			gateway.ServeHTTP(w, r)
			return
		}
		if len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1) {
			w.Header().Set("Connection", "close") // two servers could see its end in different places; the gateway does the same
		}
		f.files.ServeHTTP(w, r)
	})
}

// runAppServer starts the application server, if there is one. giveUp is called when it cannot be started at all. The function that it
// returns stops it, waits for its end and returns its error.
func (f *front) runAppServer(ctx context.Context, giveUp context.CancelCauseFunc) (stop func() error) {
	if f.app == nil {
		return func() error { return nil }
	}
	ctx, cancel := context.WithCancel(ctx)
	var group errgroup.Group
	group.Go(func() error {
		err := f.app.Run(ctx)
		if err != nil {
			giveUp(err)
		}
		return err
	})
	return func() error {
		cancel()
		return group.Wait()
	}
}

// serve serves on l until the server is shut down.
func (f *front) serve(server *http.Server, l net.Listener) error {
	if f.balancers != nil {
		l = listener.WithProxyProtocol(l, f.balancers, func(peer net.Addr, err error) {
			f.badBalance()
			f.log.Debug("connection without a right PROXY header", "peer", peer.String(), "err", err)
		})
	}
	if f.certs == nil {
		return server.Serve(l)
	}
	server.TLSConfig = f.certs.Config()
	return server.ServeTLS(l, "", "")
}

// watch starts what runs until ctx ends: the certificates' watcher, and reload at each OS signal SIGHUP.
func (f *front) watch(ctx context.Context, group *errgroup.Group, reloadC <-chan os.Signal) {
	if f.certs != nil {
		group.Go(func() error {
			f.certs.Watch(ctx)
			return nil
		})
	}
	group.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-reloadC:
				f.reload()
			}
		}
	})
}

// reload reads the certificates anew and replaces the application server. Static files need none: they are looked at all the time.
func (f *front) reload() {
	f.log.Info("reload", "certificates", f.certs != nil, "app_server", f.app != nil)
	if f.certs != nil {
		if err := f.certs.Reload(); err != nil {
			f.log.Error("certificates cannot be read; those from before stay", "err", err)
		}
	}
	if f.app != nil {
		f.app.Reload()
	}
}
