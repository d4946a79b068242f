package gateway

import (
	"crypto/tls"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

// TestCloseFrameArrivesOverTLS: there, another goroutine writes the close frame than the one that closes the connection.
func TestCloseFrameArrivesOverTLS(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	server := httptest.NewTLSServer(r.Handler())
	t.Cleanup(server.Close)
	d := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	open := func(key string) *client {
		r.tickets.set(key, windowTicket(t, key))
		ws, _, err := d.Dial("wss"+strings.TrimPrefix(server.URL, "https")+"/ws/", cookies(key, testSession))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ws.Close() })
		return &client{ws, t}
	}
	for i := range 10 {
		c := open(fmt.Sprint("bad", i))
		if _, err := c.NetConn().Write(rawFrame(bitFin|bitRSV1|opText, "x")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseProtocolError) {
			t.Fatalf("after a frame that is wrong: %v", err)
		}
		c = open(fmt.Sprint("good", i))
		if _, err := c.NetConn().Write(closeWith(1000, "")); err != nil {
			t.Fatal(err)
		}
		c.expectClose(CloseNormal)
	}
}
