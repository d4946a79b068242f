package gateway

import (
	"fmt"
	"slices"
	"strings"
)

// validTexts are Autobahn's groups 6.1, 6.2, 6.5, 6.6, 6.7, 6.9, 6.11 and 6.22, without what JSON escapes: text that must arrive.
var validTexts = []struct{ id, text string }{
	{"6.2.1", "Hello-µ@ßöäüàá-UTF-8!!"},
	{"6.5.1", "κόσμε"},
	{"6.6.2", "κ"}, {"6.6.5", "κό"}, {"6.6.7", "κόσ"}, {"6.6.9", "κόσμ"}, {"6.6.11", "κόσμε"},
	{"6.7.2", "\u0080"}, {"6.7.3", "\u0800"}, {"6.7.4", "\U00010000"},
	{"6.9.1", "\u007f"}, {"6.9.2", "\u07ff"}, {"6.9.3", "\uffff"}, {"6.9.4", "\U0010ffff"},
	{"6.11.1", "\ud7ff"}, {"6.11.2", "\ue000"}, {"6.11.3", "\ufffd"}, {"6.11.4", "\U0010ffff"},
	{"6.22.1", "\ufffe"}, {"6.22.2", "\uffff"}, {"6.22.3", "\U0001fffe"}, {"6.22.4", "\U0001ffff"},
	{"6.22.5", "\U0002fffe"}, {"6.22.6", "\U0002ffff"}, {"6.22.7", "\U000ffffe"}, {"6.22.8", "\U000fffff"},
	{"6.22.9", "\U0010fffe"}, {"6.22.10", "\U0010ffff"}, {"6.23.1", "\ufffd"},
}

