package gateway

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"slices"
	"strings"
)

// headerRules decide which headers of a request reach the application server. Go's reverse proxy has removed the hop-by-hop
// headers before (RFC 9110, section 7.6.1), those that a Connection header names included.
type headerRules struct {
	trustAll         bool           // Config.TrustForwarded
	trusted          []netip.Prefix // Config.TrustedProxies
	allowUnderscores bool
	secureName       string // header of SECURE_PROXY_SSL_HEADER in canonical form, "" if unset
	secureValue      string
}

// newHeaderRules also reads Django's SECURE_PROXY_SSL_HEADER: what Django believes, only we may say.
func newHeaderRules(cfg *Config) headerRules {
	rules := headerRules{trustAll: cfg.TrustForwarded, trusted: cfg.TrustedProxies, allowUnderscores: cfg.AllowUnderscoreHeaders}
	if pair := cfg.Settings.Site.SecureProxySSLHeader; len(pair) == 2 {
		name := strings.TrimPrefix(pair[0], "HTTP_") // a WSGI META name
		rules.secureName = http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
		rules.secureValue = pair[1]
	}
	return rules
}

// forwardedHeaders are those that tell an application server who its client is, beside X-Forwarded-….
var forwardedHeaders = []string{"Forwarded", "X-Real-Ip"}

func (rules *headerRules) apply(r *httputil.ProxyRequest) {
	trusted := rules.trusts(r.In)
	rules.dropForged(r.Out.Header, trusted)
	if trusted {
		rules.keepForwarded(r)
		return
	}
	r.SetXForwarded()
	if rules.secureName == "" || rules.secureName == "X-Forwarded-Proto" {
		return
	}
	if r.In.TLS != nil {
		r.Out.Header.Set(rules.secureName, rules.secureValue)
	}
}

// trusts says whether the other end of the connection is a proxy that tells the truth about its client.
func (rules *headerRules) trusts(r *http.Request) bool {
	if rules.trustAll {
		return true
	}
	if len(rules.trusted) == 0 {
		return false
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && slices.ContainsFunc(rules.trusted, func(p netip.Prefix) bool { return p.Contains(peer.Addr().Unmap().WithZone("")) })
}

// dropForged removes what a client may not say.
func (rules *headerRules) dropForged(h http.Header, trusted bool) {
	for name := range h {
		if !rules.allowUnderscores && strings.Contains(name, "_") {
			delete(h, name)
			continue
		}
		// With underscores allowed, they count as what WSGI makes of them. A proxy before us that is trusted writes hyphens, and may
		// have let the others through.
		plain := http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
		if strings.HasPrefix(plain, ownHeaders) || rules.says(plain) && (!trusted || plain != name) {
			delete(h, name)
		}
	}
}

// says is about the headers that tell an application server who its client is and how it came.
func (rules *headerRules) says(name string) bool {
	return strings.HasPrefix(name, "X-Forwarded-") || slices.Contains(forwardedHeaders, name) || (name == rules.secureName && name != "")
}

// keepForwarded restores what the proxy before us wrote and appends the address of that proxy; what it left out is ours to say.
func (rules *headerRules) keepForwarded(r *httputil.ProxyRequest) {
	in, out := r.In.Header, r.Out.Header
	if v := in["Forwarded"]; len(v) > 0 {
		out["Forwarded"] = append(slices.Clip(v), forwardedFor(r.In.RemoteAddr))
	}
	out["X-Forwarded-For"] = in["X-Forwarded-For"]
	r.SetXForwarded()
	for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v := in[name]; len(v) > 0 {
			out[name] = v
		}
	}
}

// forwardedFor is an element of a Forwarded header (RFC 7239, section 6) for the other end of a connection.
func forwardedFor(remote string) string {
	peer, err := netip.ParseAddrPort(remote)
	switch addr := peer.Addr().Unmap().WithZone(""); {
	case err != nil:
		return "for=unknown"
	case addr.Is6():
		return `for="[` + addr.String() + `]"`
	default:
		return "for=" + addr.String()
	}
}

// requestID names one failed request in the answer and in the log.
func requestID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	return hex.EncodeToString(b[:])
}
