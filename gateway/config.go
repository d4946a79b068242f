package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/dispatch"
)

// Defaults of [Config].
const (
	// DefaultMaxWindows bounds the open windows of one gateway.
	DefaultMaxWindows = 50_000
	// DefaultMaxFrameBytes is what daphne 4.2 takes (autobahn's maxMessagePayloadSize, set in daphne/server.py).
	DefaultMaxFrameBytes = compat.DefaultMaxFrameBytes
	// DefaultLargeFrameBytes bounds the memory that large frames in transit hold together.
	DefaultLargeFrameBytes = 64 << 20
	// DefaultOutboxBytes and DefaultOutboxFrames bound what waits for one window.
	DefaultOutboxBytes  = 1 << 20
	DefaultOutboxFrames = 1000
	// DefaultPingInterval and DefaultPongTimeout are daphne's --ping-interval and --ping-timeout (daphne/cli.py, 4.2).
	DefaultPingInterval = 20 * time.Second
	DefaultPongTimeout  = 30 * time.Second
	// DefaultConnectTimeout is daphne's --websocket_connect_timeout (daphne/cli.py, 4.2).
	DefaultConnectTimeout = 5 * time.Second
	// DefaultWriteTimeout and DefaultCloseTimeout bound what a browser may delay.
	DefaultWriteTimeout = 10 * time.Second
	DefaultCloseTimeout = 5 * time.Second
	// DefaultDrainWindow spreads the reconnects of a restart.
	DefaultDrainWindow = 5 * time.Second
	// DefaultParkFor is how long a window may be without a socket. The script comes back after 3 s; one try may fail, and phones are slow.
	DefaultParkFor = 30 * time.Second
	// DefaultParkFrames and DefaultParkBytes bound what one window may miss, DefaultParkTotalBytes what all may miss together.
	DefaultParkFrames     = 500
	DefaultParkBytes      = 512 << 10
	DefaultParkTotalBytes = 256 << 20
	// DefaultMaxParked bounds the windows without a socket.
	DefaultMaxParked = 50_000
	// DefaultDrainLinger leaves a page time for two tries: 3 s each, and some for its network.
	DefaultDrainLinger = 15 * time.Second
	// DefaultHandoverTimeout is how long a handshake may wait for another gateway.
	DefaultHandoverTimeout = 2 * time.Second
	// DefaultAdmitRate, DefaultAdmitBurst and DefaultAdmitWait spread handshakes: about what one gateway can do on two cores.
	DefaultAdmitRate  = 5000
	DefaultAdmitBurst = 1000
	DefaultAdmitWait  = 2 * time.Second
	// DefaultPublishDeadline is how long a signal may wait for the broker.
	DefaultPublishDeadline = 10 * time.Second
	// DefaultPublishDrainTimeout bounds the flush at the end.
	DefaultPublishDrainTimeout = 5 * time.Second
	// DefaultSignalsInFlight bounds the signals of one window that wait for the broker.
	DefaultSignalsInFlight = 256
	// DefaultPublishMessages and DefaultPublishBytes bound the signals that wait for the broker.
	DefaultPublishMessages = 100_000
	DefaultPublishBytes    = 64 << 20
	// DefaultUpstreamDialTimeout, DefaultUpstreamHeaderTimeout and DefaultUpstreamIdleTimeout bound the application server. The
	// last is below the two seconds of gunicorn's keepalive setting: a connection that the server is closing is not reused.
	DefaultUpstreamDialTimeout   = 5 * time.Second
	DefaultUpstreamHeaderTimeout = 2 * time.Minute
	DefaultUpstreamIdleTimeout   = 1500 * time.Millisecond
	// DefaultCallbackTimeout and DefaultCallbackConcurrency bound the questions to Django about windows.
	DefaultCallbackTimeout     = 3 * time.Second
	DefaultCallbackConcurrency = 8
	// DefaultRecheckInterval is half of the second in which a logout closes a window.
	DefaultRecheckInterval = 500 * time.Millisecond
	// DefaultUpstreamIdleConns is how many idle connections to the application server are kept.
	DefaultUpstreamIdleConns = 128
)

// Off as the value of a limit or a duration that has a default switches it off.
const Off = -1

