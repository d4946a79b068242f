package gateway

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// defaultPorts are left out of an Origin header and may be left out of a Host header.
var defaultPorts = map[string]string{"http": "80", "https": "443", "ws": "80", "wss": "443"}

// originRules decide whether a page of some origin may open a window. df_websockets lets every page do it; browsers send
// cookies with a websocket handshake, so that any site could then act as the visitor (cross-site websocket hijacking).
type originRules struct {
	any               bool                // "*": what daphne does
	exact             map[string]bool     // "scheme://host[:port]"
	subdomains        map[string][]string // scheme → ".example.com"
	useXForwardedHost bool                // Django's USE_X_FORWARDED_HOST
}

// newOriginRules takes Django's CSRF_TRUSTED_ORIGINS ("https://example.com", "https://*.example.com") and further origins of the same
// form, among which "*" allows every origin: for Django it would mean nothing.
func newOriginRules(trusted, further []string, useXForwardedHost bool) originRules {
	rules := originRules{
		any:               slices.Contains(further, "*"),
		exact:             make(map[string]bool),
		subdomains:        make(map[string][]string),
		useXForwardedHost: useXForwardedHost,
	}
	for _, origin := range slices.Concat(trusted, further) {
		scheme, host, _ := strings.Cut(strings.ToLower(strings.TrimSpace(origin)), "://")
		switch {
		case strings.HasPrefix(host, "*."):
			rules.subdomains[scheme] = append(rules.subdomains[scheme], strings.TrimPrefix(host, "*"))
		case host != "":
			// Django takes the stars off and then wants a dot for a wildcard: "https://*" is nobody, "https://*example.com" that host.
			rules.exact[scheme+"://"+withoutDefaultPort(scheme, strings.TrimLeft(host, "*"))] = true
		}
	}
	return rules
}

// allow says whether the handshake may go on. A request without an Origin header does not come from a page.
func (rules *originRules) allow(r *http.Request) bool {
	origins := r.Header["Origin"]
	if rules.any || len(origins) == 0 {
		return true
	}
	if len(origins) > 1 {
		return false // no browser does that
	}
	u, err := url.Parse(strings.ToLower(origins[0]))
	if err != nil || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return false // "null" is one of them
	}
	host := withoutDefaultPort(u.Scheme, u.Host)
	if (u.Scheme == "http" || u.Scheme == "https") && host == withoutDefaultPort(u.Scheme, strings.ToLower(rules.host(r))) {
		return true
	}
	if rules.exact[u.Scheme+"://"+host] {
		return true
	}
	for _, domain := range rules.subdomains[u.Scheme] {
		// As Django's is_same_domain: the domain itself matches, too.
		if strings.HasSuffix(host, domain) || host == domain[1:] {
			return true
		}
	}
	return false
}

// host is the host that Django's request.get_host would see.
func (rules *originRules) host(r *http.Request) string {
	if rules.useXForwardedHost {
		if forwarded := r.Header.Get("X-Forwarded-Host"); forwarded != "" {
			return forwarded
		}
	}
	return r.Host
}

// withoutDefaultPort takes the port off if it is the scheme's own.
func withoutDefaultPort(scheme, host string) string {
	name, port, err := net.SplitHostPort(host)
	if err != nil || port != defaultPorts[scheme] {
		return host
	}
	if strings.Contains(name, ":") {
		return "[" + name + "]"
	}
	return name
}
