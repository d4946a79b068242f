package gateway

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dfws/dfws/compat"
)

// The cases of the Autobahn test suite (crossbario/autobahn-testsuite, docs/cases.rst), which needs Python 2, against the real
// endpoint over TCP. It is no echo server: a text message is a signal, so that what arrived is seen in the task that the broker gets;
// binary messages are ignored and counted. The numbers are the suite's.
//
// Not as the suite wants it:
//
//	7.3.2   a close frame with one byte of payload is taken for one without code, and answered with 1000: the websocket library does
//	        not tell the two apart.
//	7.*     the answer to a close is 1000 and not the browser's own code, as daphne's is.

// conformanceCase is what a client sends and what must come of it.
type conformanceCase struct {
	id   string
	name string
	send []byte
	chop int // bytes per write; 0: all in one

	pongs  []string
	texts  []string       // signals that must arrive, by the text in their opts
	counts map[string]int // further outcomes of frames
	code   CloseCode      // 0: the window is open afterwards
	late   bool           // sends after its own close: TCP may then reset the connection
}

// said is a signal that carries a text, which must need no escape.
func said(text string) string { return `{"signal":"site.signal","opts":"` + text + `"}` }

// saidOf is such a signal with n bytes, at least 40, and the text in it.
func saidOf(n int) (frame, text string) {
	text = strings.Repeat("*", n-len(said("")))
	return said(text), text
}

// longs are payload sizes around the places where the header changes.
var longs = []int{125, 126, 127, 128, 65535, 65536}

func TestConformance(t *testing.T) {
	t.Parallel()
	cases := slices.Concat(framingCases(), pingCases(), reservedCases(), opcodeCases(), fragmentationCases(), utf8Cases(), closeCases(), limitCases())
	seen := map[string]bool{}
	for _, tc := range cases {
		if seen[tc.id] {
			t.Errorf("case %s is there twice", tc.id)
		}
		seen[tc.id] = true
		t.Run(tc.id+" "+tc.name, func(t *testing.T) {
			t.Parallel()
			// A client that is in the middle of a frame cannot answer a close.
			r := newRig(t, func(c *Config) { c.CloseTimeout = 500 * time.Millisecond })
			tc.run(t, r, r.connectRaw(testKey))
		})
	}
}

// run plays the case and closes the window if it is open after it.
func (tc *conformanceCase) run(t *testing.T, r *rig, p *rawPeer) {
	t.Helper()
	chop := tc.chop
	if chop == 0 {
		chop = max(len(tc.send), 1)
	}
	for part := range slices.Chunk(tc.send, chop) {
		p.write(part)
	}
	want := tc.code
	if want == 0 {
		p.write(slices.Concat(message1(opText, compat.HeartbeatFrame), closeWith(1000, "")))
		want = CloseNormal
	}
	end := p.drain(patience)
	if end.code != int(want) {
		t.Fatalf("close code %d (%q), then %v; want %d", end.code, end.text, end.err, want)
	}
	if !errors.Is(end.err, io.EOF) && !tc.late {
		t.Errorf("the connection ended with %v, want an orderly end", end.err)
	}
	if !slices.Equal(end.pongs, tc.pongs) {
		t.Errorf("pongs %q, want %q", end.pongs, tc.pongs)
	}
	if beat := slices.Contains(end.texts, compat.HeartbeatFrame); tc.code == 0 && !beat {
		t.Error("the window was not alive after the case")
	}
	if texts := r.saidTexts(t); !slices.Equal(texts, tc.texts) {
		t.Errorf("signals %.80q, want %.80q", texts, tc.texts)
	}
	for outcome, n := range tc.counts {
		if got := r.counts.get("frame " + outcome); got != n {
			t.Errorf("%d frames were %s, want %d; %v", got, outcome, n, r.counts.n)
		}
	}
}

// saidTexts are the texts of the signals that reached the broker.
func (r *rig) saidTexts(t *testing.T) []string {
	t.Helper()
	var texts []string
	for _, m := range r.publisher.queued() {
		texts = append(texts, strings.Trim(string(taskArgs(t, m)[2]), `"`))
	}
	return texts
}