// Config is what a Gateway needs to know. Zero values mean the defaults.
type Config struct {
	// Settings are the exported settings of the Django site. Required.
	Settings *compat.Settings
	// Services are the connections to broker, channel layer and shared state. Required. The caller runs and closes them; they
	// must outlive Run.
	Services *dispatch.Services

	// Upstream is the application server that gets every other request: http, https or unix (unix:///run/gunicorn.sock), without
	// path, query and credentials. nil answers 404 to everything but windows.
	Upstream *url.URL
	// FindUpstream returns the application server of the moment, for one that moves: a URL as Upstream, or nil while there is none, which
	// answers 503. It is called for each request; connections to an earlier one get no further requests. Upstream must then be nil.
	FindUpstream func() *url.URL
	// UpstreamDialTimeout bounds connecting to Upstream. 0: 5 s.
	UpstreamDialTimeout time.Duration
	// UpstreamHeaderTimeout is how long Upstream may take to begin its answer; after it the client gets 504. 0: 2 min. Off: no limit.
	UpstreamHeaderTimeout time.Duration
	// UpstreamIdleTimeout is how long a connection to Upstream is kept for the next request. It should be below the server's own
	// keep-alive time. 0: 1.5 s.
	UpstreamIdleTimeout time.Duration
	// UpstreamIdleConns is how many such connections are kept. 0: 128.
	UpstreamIdleConns int
	// TrustForwarded keeps the X-Forwarded-… and Forwarded headers of requests and appends to X-Forwarded-For. Set it only behind
	// a proxy that writes them itself, since otherwise clients can forge their address, host and scheme. false: they are replaced.
	TrustForwarded bool
	// TrustedProxies does the same for connections from these addresses only.
	TrustedProxies []netip.Prefix
	// AllowUnderscoreHeaders passes headers with "_" in their name. WSGI cannot tell X_Forwarded_For from X-Forwarded-For, so such a
	// header forges another one; nginx and gunicorn drop them, too. false: they are dropped.
	AllowUnderscoreHeaders bool

	// Identify lists how windows are identified, in this order: the Strategy constants. A strategy that cannot decide hands over to the
	// next one. Empty: StrategyAuto.
	Identify []string
	// CallbackURL is where StrategyCallback asks Django, in the forms of Upstream. nil: Upstream.
	CallbackURL *url.URL
	// CallbackTimeout is how long Django may take for one answer. 0: 3 s.
	CallbackTimeout time.Duration
	// CallbackConcurrency bounds the questions under way; other handshakes wait. 0: 8.
	CallbackConcurrency int
	// Native is what StrategyNative asks; nil if the program has nothing like that, for the reason NoNative.
	Native   Native
	NoNative error
	// RecheckInterval is how often the users behind windows that were identified natively are checked again. 0: 500 ms.
	RecheckInterval time.Duration
	// TopicsOfOthers gives a window all topics of its page as df_websockets does, although they were bound for a user who is not
	// logged in any more. false: it gets its own topic and broadcasts. Tickets are always bound to their user.
	TopicsOfOthers bool

	// AllowedOrigins lists further origins whose pages may open windows, as in CSRF_TRUSTED_ORIGINS ("https://example.com",
	// "https://*.example.com"). "*" allows every page of the world to act as the visitor, as daphne does. The site's own host and
	// CSRF_TRUSTED_ORIGINS are always allowed.
	AllowedOrigins []string

	// Limits are those of users, addresses and pages.
	Limits
	// MaxWindows bounds the open windows, handshakes included; more get 503. 0: 50,000. Off: no limit.
	MaxWindows int
	// MaxFrameBytes bounds one message of a browser; a larger one closes the window with 1009. 0: 1 MiB.
	MaxFrameBytes int
	// LargeFrameBytes bounds what the frames that are being received hold together beyond 64 KiB each; a frame for which there is
	// no room waits. It is never less than MaxFrameBytes. 0: 64 MiB.
	LargeFrameBytes int
	// FramesPerSecond bounds how many frames per second a window's frames are handled; faster ones wait, nothing is dropped.
	// 0: no limit.
	FramesPerSecond float64
	// FramesBurst is how many frames may come at once under FramesPerSecond. 0: one second's worth, at least 10.
	FramesBurst int
	// OutboxBytes and OutboxFrames bound what waits for one window; more closes it with 4408. A frame that waits alone is never
	// too large. 0: 1 MiB and 1,000.
	OutboxBytes, OutboxFrames int

	// PingInterval is how long a window may be silent before it is pinged. 0: 20 s.
	PingInterval time.Duration
	// PongTimeout is how long it may take to answer before it is closed. 0: 30 s.
	PongTimeout time.Duration
	// ConnectTimeout bounds a handshake: identifying the window and joining the groups, together. 0: 5 s.
	ConnectTimeout time.Duration
	// WriteTimeout is how long a socket may take for 32 KiB before it is cut. 0: 10 s.
	WriteTimeout time.Duration
	// CloseTimeout is how long the browser may take to answer a close frame. 0: 5 s.
	CloseTimeout time.Duration

	// PublishDeadline is how long a signal may wait for the broker; after it its window is closed with 1013. 0: 10 s.
	PublishDeadline time.Duration
	// PublishDrainTimeout is how long, at the end, signals that wait for the broker may still go out. 0: 5 s.
	PublishDrainTimeout time.Duration
	// SignalsInFlight bounds the signals of one window that wait for the broker; its next frames are read when half of them are
	// done, within PublishDeadline. 0: 256.
	SignalsInFlight int
	// PublishMessages and PublishBytes bound the signals that wait for the broker; one more closes its window with 1013.
	// 0: 100,000 and 64 MiB.
	PublishMessages, PublishBytes int

	// DrainWindow is the time over which open windows are closed at the end, so that they do not all come back at once. 0: 5 s.
	// Off: at once.
	DrainWindow time.Duration

	// ParkFor is how long a window whose socket is gone stays in its groups and collects messages for the page's next socket. 0: 30 s.
	// Off: not at all.
	ParkFor time.Duration
	// ParkFrames and ParkBytes bound what one window collects, and what is kept until the browser is known to have it; the oldest go
	// first. They are never more than half of OutboxFrames and OutboxBytes. 0: 500 and 512 KiB.
	ParkFrames, ParkBytes int
	// ParkTotalBytes bounds the messages that all windows hold, each counted once however many windows share it. Beyond it, those without
	// a socket lose their oldest. 0: 256 MiB.
	ParkTotalBytes int
	// MaxParked bounds the windows without a socket; those that wait longest go first. 0: 50,000. Off: no limit.
	MaxParked int
	// DrainLinger is how long, after the last window was closed at the end, the gateway goes on collecting for windows that come back to
	// other gateways. It waits only if there are others. 0: 15 s. Off: not at all.
	DrainLinger time.Duration
	// HandoverTimeout is how long a handshake may wait for what another gateway keeps for its window. 0: 2 s.
	HandoverTimeout time.Duration

	// AdmitRate bounds the handshakes per second that go on to Redis, AdmitBurst those at once. Others wait for their turn, up to AdmitWait;
	// those whose turn is later get 503 with a Retry-After. 0: 5,000, 1,000 and 2 s. Off: no limit, and no waiting.
	AdmitRate, AdmitBurst int
	AdmitWait             time.Duration

	// Logger gets lifecycle and trouble; nil discards.
	Logger *slog.Logger
	// Observer gets the counts.
	Observer Observer
}

