package gateway

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// Opcodes and bits of RFC 6455, section 5.2, that websocket libraries keep to themselves.
const (
	opContinuation = 0
	opText         = websocket.TextMessage
	opBinary       = websocket.BinaryMessage
	opClose        = websocket.CloseMessage
	opPing         = websocket.PingMessage
	opPong         = websocket.PongMessage

	bitFin  = 0x80
	bitRSV1 = 0x40
	bitRSV2 = 0x20
	bitRSV3 = 0x10
)

// testMask is the key of all masked frames of tests: no byte of it leaves a payload as it is.
var testMask = [4]byte{0x5a, 0xa5, 0x3c, 0xc3}

// rawFrame returns one masked frame whose first byte is what the caller says, whether RFC 6455 allows it or not.
func rawFrame(first byte, payload string) []byte {
	b := rawHeader(first, uint64(len(payload)))
	for i := range len(payload) {
		b = append(b, payload[i]^testMask[i%4])
	}
	return b
}

// rawHeader is the header of a masked frame that promises n bytes.
func rawHeader(first byte, n uint64) []byte {
	b := []byte{first}
	switch {
	case n <= maxLen7:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|len16), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|len64), n)
	}
	return append(b, testMask[:]...)
}

// message1 returns a whole message in one frame.
func message1(opcode int, payload string) []byte { return rawFrame(bitFin|byte(opcode), payload) }

// fragmented returns a message in one frame per part.
func fragmented(opcode int, parts ...string) []byte {
	var b []byte
	for i, part := range parts {
		first := byte(opContinuation)
		if i == 0 {
			first = byte(opcode)
		}
		if i == len(parts)-1 {
			first |= bitFin
		}
		b = append(b, rawFrame(first, part)...)
	}
	return b
}

// cutInto cuts s into parts of n bytes.
func cutInto(s string, n int) []string {
	var parts []string
	for len(s) > n {
		parts, s = append(parts, s[:n]), s[n:]
	}
	return append(parts, s)
}

// closeWith returns a close frame with a code and a reason.
func closeWith(code int, reason string) []byte {
	return message1(opClose, string(binary.BigEndian.AppendUint16(nil, uint16(code)))+reason)
}

// rawPeer is a client without a websocket library: it can send anything.
type rawPeer struct {
	net.Conn
	t  testing.TB
	br *bufio.Reader
	// response is the answer to the handshake.
	response *http.Response
}

// got is one frame that the gateway sent.
type got struct {
	first   byte
	payload string
}

func (g got) opcode() int { return int(g.first & 0x0f) }

// handshakeRaw sends a handshake with further header lines and reads the answer.
func (r *rig) handshakeRaw(lines ...string) *rawPeer {
	r.t.Helper()
	conn, err := net.DialTimeout("tcp", r.server.Listener.Addr().String(), patience)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	p := &rawPeer{Conn: conn, t: r.t, br: bufio.NewReader(conn)}
	p.write([]byte(rawHandshake(conn.RemoteAddr().String(), lines...)))
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		r.t.Fatal(err)
	}
	if p.response, err = http.ReadResponse(p.br, nil); err != nil {
		r.t.Fatal(err)
	}
	return p
}

// rawHandshake is a correct handshake.
func rawHandshake(host string, lines ...string) string {
	head := []string{
		"GET /ws/ HTTP/1.1", "Host: " + host, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
	}
	return strings.Join(append(head, lines...), "\r\n") + "\r\n\r\n"
}

// connectRaw opens the window of a logged-in user.
func (r *rig) connectRaw(key string, lines ...string) *rawPeer {
	r.t.Helper()
	r.tickets.set(key, windowTicket(r.t, key))
	p := r.handshakeRaw(append(lines, "Cookie: dfwskey="+key+"; sessionid="+testSession)...)
	if p.response.StatusCode != http.StatusSwitchingProtocols {
		r.t.Fatalf("handshake: %s", p.response.Status)
	}
	return p
}

// write sends bytes. The gateway may have closed the connection already: what it said is read later.
func (p *rawPeer) write(b []byte) {
	p.t.Helper()
	_ = p.SetWriteDeadline(time.Now().Add(patience))
	if _, err := p.Write(b); err != nil && isTimeout(err) {
		p.t.Fatalf("write: %v", err)
	}
}

// next reads one frame of the gateway and checks what every frame of a server must be.
func (p *rawPeer) next() (got, error) {
	var head [2]byte
	if _, err := io.ReadFull(p.br, head[:]); err != nil {
		return got{}, err
	}
	if head[1]&0x80 != 0 {
		return got{}, errors.New("a server masks no frame")
	}
	n := uint64(head[1])
	var long [8]byte
	switch n {
	case len16:
		if _, err := io.ReadFull(p.br, long[6:]); err != nil {
			return got{}, err
		}
		n = binary.BigEndian.Uint64(long[:])
	case len64:
		if _, err := io.ReadFull(p.br, long[:]); err != nil {
			return got{}, err
		}
		n = binary.BigEndian.Uint64(long[:])
	}
	if n > 64<<20 {
		return got{}, fmt.Errorf("a frame of %d bytes", n)
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(p.br, payload); err != nil {
		return got{}, err
	}
	return got{head[0], string(payload)}, nil
}

// ended is what a connection came to.
type ended struct {
	texts []string // text messages
	pongs []string
	code  int    // of the close frame, 0 without one
	text  string // its reason
	err   error  // how the reading ended: io.EOF after an orderly end
}

// drain reads until the gateway ends the connection.
func (p *rawPeer) drain(limit time.Duration) ended {
	p.t.Helper()
	var e ended
	_ = p.SetReadDeadline(time.Now().Add(limit))
	for {
		g, err := p.next()
		if err != nil {
			e.err = err
			return e
		}
		switch g.opcode() {
		case opText:
			e.texts = append(e.texts, g.payload)
		case opPong:
			e.pongs = append(e.pongs, g.payload)
		case opClose:
			if e.code != 0 || len(g.payload) < 2 {
				p.t.Fatalf("close frame %q after code %d", g.payload, e.code)
			}
			e.code, e.text = int(binary.BigEndian.Uint16([]byte(g.payload))), g.payload[2:]
			if e.code != int(CloseNormal) { // that one is the answer to ours
				p.write(closeWith(e.code, ""))
			}
		case opPing:
		default:
			p.t.Fatalf("frame with opcode %d", g.opcode())
		}
	}
}