// framingCases: group 1.
func framingCases() []conformanceCase {
	cases := []conformanceCase{
		{id: "1.1.1", name: "empty text", send: message1(opText, ""), counts: map[string]int{"not_json": 1}},
		{id: "1.2.1", name: "empty binary", send: message1(opBinary, ""), counts: map[string]int{FrameBinary: 1}},
	}
	for i, n := range longs {
		frame, text := saidOf(n)
		cases = append(cases,
			conformanceCase{id: fmt.Sprintf("1.1.%d", i+2), name: fmt.Sprintf("text of %d", n), send: message1(opText, frame), texts: []string{text}},
			conformanceCase{id: fmt.Sprintf("1.2.%d", i+2), name: fmt.Sprintf("binary of %d", n),
				send: message1(opBinary, frame), counts: map[string]int{FrameBinary: 1}})
	}
	frame, text := saidOf(65536)
	return append(cases,
		conformanceCase{id: "1.1.8", name: "text of 65536 in writes of 997", send: message1(opText, frame), chop: 997, texts: []string{text}},
		conformanceCase{id: "1.2.8", name: "binary of 65536 in writes of 997", send: message1(opBinary, frame), chop: 997,
			counts: map[string]int{FrameBinary: 1}})
}

// pingCases: group 2.
func pingCases() []conformanceCase {
	long := strings.Repeat("\xfe", 125)
	ten, pongs := []byte(nil), []string(nil)
	for i := range 10 {
		ten = append(ten, message1(opPing, fmt.Sprintf("payload-%d", i))...)
		pongs = append(pongs, fmt.Sprintf("payload-%d", i))
	}
	return []conformanceCase{
		{id: "2.1", name: "ping without payload", send: message1(opPing, ""), pongs: []string{""}},
		{id: "2.2", name: "ping with text", send: message1(opPing, "Hello, world!"), pongs: []string{"Hello, world!"}},
		{id: "2.3", name: "ping with bytes", send: message1(opPing, "\x00\xff\xfe\xfd\x00"), pongs: []string{"\x00\xff\xfe\xfd\x00"}},
		{id: "2.4", name: "ping of 125", send: message1(opPing, long), pongs: []string{long}},
		{id: "2.5", name: "ping of 126", send: message1(opPing, long+"\xfe"), code: CloseProtocol},
		{id: "2.6", name: "ping of 125 byte by byte", send: message1(opPing, long), chop: 1, pongs: []string{long}},
		{id: "2.7", name: "pong unasked", send: message1(opPong, "")},
		{id: "2.8", name: "pong unasked with payload", send: message1(opPong, "unsolicited")},
		{id: "2.9", name: "pong unasked, then ping", send: slices.Concat(message1(opPong, "unsolicited"), message1(opPing, "ping")), pongs: []string{"ping"}},
		{id: "2.10", name: "ten pings", send: ten, pongs: pongs},
		{id: "2.11", name: "ten pings byte by byte", send: ten, chop: 1, pongs: pongs},
	}
}

// reservedCases: group 3. No extension is negotiated, so that every reserved bit is an error.
func reservedCases() []conformanceCase {
	small := message1(opText, said("small"))
	ping := message1(opPing, "")
	with := func(first byte) []byte { return slices.Concat(small, rawFrame(first, said("x")), ping) }
	return []conformanceCase{
		{id: "3.1", name: "RSV 1", send: rawFrame(bitFin|bitRSV3|opText, said("x")), code: CloseProtocol},
		{id: "3.2", name: "RSV 2 after a text", send: with(bitFin | bitRSV2 | opText), texts: []string{"small"}, code: CloseProtocol},
		{id: "3.3", name: "RSV 3, frame by frame", send: with(bitFin | bitRSV2 | bitRSV3 | opText), chop: len(small), texts: []string{"small"}, code: CloseProtocol},
		{id: "3.4", name: "RSV 4, byte by byte", send: with(bitFin | bitRSV1 | opText), chop: 1, texts: []string{"small"}, code: CloseProtocol},
		{id: "3.5", name: "RSV 5, binary", send: rawFrame(bitFin|bitRSV1|bitRSV3|opBinary, "x"), code: CloseProtocol},
		{id: "3.6", name: "RSV 6, ping", send: rawFrame(bitFin|bitRSV1|bitRSV2|opPing, "x"), code: CloseProtocol},
		{id: "3.7", name: "RSV 7, close", send: rawFrame(bitFin|bitRSV1|bitRSV2|bitRSV3|opClose, "\x03\xe8"), code: CloseProtocol},
	}
}

