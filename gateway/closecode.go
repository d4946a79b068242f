package gateway

import (
	"encoding/binary"
	"strconv"

	"github.com/gorilla/websocket"
)

// CloseCode says why a window's websocket ended. The gateway sends it in the close frame; the script of df_websockets
// connects again after three seconds whatever the code is, so the codes are for people, counters and other clients.
//
// It is also an error, so that a function can return the reason for which a window must go.
type CloseCode uint16

// The codes that a window can end with. 1000–1015 are RFC 6455, section 7.4.1 and the IANA registry; 4000–4999 are private.
const (
	// CloseNormal answers a close that the browser began, as daphne does.
	CloseNormal CloseCode = 1000
	// CloseGoingAway is sent when the gateway drains: connect again, to this gateway or to another.
	CloseGoingAway CloseCode = 1001
	// CloseProtocol is sent by the websocket library for frames that break RFC 6455.
	CloseProtocol CloseCode = 1002
	// CloseAbnormal is never sent: the connection ended without a close frame.
	CloseAbnormal CloseCode = 1006
	// CloseInvalidUTF8 answers a text frame that is no UTF-8.
	CloseInvalidUTF8 CloseCode = 1007
	// ClosePolicy answers a frame that takes longer than [Limits.FrameTimeout] to arrive, and more than a thousand pings and pongs in a
	// second.
	ClosePolicy CloseCode = 1008
	// CloseTooBig answers a frame larger than [Config.MaxFrameBytes].
	CloseTooBig CloseCode = 1009
	// CloseTryAgain is sent when a signal of this window could not be handed to the broker in time.
	CloseTryAgain CloseCode = 1013
	// CloseOther is never sent: it stands for the codes of their own that browsers' side may send.
	CloseOther CloseCode = 4000
	// CloseRevoked is sent when the window's session was logged out or its user was changed.
	CloseRevoked CloseCode = 4403
	// CloseSlowReader is sent to a window that does not read what it is sent.
	CloseSlowReader CloseCode = 4408
	// CloseNoPong is sent to a window that did not answer a ping in time.
	CloseNoPong CloseCode = 4409
)

// Reason is the text that goes with the code in the close frame; it is empty for codes that need no words.
func (c CloseCode) Reason() string {
	switch c {
	case CloseGoingAway:
		return "server is going away"
	case CloseInvalidUTF8:
		return "text frame is not UTF-8"
	case ClosePolicy:
		return "limit exceeded"
	case CloseTooBig:
		return "frame too big"
	case CloseTryAgain:
		return "broker unavailable, try again later"
	case CloseRevoked:
		return "identity revoked"
	case CloseSlowReader:
		return "slow reader"
	case CloseNoPong:
		return "no pong"
	default:
		return ""
	}
}

// String is the code's number: a bounded label for counters.
func (c CloseCode) String() string { return strconv.Itoa(int(c)) }

// Error makes the code an error.
func (c CloseCode) Error() string {
	if r := c.Reason(); r != "" {
		return "gateway: close " + c.String() + ": " + r
	}
	return "gateway: close " + c.String()
}

// frame is the whole close frame with code and reason.
func (c CloseCode) frame() []byte {
	reason := c.Reason()
	payload := make([]byte, 2, 2+len(reason))
	binary.BigEndian.PutUint16(payload, uint16(c))
	return encodeFrame(websocket.CloseMessage, append(payload, reason...))
}