func (c Config) withDefaults() Config {
	c.UpstreamDialTimeout = cmp.Or(c.UpstreamDialTimeout, DefaultUpstreamDialTimeout)
	c.UpstreamHeaderTimeout = cmp.Or(c.UpstreamHeaderTimeout, DefaultUpstreamHeaderTimeout)
	c.UpstreamIdleTimeout = cmp.Or(c.UpstreamIdleTimeout, DefaultUpstreamIdleTimeout)
	c.UpstreamIdleConns = cmp.Or(c.UpstreamIdleConns, DefaultUpstreamIdleConns)
	c.CallbackTimeout = cmp.Or(c.CallbackTimeout, DefaultCallbackTimeout)
	c.CallbackConcurrency = cmp.Or(c.CallbackConcurrency, DefaultCallbackConcurrency)
	c.RecheckInterval = cmp.Or(c.RecheckInterval, DefaultRecheckInterval)
	if len(c.Identify) == 0 {
		c.Identify = []string{StrategyAuto}
	}
	c.MaxWindows = cmp.Or(c.MaxWindows, DefaultMaxWindows)
	c.Limits = c.Limits.withDefaults()
	c.MaxFrameBytes = cmp.Or(c.MaxFrameBytes, DefaultMaxFrameBytes)
	c.LargeFrameBytes = cmp.Or(c.LargeFrameBytes, DefaultLargeFrameBytes)
	c.FramesBurst = cmp.Or(c.FramesBurst, burst(c.FramesPerSecond))
	c.OutboxBytes = cmp.Or(c.OutboxBytes, DefaultOutboxBytes)
	c.OutboxFrames = cmp.Or(c.OutboxFrames, DefaultOutboxFrames)
	c.PingInterval = cmp.Or(c.PingInterval, DefaultPingInterval)
	c.PongTimeout = cmp.Or(c.PongTimeout, DefaultPongTimeout)
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, DefaultConnectTimeout)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, DefaultWriteTimeout)
	c.CloseTimeout = cmp.Or(c.CloseTimeout, DefaultCloseTimeout)
	c.PublishDeadline = cmp.Or(c.PublishDeadline, DefaultPublishDeadline)
	c.PublishDrainTimeout = cmp.Or(c.PublishDrainTimeout, DefaultPublishDrainTimeout)
	c.SignalsInFlight = cmp.Or(c.SignalsInFlight, DefaultSignalsInFlight)
	c.PublishMessages = cmp.Or(c.PublishMessages, DefaultPublishMessages)
	c.PublishBytes = cmp.Or(c.PublishBytes, DefaultPublishBytes)
	c.DrainWindow = cmp.Or(c.DrainWindow, DefaultDrainWindow)
	c.ParkFor = cmp.Or(c.ParkFor, DefaultParkFor)
	c.ParkFrames = cmp.Or(c.ParkFrames, DefaultParkFrames)
	c.ParkBytes = cmp.Or(c.ParkBytes, DefaultParkBytes)
	c.ParkTotalBytes = cmp.Or(c.ParkTotalBytes, DefaultParkTotalBytes)
	c.MaxParked = cmp.Or(c.MaxParked, DefaultMaxParked)
	c.DrainLinger = cmp.Or(c.DrainLinger, DefaultDrainLinger)
	c.HandoverTimeout = cmp.Or(c.HandoverTimeout, DefaultHandoverTimeout)
	c.AdmitRate = cmp.Or(c.AdmitRate, DefaultAdmitRate)
	c.AdmitBurst = cmp.Or(c.AdmitBurst, DefaultAdmitBurst)
	c.AdmitWait = cmp.Or(c.AdmitWait, DefaultAdmitWait)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// validate joins all faults. It is called after withDefaults.
