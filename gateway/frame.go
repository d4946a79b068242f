package gateway

import (
	"encoding/binary"

	"github.com/gorilla/websocket"

	"github.com/dfws/dfws/compat"
)

// Frame layout, RFC 6455 section 5.2: FIN and opcode, length (7, 7+16 or 7+64 bits), payload. A server does not mask.
const (
	finBit        = 0x80
	maxLen7       = 125
	len16         = 126
	len64         = 127
	maxHeaderSize = 10
)

// These frames never change, so that every window shares them.
var (
	heartbeatFrame = encodeFrame(websocket.TextMessage, compat.HeartbeatFrame)
	pingFrame      = encodeFrame(websocket.PingMessage, "")
)

// encodeFrame returns one unfragmented, uncompressed server frame. The frame is encoded once and written to any number of
// windows; nobody may modify it. gorilla's PreparedMessage would do the same, but writes each frame with a system call of
// its own and keeps its bytes to itself; an outbox joins several frames in one write.
func encodeFrame[T string | []byte](opcode int, payload T) []byte {
	b := make([]byte, 0, maxHeaderSize+len(payload))
	b = append(b, finBit|byte(opcode))
	switch n := len(payload); {
	case n <= maxLen7:
		b = append(b, byte(n))
	case n <= 0xffff:
		b = append(b, len16)
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b = append(b, len64)
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return append(b, payload...)
}