// opcodeCases: group 4.
func opcodeCases() []conformanceCase {
	var cases []conformanceCase
	for group, first := range map[int]byte{1: 3, 2: 11} {
		for i := range byte(5) {
			payload, before := "", []byte(nil)
			var texts []string
			if i%2 == 1 {
				payload = said("x")
			}
			if i >= 2 {
				before, texts = message1(opText, said("before")), []string{"before"}
			}
			cases = append(cases, conformanceCase{id: fmt.Sprintf("4.%d.%d", group, i+1), name: fmt.Sprintf("opcode %d", first+i),
				send: slices.Concat(before, rawFrame(bitFin|(first+i), payload), message1(opPing, "")), texts: texts, code: CloseProtocol})
		}
	}
	return cases
}

// fragmentationCases: group 5.
func fragmentationCases() []conformanceCase {
	ping := message1(opPing, "between")
	pong := message1(opPong, "between")
	whole := fragmented(opText, `{"signal":"site.signal",`, `"opts":"both"}`)
	start, end := rawFrame(opText, `{"signal":"site.signal",`), rawFrame(bitFin|opContinuation, `"opts":"both"}`)
	middle, last := rawFrame(opContinuation, `"opts":"bo`), rawFrame(bitFin|opContinuation, `th"}`)
	two := slices.Concat(start, ping, middle, ping, last)
	orphan := func(first byte) []byte {
		return slices.Concat(rawFrame(first, "non-continuation"), message1(opText, said("x")))
	}
	both, once, twice := []string{"both"}, []string{"between"}, []string{"between", "between"}
	again := slices.Concat(rawFrame(opContinuation, "f1"), rawFrame(bitFin|opContinuation, "f2"), whole)
	return []conformanceCase{
		{id: "5.1", name: "ping in fragments", send: fragmented(opPing, "a", "b"), code: CloseProtocol},
		{id: "5.2", name: "pong in fragments", send: fragmented(opPong, "a", "b"), code: CloseProtocol},
		{id: "5.3", name: "text in two fragments", send: whole, texts: both},
		{id: "5.4", name: "the same, fragment by fragment", send: whole, chop: len(start), texts: both},
		{id: "5.5", name: "the same, byte by byte", send: whole, chop: 1, texts: both},
		{id: "5.6", name: "ping between fragments", send: slices.Concat(start, ping, end), texts: both, pongs: once},
		{id: "5.7", name: "the same, fragment by fragment", send: slices.Concat(start, ping, end), chop: len(start), texts: both, pongs: once},
		{id: "5.8", name: "the same, byte by byte", send: slices.Concat(start, ping, end), chop: 1, texts: both, pongs: once},
		{id: "5.9", name: "continuation of nothing", send: orphan(bitFin | opContinuation), code: CloseProtocol},
		{id: "5.10", name: "the same, frame by frame", send: orphan(bitFin | opContinuation), chop: 22, code: CloseProtocol},
		{id: "5.11", name: "the same, byte by byte", send: orphan(bitFin | opContinuation), chop: 1, code: CloseProtocol},
		{id: "5.12", name: "continuation of nothing, not final", send: orphan(opContinuation), code: CloseProtocol},
		{id: "5.13", name: "the same, frame by frame", send: orphan(opContinuation), chop: 22, code: CloseProtocol},
		{id: "5.14", name: "the same, byte by byte", send: orphan(opContinuation), chop: 1, code: CloseProtocol},
		{id: "5.15", name: "a message, then a continuation of nothing", send: slices.Concat(whole, orphan(opContinuation)), texts: both, code: CloseProtocol},
		{id: "5.16", name: "continuations before the text", send: slices.Concat(again, again), code: CloseProtocol},
		{id: "5.17", name: "a final continuation before the text", send: slices.Concat(rawFrame(bitFin|opContinuation, "f1"), whole), code: CloseProtocol},
		{id: "5.18", name: "a text within a text", send: slices.Concat(start, rawFrame(bitFin|opText, "x")), code: CloseProtocol},
		{id: "5.19", name: "two pings between three fragments", send: two, texts: both, pongs: twice},
		{id: "5.20", name: "the same, byte by byte", send: two, chop: 1, texts: both, pongs: twice},
		{id: "5.21", name: "pong between fragments", send: slices.Concat(start, pong, end), texts: both},
		{id: "5.22", name: "empty fragments", send: fragmented(opText, "", said("x"), "", ""), texts: []string{"x"}},
		{id: "5.23", name: "a close within a text", send: slices.Concat(start, closeWith(1000, ""), end), code: CloseNormal, late: true},
		{id: "5.24", name: "a binary within a text", send: slices.Concat(start, rawFrame(bitFin|opBinary, "x")), code: CloseProtocol},
	}
}

