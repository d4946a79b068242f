package gateway

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
)

// headerRules decide which headers of a request reach the application server. Go's reverse proxy has removed the hop-by-hop
// headers before (RFC 9110, section 7.6.1), those that a Connection header names included.
type headerRules struct {
	trustForwarded   bool
	allowUnderscores bool
	secureName       string // header of SECURE_PROXY_SSL_HEADER in canonical form, "" if unset
	secureValue      string
}

// newHeaderRules also reads Django's SECURE_PROXY_SSL_HEADER: what Django believes, only we may say.
func newHeaderRules(cfg *Config) headerRules {
	rules := headerRules{trustForwarded: cfg.TrustForwarded, allowUnderscores: cfg.AllowUnderscoreHeaders}
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
	rules.dropForged(r.Out.Header)
	if rules.trustForwarded {
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

// dropForged removes what a client may not say.
func (rules *headerRules) dropForged(h http.Header) {
	for name := range h {
		if !rules.allowUnderscores && strings.Contains(name, "_") {
			delete(h, name)
			continue
		}
		// With underscores allowed, they count as what WSGI makes of them. A proxy before us that is trusted writes hyphens, and may
		// have let the others through.
		plain := http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
		if rules.says(plain) && (!rules.trustForwarded || plain != name) {
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
		out["Forwarded"] = v
	}
	out["X-Forwarded-For"] = in["X-Forwarded-For"]
	r.SetXForwarded()
	for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v := in[name]; len(v) > 0 {
			out[name] = v
		}
	}
}

// requestID names one failed request in the answer and in the log.
func requestID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	return hex.EncodeToString(b[:])
}
