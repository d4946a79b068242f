package gateway

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"sync/atomic"

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

// frame is one encoded frame. It is encoded once, shared by any number of windows, and never modified.
type frame struct {
	wire []byte
	// lasting frames are messages: they are kept until the browser is known to have them. Others have no meaning on another socket.
	lasting bool
	holders atomic.Int32 // outboxes that hold it
	// number orders the messages of this process; 0 for what came from another gateway, which is older than what arrives here meanwhile.
	number uint64
}

// messages counts those that have arrived in this process.
var messages atomic.Uint64

// These frames never change, so that every window shares them.
var heartbeatFrame = newFrame(websocket.TextMessage, compat.HeartbeatFrame)

// newFrame encodes a frame that means something on its own socket only.
func newFrame[T string | []byte](opcode int, payload T) *frame {
	return &frame{wire: encodeFrame(opcode, payload)}
}

// newMessage encodes a message of the channel layer.
func newMessage(text string) *frame {
	return &frame{wire: encodeFrame(websocket.TextMessage, text), lasting: true, number: messages.Add(1)}
}

// fromElsewhere is a message that another gateway has kept.
func fromElsewhere(text string) *frame {
	f := newMessage(text)
	f.number = 0
	return f
}

// text is the payload.
func (f *frame) text() []byte {
	switch f.wire[1] {
	case len16:
		return f.wire[4:]
	case len64:
		return f.wire[maxHeaderSize:]
	default:
		return f.wire[2:]
	}
}

// signalIDField is how df_websockets' frames end: json.dumps of {"signal": …, "opts": …, "signal_id": …} (df_websockets 1.2.6,
// tasks.py, _call_ws_signal), and those of Go workers, too.
const signalIDField = `"signal_id": "`

// maxSignalID bounds an ID; df_websockets' are UUIDs.
const maxSignalID = 64

// signalID is what the script knows repeats by. It is "" for texts that are not as df_websockets writes them: they have no repeats.
func (f *frame) signalID() string {
	text := f.text()
	rest, ok := bytes.CutSuffix(text, []byte(`"}`))
	if !ok {
		return ""
	}
	i := bytes.LastIndexByte(rest, '"')
	if i < 0 || len(rest)-i-1 > maxSignalID || !bytes.HasSuffix(rest[:i+1], []byte(signalIDField)) {
		return ""
	}
	return string(rest[i+1:])
}

// memory counts the bytes of the messages that outboxes hold, each once however many windows share it.
type memory struct {
	used  atomic.Int64
	limit int64
}

// full says whether there is more than the limit.
func (m *memory) full() bool { return m.used.Load() > m.limit }

func (f *frame) hold(m *memory) {
	if f.lasting && f.holders.Add(1) == 1 {
		m.used.Add(int64(len(f.wire)))
	}
}

func (f *frame) release(m *memory) {
	if f.lasting && f.holders.Add(-1) == 0 {
		m.used.Add(-int64(len(f.wire)))
	}
}

// pingFrame carries how many messages were queued before it: its answer proves that they have arrived.
func pingFrame(queued uint64) *frame {
	return newFrame(websocket.PingMessage, strconv.FormatUint(queued, 36))
}

// provenBy reads the payload of a pong; false if it answers no ping of ours.
func provenBy(payload string) (queued uint64, ok bool) {
	queued, err := strconv.ParseUint(payload, 36, 64)
	return queued, err == nil
}

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