// invalidTexts are the others: bytes that are no UTF-8.
var invalidTexts = []struct{ id, text string }{
	{"6.3.1", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65\x64\x69\x74\x65\x64"},
	{"6.6.1", "\xce"}, {"6.6.3", "\xce\xba\xe1"}, {"6.6.4", "\xce\xba\xe1\xbd"}, {"6.6.6", "\xce\xba\xe1\xbd\xb9\xcf"},
	{"6.6.8", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce"}, {"6.6.10", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce"},
	{"6.8.1", "\xf8\x88\x80\x80\x80"}, {"6.8.2", "\xfc\x84\x80\x80\x80\x80"},
	{"6.10.1", "\xf7\xbf\xbf\xbf"}, {"6.10.2", "\xfb\xbf\xbf\xbf\xbf"}, {"6.10.3", "\xfd\xbf\xbf\xbf\xbf\xbf"},
	{"6.11.5", "\xf4\x90\x80\x80"},
	{"6.12.1", "\x80"}, {"6.12.2", "\xbf"}, {"6.12.3", "\x80\xbf"}, {"6.12.4", "\x80\xbf\x80"}, {"6.12.5", "\x80\xbf\x80\xbf"},
	{"6.12.6", "\x80\xbf\x80\xbf\x80"}, {"6.12.7", "\x80\xbf\x80\xbf\x80\xbf"}, {"6.12.8", manyBytes(0x80, 0xbf, "")},
	{"6.13.1", manyBytes(0xc0, 0xdf, " ")}, {"6.13.2", manyBytes(0xe0, 0xef, " ")}, {"6.13.3", manyBytes(0xf0, 0xf7, " ")},
	{"6.13.4", manyBytes(0xf8, 0xfb, " ")}, {"6.13.5", "\xfc\x20\xfd\x20"},
	{"6.14.1", "\xc0"}, {"6.14.2", "\xe0\x80"}, {"6.14.3", "\xf0\x80\x80"}, {"6.14.4", "\xf8\x80\x80\x80"}, {"6.14.5", "\xfc\x80\x80\x80\x80"},
	{"6.14.6", "\xdf"}, {"6.14.7", "\xef\xbf"}, {"6.14.8", "\xf7\xbf\xbf"}, {"6.14.9", "\xfb\xbf\xbf\xbf"}, {"6.14.10", "\xfd\xbf\xbf\xbf\xbf"},
	{"6.15.1", "\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xfc\x80\x80\x80\x80\xdf\xef\xbf\xf7\xbf\xbf\xfb\xbf\xbf\xbf\xfd\xbf\xbf\xbf\xbf"},
	{"6.16.1", "\xfe"}, {"6.16.2", "\xff"}, {"6.16.3", "\xfe\xfe\xff\xff"},
	{"6.17.1", "\xc0\xaf"}, {"6.17.2", "\xe0\x80\xaf"}, {"6.17.3", "\xf0\x80\x80\xaf"}, {"6.17.4", "\xf8\x80\x80\x80\xaf"}, {"6.17.5", "\xfc\x80\x80\x80\x80\xaf"},
	{"6.18.1", "\xc1\xbf"}, {"6.18.2", "\xe0\x9f\xbf"}, {"6.18.3", "\xf0\x8f\xbf\xbf"}, {"6.18.4", "\xf8\x87\xbf\xbf\xbf"}, {"6.18.5", "\xfc\x83\xbf\xbf\xbf\xbf"},
	{"6.19.1", "\xc0\x80"}, {"6.19.2", "\xe0\x80\x80"}, {"6.19.3", "\xf0\x80\x80\x80"}, {"6.19.4", "\xf8\x80\x80\x80\x80"}, {"6.19.5", "\xfc\x80\x80\x80\x80\x80"},
	{"6.20.1", "\xed\xa0\x80"}, {"6.20.2", "\xed\xad\xbf"}, {"6.20.3", "\xed\xae\x80"}, {"6.20.4", "\xed\xaf\xbf"},
	{"6.20.5", "\xed\xb0\x80"}, {"6.20.6", "\xed\xbe\x80"}, {"6.20.7", "\xed\xbf\xbf"},
	{"6.21.1", "\xed\xa0\x80\xed\xb0\x80"}, {"6.21.2", "\xed\xa0\x80\xed\xbf\xbf"}, {"6.21.3", "\xed\xad\xbf\xed\xb0\x80"}, {"6.21.4", "\xed\xad\xbf\xed\xbf\xbf"},
	{"6.21.5", "\xed\xae\x80\xed\xb0\x80"}, {"6.21.6", "\xed\xae\x80\xed\xbf\xbf"}, {"6.21.7", "\xed\xaf\xbf\xed\xb0\x80"}, {"6.21.8", "\xed\xaf\xbf\xed\xbf\xbf"},
}

func manyBytes(from, to int, between string) string {
	var b strings.Builder
	for c := from; c <= to; c++ {
		b.WriteByte(byte(c))
		b.WriteString(between)
	}
	return b.String()
}

// utf8Cases: group 6.
func utf8Cases() []conformanceCase {
	var cases []conformanceCase
	for _, v := range validTexts {
		cases = append(cases,
			conformanceCase{id: v.id, name: "valid", send: message1(opText, said(v.text)), texts: []string{v.text}},
			// As 6.2.2 to 6.2.4: characters may be cut anywhere.
			conformanceCase{id: v.id + "f", name: "valid, a fragment per byte", send: fragmented(opText, cutInto(said(v.text), 1)...), texts: []string{v.text}},
			conformanceCase{id: v.id + "w", name: "valid, byte by byte", send: message1(opText, said(v.text)), chop: 1, texts: []string{v.text}})
	}
	bad := map[string]int{FrameInvalidUTF8: 1}
	for _, v := range invalidTexts {
		cases = append(cases,
			conformanceCase{id: v.id, name: "invalid", send: message1(opText, v.text), code: CloseInvalidUTF8, counts: bad},
			conformanceCase{id: v.id + "f", name: "invalid, a fragment per byte", send: fragmented(opText, cutInto(v.text, 1)...), code: CloseInvalidUTF8, counts: bad},
			conformanceCase{id: v.id + "w", name: "invalid, in a signal byte by byte", send: message1(opText, said(v.text)), chop: 1,
				code: CloseInvalidUTF8, counts: bad})
	}
	const prefix, bomb, rest = "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", "\xf4\x90\x80\x80", "\x65\x64\x69\x74\x65\x64"
	fast := func(parts ...string) []byte { // the message never ends: who waits for its end never answers
		return slices.Concat(rawFrame(opText, parts[0]), rawFrame(opContinuation, strings.Join(parts[1:], "")))
	}
	unfinished := rawHeader(bitFin|opText, uint64(len(prefix+bomb+rest)))
	cut := func(payload string) []byte {
		return append(slices.Clone(unfinished), rawFrame(0, payload)[len(rawHeader(0, uint64(len(payload)))):]...)
	}
	cases = append(cases,
		conformanceCase{id: "6.1.1", name: "empty texts", send: slices.Concat(message1(opText, ""), fragmented(opText, "", "", "")),
			counts: map[string]int{"not_json": 2}},
		conformanceCase{id: "6.4.1", name: "fail fast, fragments", send: fast(prefix, bomb), code: CloseInvalidUTF8, counts: bad},
		conformanceCase{id: "6.4.2", name: "fail fast, cut where it becomes invalid", send: fast(prefix+bomb[:1], bomb[1:2]), code: CloseInvalidUTF8, counts: bad},
		conformanceCase{id: "6.4.3", name: "fail fast, in one frame", send: cut(prefix + bomb), code: CloseInvalidUTF8, counts: bad},
		conformanceCase{id: "6.4.4", name: "fail fast, in one frame, two bytes of four", send: cut(prefix + bomb[:2]), code: CloseInvalidUTF8, counts: bad},
		conformanceCase{id: "6.24.1", name: "binary may be anything", send: message1(opBinary, "\xff\xfe"), counts: map[string]int{FrameBinary: 1}},
	)
	return cases
}

// closeCases: group 7.
func closeCases() []conformanceCase {
	ping, text := message1(opPing, "late"), message1(opText, said("late"))
	long := strings.Repeat("*", 123)
	cases := []conformanceCase{
		{id: "7.1.1", name: "text, then close", send: slices.Concat(message1(opText, said("x")), closeWith(1000, "")), texts: []string{"x"}, code: CloseNormal},
		{id: "7.1.2", name: "two closes", send: slices.Concat(closeWith(1000, ""), closeWith(1000, "")), code: CloseNormal, late: true},
		{id: "7.1.3", name: "ping after close", send: slices.Concat(closeWith(1000, ""), ping), code: CloseNormal, late: true},
		{id: "7.1.4", name: "text after close", send: slices.Concat(closeWith(1000, ""), text), code: CloseNormal, late: true},
		{id: "7.1.5", name: "close between fragments", send: slices.Concat(rawFrame(opText, "a"), closeWith(1000, ""), rawFrame(bitFin, "b")),
			code: CloseNormal, late: true},
		{id: "7.1.6", name: "256 KiB, close, ping", send: slices.Concat(message1(opBinary, strings.Repeat("x", 256<<10)), closeWith(1000, ""), ping),
			code: CloseNormal, late: true},
		{id: "7.3.1", name: "close without code", send: message1(opClose, ""), code: CloseNormal},
		{id: "7.3.2", name: "close of one byte", send: message1(opClose, "\x03"), code: CloseNormal}, // see above
		{id: "7.3.3", name: "close of two bytes", send: closeWith(1000, ""), code: CloseNormal},
		{id: "7.3.4", name: "close with reason", send: closeWith(1000, "Hello World!"), code: CloseNormal},
		{id: "7.3.5", name: "close with the longest reason", send: closeWith(1000, long), code: CloseNormal},
		{id: "7.3.6", name: "close with too long a reason", send: closeWith(1000, long+"*"), code: CloseProtocol},
		{id: "7.5.1", name: "close with a reason that is no UTF-8", send: closeWith(1000, "\xce\xba\xed\xa0\x80"), code: CloseProtocol},
	}
	for i, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		cases = append(cases, conformanceCase{id: fmt.Sprintf("7.7.%d", i+1), name: fmt.Sprintf("close with %d", code), send: closeWith(code, ""), code: CloseNormal})
	}
	for i, code := range []int{0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999} {
		cases = append(cases, conformanceCase{id: fmt.Sprintf("7.9.%d", i+1), name: fmt.Sprintf("close with %d", code), send: closeWith(code, ""), code: CloseProtocol})
	}
	for i, code := range []int{5000, 65535} {
		cases = append(cases, conformanceCase{id: fmt.Sprintf("7.13.%d", i+1), name: fmt.Sprintf("close with %d", code), send: closeWith(code, ""), code: CloseProtocol})
	}
	return cases
}
