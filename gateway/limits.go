package gateway

import (
	"cmp"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/dfws/dfws/compat"
)

// Defaults of [Limits].
const (
	DefaultWindowsPerUser    = 200
	DefaultWindowsPerAddress = 2000
	DefaultTopicsPerWindow   = 1000
	DefaultFrameTimeout      = 30 * time.Second
	// DefaultMaxDelay is the visibility timeout of kombu's Redis transport (kombu 5.7, transport/redis.py): Celery's workers get a task
	// that waits for longer a second time.
	DefaultMaxDelay = time.Hour
)

// Limits bound what one visitor can take from the others. What a window may do alone is in [Config] itself.
type Limits struct {
	// WindowsPerUser bounds the windows of one logged-in user; one more gets 429. 0: 200. Off: no limit.
	WindowsPerUser int
	// WindowsPerAddress bounds the windows of one client address, of one /64 with IPv6; one more gets 429. The address is what a trusted
	// proxy says, else the other end of the connection. Loopback and private addresses are those of proxies and are not
	// counted. 0: 2,000. Off: no limit.
	WindowsPerAddress int
	// TopicsPerWindow bounds the topics that a page may have bound; the window of one with more gets 403. 0: 1,000. Off: no limit but the
	// ticket's (10,000).
	TopicsPerWindow int
	// UserFramesPerSecond bounds how many frames per second of all windows of one user are handled, of all visitors at one address
	// who are not logged in; faster ones wait. 0: no limit.
	UserFramesPerSecond float64
	// FrameTimeout bounds the time to the end of a frame of more than 4 KiB, and the time that a large one waits for room; a window that
	// takes longer is closed with 1008. 0: 30 s.
	FrameTimeout time.Duration
	// MaxDelay bounds the countdown and the expires that a browser may choose for a signal; one with more is ignored. 0: an hour. Off: no limit.
	MaxDelay time.Duration
}

func (l Limits) withDefaults() Limits {
	l.WindowsPerUser = cmp.Or(l.WindowsPerUser, DefaultWindowsPerUser)
	l.WindowsPerAddress = cmp.Or(l.WindowsPerAddress, DefaultWindowsPerAddress)
	l.TopicsPerWindow = cmp.Or(l.TopicsPerWindow, DefaultTopicsPerWindow)
	l.FrameTimeout = cmp.Or(l.FrameTimeout, DefaultFrameTimeout)
	l.MaxDelay = cmp.Or(l.MaxDelay, DefaultMaxDelay)
	return l
}

func (l *Limits) validate(addf func(string, ...any)) {
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"WindowsPerUser", int64(l.WindowsPerUser)},
		{"WindowsPerAddress", int64(l.WindowsPerAddress)},
		{"TopicsPerWindow", int64(l.TopicsPerWindow)},
		{"MaxDelay", int64(l.MaxDelay)},
	} {
		if f.value < 0 && f.value != Off {
			addf("%s: must not be negative", f.name)
		}
	}
	if l.FrameTimeout < 0 {
		addf("FrameTimeout: must not be negative")
	}
	if l.UserFramesPerSecond < 0 {
		addf("UserFramesPerSecond: must not be negative")
	}
}

// burst is how many frames may come at once.
func burst(perSecond float64) int { return max(10, int(perSecond)) }

// controlsPerSecond bounds the pings and pongs of one window. No client needs more than a few: one that sends more is closed with 1008.
const controlsPerSecond = 1000

// controls counts the pings and pongs of a window. Reader goroutine only.
type controls struct {
	second int64 // Unix time
	n      int32 // in it
}

// countControl returns an error, which ends the reader, for a window that floods the gateway with pings or pongs.
func (w *window) countControl() error {
	if second := time.Now().Unix(); second != w.controls.second {
		w.controls = controls{second: second}
	}
	if w.controls.n++; w.controls.n <= controlsPerSecond {
		return nil
	}
	w.g.countFrame(FrameControlFlood)
	w.close(ClosePolicy)
	return ClosePolicy
}

// parties are those whose windows are counted together: users, or addresses. One without a window is forgotten.
type parties struct {
	mu    sync.Mutex
	limit int     // of windows; Off: none
	rate  float64 // of frames; 0: none
	all   map[string]*party
}