func (c *Config) validate() error {
	var faults []error
	addf := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("gateway: config: "+format, args...))
	}
	if c.Settings == nil {
		addf("Settings: missing")
	} else if !strings.HasPrefix(c.Settings.WebSocket.URL, "/") {
		addf("Settings.WebSocket.URL: %q is not a path", c.Settings.WebSocket.URL)
	}
	for _, p := range c.TrustedProxies {
		if !p.IsValid() {
			addf("TrustedProxies: holds a prefix that is none")
		}
	}
	if c.FindUpstream != nil && c.Upstream != nil {
		addf("Upstream: must be nil with FindUpstream")
	}
	validateServer("Upstream", c.Upstream, addf)
	validateServer("CallbackURL", c.CallbackURL, addf)
	for _, name := range c.Identify {
		if !slices.Contains(strategyNames, name) {
			addf("Identify: %q is none of %s", name, strings.Join(strategyNames, ", "))
		}
	}
	for _, origin := range c.AllowedOrigins {
		if err := checkOriginPattern(origin); err != nil {
			addf("AllowedOrigins: %q: %w", origin, err)
		}
	}
	for _, f := range []struct {
		name   string
		value  int64
		offToo bool // Off is a value
	}{
		{"UpstreamDialTimeout", int64(c.UpstreamDialTimeout), false},
		{"UpstreamHeaderTimeout", int64(c.UpstreamHeaderTimeout), true},
		{"UpstreamIdleTimeout", int64(c.UpstreamIdleTimeout), false},
		{"UpstreamIdleConns", int64(c.UpstreamIdleConns), false},
		{"CallbackTimeout", int64(c.CallbackTimeout), false},
		{"CallbackConcurrency", int64(c.CallbackConcurrency), false},
		{"RecheckInterval", int64(c.RecheckInterval), false},
		{"MaxWindows", int64(c.MaxWindows), true},
		{"MaxFrameBytes", int64(c.MaxFrameBytes), false},
		{"LargeFrameBytes", int64(c.LargeFrameBytes), false},
		{"FramesBurst", int64(c.FramesBurst), false},
		{"OutboxBytes", int64(c.OutboxBytes), false},
		{"OutboxFrames", int64(c.OutboxFrames), false},
		{"PingInterval", int64(c.PingInterval), false},
		{"PongTimeout", int64(c.PongTimeout), false},
		{"ConnectTimeout", int64(c.ConnectTimeout), false},
		{"WriteTimeout", int64(c.WriteTimeout), false},
		{"CloseTimeout", int64(c.CloseTimeout), false},
		{"PublishDeadline", int64(c.PublishDeadline), false},
		{"PublishDrainTimeout", int64(c.PublishDrainTimeout), false},
		{"SignalsInFlight", int64(c.SignalsInFlight), false},
		{"PublishMessages", int64(c.PublishMessages), false},
		{"PublishBytes", int64(c.PublishBytes), false},
		{"DrainWindow", int64(c.DrainWindow), true},
		{"ParkFor", int64(c.ParkFor), true},
		{"ParkFrames", int64(c.ParkFrames), false},
		{"ParkBytes", int64(c.ParkBytes), false},
		{"ParkTotalBytes", int64(c.ParkTotalBytes), false},
		{"MaxParked", int64(c.MaxParked), true},
		{"DrainLinger", int64(c.DrainLinger), true},
		{"HandoverTimeout", int64(c.HandoverTimeout), false},
		{"AdmitRate", int64(c.AdmitRate), true},
		{"AdmitBurst", int64(c.AdmitBurst), false},
		{"AdmitWait", int64(c.AdmitWait), true},
	} {
		if f.value < 0 && (!f.offToo || f.value != Off) {
			addf("%s: must not be negative", f.name)
		}
	}
	c.Limits.validate(addf)
	if c.FramesPerSecond < 0 {
		addf("FramesPerSecond: must not be negative")
	}
	return errors.Join(faults...)
}

