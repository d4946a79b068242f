package gateway

import "net/http"

// unfit returns why a request is not passed on; nil when it is. net/http has refused before what no server should take: two Host headers or
// lengths, other transfer encodings than chunked, header lines without a name, bytes that belong in no header.
func unfit(r *http.Request) *refusal {
	switch {
	case r.Method == http.MethodConnect || r.Method == http.MethodTrace:
		// CONNECT would make a tunnel of a proxy; TRACE shows cookies to scripts.
		return &refusal{status: http.StatusMethodNotAllowed, reason: ProxyRefused, text: "405 Method Not Allowed: CONNECT and TRACE are not passed on."}
	case r.Method == "PRI":
		// The preface of HTTP/2 on a connection that has not agreed on it: net/http hands it over as a request.
		return &refusal{status: http.StatusHTTPVersionNotSupported, reason: ProxyRefused, text: "505 HTTP Version Not Supported: HTTP/2 is spoken over TLS only."}
	case wantsWebsocket(r) && hasBody(r):
		// Where the application server takes it for the first bytes of the websocket, or for another request, the rest is not ours to see.
		return &refusal{status: http.StatusBadRequest, reason: ProxyRefused, text: "400 Bad Request: a websocket handshake has no body."}
	}
	return nil
}

// lastOfConnection says whether the connection must end with a request. Go's server removes what tells requests apart that another server
// could take for two: a Content-Length beside Transfer-Encoding, and a Transfer-Encoding in HTTP/1.0 (RFC 9112, section 6.1, wants both
// closed). So no request follows one that could have been like that.
func lastOfConnection(r *http.Request) bool {
	return len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1)
}

// refuse answers a request that is not passed on.
func (p *proxy) refuse(w http.ResponseWriter, r *http.Request, no *refusal) {
	p.observer.proxyFailed(no.reason)
	p.log.Debug("request refused", "method", r.Method, "status", no.status, "remote", r.RemoteAddr)
	w.Header().Set("Connection", "close")
	if no.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	}
	say(w, no.status, no.text, requestID())
}
