// Package listener is what the gateway listens with: TLS with certificates that change while it runs, and the PROXY protocol of load
// balancers (versions 1 and 2, https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt).
//
// The PROXY protocol is read from trusted addresses only, and required from them: a trusted address that could also connect without a header
// would be taken for the client. From everybody else a header is no HTTP, and is answered with 400. What a header says is the client's
// address (http.Request.RemoteAddr) and nothing else.
//
// Connections keep their way to the socket (syscall.Conn), which package gateway writes windows with. Over TLS there is none.
//
// The package has no goroutine of its own; Certificates.Watch runs in its caller's.
package listener