// limitCases: groups 9 and 10, and what lies beyond the limit.
func limitCases() []conformanceCase {
	var cases []conformanceCase
	for i, n := range []int{64 << 10, 256 << 10, 1 << 20} {
		frame, text := saidOf(n)
		cases = append(cases,
			conformanceCase{id: fmt.Sprintf("9.1.%d", i+1), name: fmt.Sprintf("text of %d", n), send: message1(opText, frame), texts: []string{text}},
			conformanceCase{id: fmt.Sprintf("9.2.%d", i+1), name: fmt.Sprintf("binary of %d", n), send: message1(opBinary, frame),
				counts: map[string]int{FrameBinary: 1}})
	}
	mega, text := saidOf(1 << 20)
	for i, n := range []int{64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20} {
		cases = append(cases,
			conformanceCase{id: fmt.Sprintf("9.3.%d", i+1), name: fmt.Sprintf("1 MiB of text in fragments of %d", n),
				send: fragmented(opText, cutInto(mega, n)...), texts: []string{text}},
			conformanceCase{id: fmt.Sprintf("9.4.%d", i+1), name: fmt.Sprintf("1 MiB of binary in fragments of %d", n),
				send: fragmented(opBinary, cutInto(mega, n)...), counts: map[string]int{FrameBinary: 1}})
	}
	for i, n := range []int{64, 128, 256, 512, 1024, 2048} {
		cases = append(cases, conformanceCase{id: fmt.Sprintf("9.5.%d", i+1), name: fmt.Sprintf("1 MiB in writes of %d", n),
			send: message1(opText, mega), chop: n, texts: []string{text}})
	}
	for i, n := range []int{0, 16, 64, 256} {
		var many []byte
		var texts []string
		for range 1000 {
			frame, text := saidOf(max(n, len(said(""))))
			many, texts = append(many, message1(opText, frame)...), append(texts, text)
		}
		// More in one go than Config.SignalsInFlight, which a publisher that is quick never notices.
		cases = append(cases, conformanceCase{id: fmt.Sprintf("9.7.%d", i+1), name: fmt.Sprintf("1000 texts of %d", n), send: many, texts: texts})
	}
	frame, text64 := saidOf(65536)
	return append(cases,
		conformanceCase{id: "10.1.1", name: "64 KiB in fragments of 1300", send: fragmented(opText, cutInto(frame, 1300)...), texts: []string{text64}},
		conformanceCase{id: "limit.1", name: "one byte too many", send: message1(opText, mega+" "), code: CloseTooBig, counts: map[string]int{FrameTooBig: 1}},
		conformanceCase{id: "limit.2", name: "one byte too many, in fragments", send: fragmented(opText, cutInto(mega+" ", 4096)...),
			code: CloseTooBig, counts: map[string]int{FrameTooBig: 1}},
		conformanceCase{id: "limit.3", name: "a length over 63 bits", send: rawHeader(bitFin|opText, 1<<63), code: CloseProtocol},
		conformanceCase{id: "limit.4", name: "unmasked", send: encodeFrame(opText, said("x")), code: CloseProtocol},
		conformanceCase{id: "limit.5", name: "1024 empty fragments", send: fragmented(opText, append(make([]string, 1024), said("x"))...), texts: []string{"x"}},
	)
}
