package gateway

import (
	"cmp"
	"encoding/base64"
	"net/http"
	"strings"
)

// refusal is an HTTP answer to a handshake that is not accepted.
type refusal struct {
	status int
	reason string // for the counter and the log: one of the Refused constants
	text   string // for the client
	// retryAfter is what a 503 says instead of retryAfter, in seconds.
	retryAfter string
}

// Why a handshake was refused: the labels that [Observer.Refused] gets.
const (
	RefusedMethod     = "method"     // 405: not GET
	RefusedHandshake  = "handshake"  // 400: no valid websocket handshake
	RefusedVersion    = "version"    // 426: another websocket version than 13
	RefusedOrigin     = "origin"     // 403: the page of another site
	RefusedAddress    = "address"    // 429: Config.WindowsPerAddress
	RefusedUser       = "user"       // 429: Config.WindowsPerUser
	RefusedTopics     = "topics"     // 403: Config.TopicsPerWindow
	RefusedFull       = "full"       // 503: Config.MaxWindows are open
	RefusedRate       = "rate"       // 503: more handshakes than Config.AdmitRate
	RefusedDraining   = "draining"   // 503: the gateway is starting or stopping
	RefusedRegistry   = "registry"   // 503: the registry of signals was not read yet
	RefusedIdentify   = "identify"   // 503: whoever knows about the window did not answer
	RefusedJoin       = "join"       // 503: the channel layer did not take the groups
	RefusedConnection = "connection" // the connection broke while the handshake was answered
)

// wantsWebsocket says whether the request asks for a websocket, as daphne decides it: by the Upgrade header alone.
func wantsWebsocket(r *http.Request) bool {
	return headerHasToken(r.Header, "Upgrade", "websocket")
}

// checkHandshake checks what can be known from the request alone. It returns nil when the handshake may go on.
func checkHandshake(r *http.Request, origins *originRules) *refusal {
	switch {
	case r.Method != http.MethodGet:
		return &refusal{status: http.StatusMethodNotAllowed, reason: RefusedMethod, text: "a websocket handshake is a GET request"}
	case !headerHasToken(r.Header, "Connection", "upgrade"):
		return &refusal{status: http.StatusBadRequest, reason: RefusedHandshake, text: "header Connection: Upgrade is missing"}
	case hasBody(r):
		return &refusal{status: http.StatusBadRequest, reason: RefusedHandshake, text: "a websocket handshake has no body"}
	case !headerHasToken(r.Header, "Sec-Websocket-Version", "13"):
		return &refusal{status: http.StatusUpgradeRequired, reason: RefusedVersion, text: "only websocket version 13 is spoken here"}
	case len(r.Header["Sec-Websocket-Key"]) != 1 || !validKey(r.Header.Get("Sec-Websocket-Key")):
		return &refusal{status: http.StatusBadRequest, reason: RefusedHandshake, text: "header Sec-WebSocket-Key is not 16 bytes in base64, once"}
	case !origins.allow(r):
		return &refusal{status: http.StatusForbidden, reason: RefusedOrigin, text: "this origin may not open websockets here"}
	}
	return nil
}

// validKey: RFC 6455, section 4.2.1, point 5.
func validKey(key string) bool {
	b, err := base64.StdEncoding.DecodeString(key)
	return err == nil && len(b) == 16
}

// headerHasToken says whether one of the comma separated values of the header is token, in any case.
func headerHasToken(h http.Header, name, token string) bool {
	for _, value := range h[name] {
		for part := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

// refuse answers a handshake that is not accepted.
func (g *Gateway) refuse(w http.ResponseWriter, r *http.Request, no *refusal) {
	g.stats.refused.Add(1)
	g.observer.refused(no.reason)
	g.log.Debug("handshake refused", "reason", no.reason, "status", no.status, "remote", r.RemoteAddr)
	switch no.status {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		w.Header().Set("Retry-After", cmp.Or(no.retryAfter, retryAfter))
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodGet)
	case http.StatusUpgradeRequired:
		w.Header().Set("Sec-WebSocket-Version", "13")
		w.Header().Set("Upgrade", "websocket")
	}
	// Nothing of this answer may be reused for another request.
	w.Header().Set("Connection", "close")
	http.Error(w, no.text, no.status)
}