// party is one of them. Its windows share it.
type party struct {
	of      *parties
	key     string
	windows int           // guarded by of.mu
	limiter *rate.Limiter // nil without a rate
}

func newParties(limit int, perSecond float64) *parties {
	return &parties{limit: limit, rate: perSecond, all: map[string]*party{}}
}

// enter counts a window; false when the party has its limit of them. The empty key is nobody, who has no limit.
func (ps *parties) enter(key string) (*party, bool) {
	if key == "" || (ps.limit == Off && ps.rate == 0) {
		return nil, true
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.all[key]
	if p == nil {
		p = &party{of: ps, key: strings.Clone(key)}
		if ps.rate > 0 {
			p.limiter = rate.NewLimiter(rate.Limit(ps.rate), burst(ps.rate))
		}
		ps.all[p.key] = p
	}
	if ps.limit != Off && p.windows >= ps.limit {
		return nil, false
	}
	p.windows++
	return p, true
}

// leave undoes enter.
func (p *party) leave() {
	if p == nil {
		return
	}
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	if p.windows--; p.windows == 0 {
		delete(p.of.all, p.key)
	}
}

// share is what one window takes of the limits of its user and its address.
type share struct{ address, user *party }

func (s *share) leave() {
	s.address.leave()
	s.user.leave()
	*s = share{}
}

// limiter is that of the user, or of the address of a visitor who is not logged in; nil for none.
func (s *share) limiter() *rate.Limiter {
	switch {
	case s.user != nil:
		return s.user.limiter
	case s.address != nil:
		return s.address.limiter
	default:
		return nil
	}
}

// enterAddress counts a handshake before anything is asked about it.
func (g *Gateway) enterAddress(s *share, r *http.Request) *refusal {
	var ok bool
	if s.address, ok = g.addresses.enter(g.headers.addressKey(r)); !ok {
		return &refusal{status: http.StatusTooManyRequests, reason: RefusedAddress, text: "too many windows of this address"}
	}
	return nil
}

// enterUser counts a window once it is known whose it is.
func (g *Gateway) enterUser(s *share, found *identified) *refusal {
	if most := g.cfg.TopicsPerWindow; most != Off && len(found.groups) > most {
		g.samples.handshakes.warn(g.log, "handshake refused: the page has bound too many topics", "window", found.identity.window,
			"topics", len(found.groups), "limit", most)
		return &refusal{status: http.StatusForbidden, reason: RefusedTopics, text: "too many topics"}
	}
	var ok bool
	if s.user, ok = g.users.enter(found.identity.user); !ok {
		return &refusal{status: http.StatusTooManyRequests, reason: RefusedUser, text: "too many windows of this user"}
	}
	return nil
}

// tooLate says whether a browser asks for more delay than the site allows.
func (g *Gateway) tooLate(f *compat.ClientFrame) bool {
	most := g.cfg.MaxDelay
	return most != Off && (f.Countdown > most || f.Expires > most)
}

// addressKey names the client whose windows are counted together; "" for one that is not counted.
func (rules *headerRules) addressKey(r *http.Request) string {
	addr := rules.client(r)
	switch {
	case !addr.IsValid(), addr.IsLoopback(), addr.IsPrivate(), addr.IsLinkLocalUnicast():
		return ""
	case addr.Is6(): // a network that one subscriber gets
		prefix, _ := addr.Prefix(64) // fails only for more than 128 bits
		return prefix.String()
	default:
		return addr.String()
	}
}

// client is the address of the browser's side: what trusted proxies say in X-Forwarded-For, from the right to the first that is none of
// them; else the other end of the connection. Anything else in that header is the client's to write.
func (rules *headerRules) client(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	client := plainAddr(peer.Addr())
	if !rules.trusts(r) {
		return client
	}
	hops := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop, err := netip.ParseAddr(strings.Trim(strings.TrimSpace(hops[i]), "[]"))
		if err != nil {
			break // the proxy before it did not know either
		}
		client = plainAddr(hop)
		if !rules.isTrusted(client) {
			break
		}
	}
	return client
}

func plainAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// isTrusted says whether an address is one of the listed proxies.
func (rules *headerRules) isTrusted(a netip.Addr) bool {
	for _, p := range rules.trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