// validateServer checks the address of an application server.
func validateServer(field string, u *url.URL, addf func(string, ...any)) {
	if u == nil {
		return
	}
	switch {
	case u.User != nil:
		addf("%s: must hold no credentials", field)
	case u.RawQuery != "" || u.Fragment != "":
		addf("%s: must have no query and no fragment", field)
	case u.Scheme == "unix":
		if u.Host != "" || !strings.HasPrefix(u.Path, "/") {
			addf("%s: %q is not like unix:///run/app.sock", field, u.Redacted())
		}
	case u.Scheme != "http" && u.Scheme != "https":
		addf("%s: scheme %q is not http, https or unix", field, u.Scheme)
	case u.Host == "":
		addf("%s: host: missing", field)
	case u.Path != "" && u.Path != "/":
		addf("%s: path %q: requests keep their path, so there must be none", field, u.Path)
	}
}

// checkOriginPattern accepts what newOriginRules understands.
func checkOriginPattern(origin string) error {
	if origin == "*" {
		return nil
	}
	scheme, host, ok := strings.Cut(origin, "://")
	if !ok || scheme == "" || host == "" || strings.ContainsAny(host, "/?#@") {
		return errors.New(`is not like "https://example.com" or "https://*.example.com"`)
	}
	if strings.Contains(strings.TrimPrefix(host, "*."), "*") {
		return errors.New("only the first label may be a wildcard")
	}
	return nil
}
