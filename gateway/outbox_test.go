package gateway

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

var testLimits = outboxLimits{frames: 4, bytes: 100, keptFrames: 3, keptBytes: 60, memory: &memory{limit: 1 << 20}}

// message is a frame with these bytes, header included.
func lasting(text string) *frame { return &frame{wire: []byte(text), lasting: true} }

func mustPush(t testing.TB, o *outbox, text string) (flush bool) {
	t.Helper()
	flush, _, err := o.push(lasting(text), &testLimits)
	if err != nil {
		t.Fatal(err)
	}
	return flush
}

// bytesOf are the bytes that a socket is to be given.
func bytesOf(frames []*frame, offset int) string {
	var b strings.Builder
	for _, f := range frames {
		b.Write(f.wire)
	}
	return b.String()[offset:]
}

// drainOutbox writes everything and returns it.
func drainOutbox(o *outbox) (wire string) {
	for {
		frames, offset := o.take(100)
		if frames == nil {
			return wire
		}
		p := bytesOf(frames, offset)
		wire += p
		o.wrote(len(p), &testLimits)
	}
}

func TestOutboxHoldsUntilOpen(t *testing.T) {
	t.Parallel()
	var o outbox
	if mustPush(t, &o, "a") || mustPush(t, &o, "b") {
		t.Fatal("flushed during the handshake")
	}
	if o.ping() {
		t.Fatal("a ping during the handshake")
	}
	if flush, sealed := o.open(); !flush || sealed {
		t.Fatalf("open: flush %v, sealed %v", flush, sealed)
	}
	if frames, _ := o.take(10); len(frames) != 2 {
		t.Fatalf("took %d frames", len(frames))
	}
}

func TestOutboxOneFlusher(t *testing.T) {
	t.Parallel()
	var o outbox
	o.open()
	if !mustPush(t, &o, "ab") {
		t.Fatal("nobody flushes the first frame")
	}
	if mustPush(t, &o, "cde") {
		t.Fatal("two flushers")
	}
	frames, offset := o.take(3) // the second frame does not fit in the batch
	if len(frames) != 1 || offset != 0 {
		t.Fatalf("took %d frames from %d", len(frames), offset)
	}
	o.wrote(1, &testLimits)
	if frames, offset = o.take(100); len(frames) != 2 || offset != 1 {
		t.Fatalf("took %d frames from %d", len(frames), offset)
	}
	if n := o.wrote(4, &testLimits); n != 2 {
		t.Fatalf("%d frames finished", n)
	}
	if frames, _ := o.take(100); frames != nil {
		t.Fatalf("took %d frames from nothing", len(frames))
	}
	if !mustPush(t, &o, "f") {
		t.Fatal("nobody flushes after everything was written")
	}
}

func TestOutboxLimits(t *testing.T) {
	t.Parallel()
	var o outbox
	if _, _, err := o.push(lasting(strings.Repeat("x", 1000)), &testLimits); err != nil {
		t.Fatalf("a frame that is alone was refused: %v", err)
	}
	if _, _, err := o.push(lasting("x"), &testLimits); !errors.Is(err, errOutboxFull) {
		t.Errorf("bytes: got %v", err)
	}
	var other outbox
	for range testLimits.frames {
		mustPush(t, &other, "x")
	}
	if _, _, err := other.push(lasting("x"), &testLimits); !errors.Is(err, errOutboxFull) {
		t.Errorf("frames: got %v", err)
	}
}

// TestOutboxKeepsUntilProven: what was written waits for the answer to the ping behind it.
func TestOutboxKeepsUntilProven(t *testing.T) {
	t.Parallel()
	var o outbox
	o.open()
	mustPush(t, &o, "aa")
	mustPush(t, &o, "bb")
	o.ping()
	mustPush(t, &o, "cc")
	ping := pingFrame(2)
	if got, want := drainOutbox(&o), "aabb"+string(ping.wire)+"cc"; got != want {
		t.Fatalf("wrote %q, want %q", got, want)
	}
	if !o.unproven() {
		t.Fatal("proven without an answer")
	}
	o.proven(2, &testLimits)
	if !o.unproven() {
		t.Fatal("the answer proves what came after the ping")
	}
	o.proven(1, &testLimits) // an old answer
	o.proven(99, &testLimits)
	if o.unproven() || cap(o.queue) != 1 {
		t.Fatalf("kept after the proof: %d frames, array of %d", len(o.queue), cap(o.queue))
	}
}

// TestOutboxPark: the next socket gets, in order, what was written without proof, the frame that was cut in the middle, what waited, and
// what came when there was no socket any more.
func TestOutboxPark(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(o *outbox){
		"cut":            func(o *outbox) { o.cut() },
		"close":          func(o *outbox) { o.seal([]byte("X"), false) },
		"close at once":  func(o *outbox) { o.seal([]byte("X"), true) },
		"only the other": func(*outbox) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limits := testLimits
			limits.keptFrames, limits.memory = 10, &memory{limit: 1 << 20}
			push := func(o *outbox, text string) {
				t.Helper()
				if _, _, err := o.push(lasting(text), &limits); err != nil {
					t.Fatal(err)
				}
			}
			var o outbox
			o.open()
			push(&o, "aa")
			o.take(100)
			o.wrote(2, &limits)
			push(&o, "bb")
			push(&o, "cc")
			o.take(100)
			o.wrote(1, &limits)
			end(&o)
			push(&o, "dd")
			if dropped, forgot := o.park(&limits); dropped != 0 || forgot != 0 {
				t.Fatalf("%d dropped, %d forgotten", dropped, forgot)
			}
			push(&o, "ee")
			if frames, _ := o.take(100); frames != nil {
				t.Fatal("a flushing goroutine goes on")
			}
			o.wrote(3, &limits) // of a write that was under way
			got := o.surrender(nil)
			if bytesOf(got, 0) != "aabbccddee" {
				t.Fatalf("the next socket gets %q", bytesOf(got, 0))
			}
			for _, f := range got {
				f.release(limits.memory)
			}
			if n := limits.memory.used.Load(); n != 0 {
				t.Errorf("%d bytes are still counted", n)
			}
		})
	}
}

// TestOutboxCloseAnswered: a browser that answers the close frame has what came before it.
func TestOutboxCloseAnswered(t *testing.T) {
	t.Parallel()
	var o outbox
	o.open()
	mustPush(t, &o, "aa")
	o.seal([]byte("X"), false)
	mustPush(t, &o, "bb")
	if got := drainOutbox(&o); got != "aaX" {
		t.Fatalf("wrote %q", got)
	}
	o.closeAnswered(&testLimits)
	o.park(&testLimits)
	if got := bytesOf(o.surrender(nil), 0); got != "bb" {
		t.Fatalf("the next socket gets %q", got)
	}
}

// TestOutboxTrim: without a socket, the oldest go first, and each is counted.
func TestOutboxTrim(t *testing.T) {
	t.Parallel()
	limits := testLimits
	limits.memory = &memory{limit: 1 << 20}
	var o outbox
	o.open()
	o.cut()
	lost := 0
	for _, text := range []string{"a", "b", "c", "d", "e"} {
		_, dropped, err := o.push(lasting(text), &limits)
		if err != nil {
			t.Fatal(err)
		}
		lost += dropped
	}
	if got := bytesOf(o.share(&limits), 0); got != "cde" || lost != 2 {
		t.Errorf("kept %q, lost %d", got, lost)
	}
	if _, dropped, _ := o.push(lasting(strings.Repeat("x", 1000)), &limits); dropped != 3 {
		t.Errorf("%d lost for a frame that is larger than the limit, want all the others", dropped)
	}
	limits.memory.limit = 500
	if _, dropped, _ := o.push(lasting("y"), &limits); dropped != 1 {
		t.Errorf("%d lost when memory is full", dropped)
	}
}

// TestOutboxForgets: what is kept for the case of a cut is bounded, and what was let go is known.
func TestOutboxForgets(t *testing.T) {
	t.Parallel()
	var o outbox
	o.open()
	for _, text := range []string{"a", "b", "c", "d", "e"} {
		mustPush(t, &o, text)
		drainOutbox(&o)
	}
	if _, forgot := o.park(&testLimits); forgot != 2 {
		t.Errorf("%d forgotten, want 2", forgot)
	}
	if got := bytesOf(o.surrender(nil), 0); got != "cde" {
		t.Errorf("the next socket gets %q", got)
	}
}

func TestOutboxInherit(t *testing.T) {
	t.Parallel()
	limits := &outboxLimits{frames: 10, bytes: 1000, keptFrames: 10, keptBytes: 1000, memory: &memory{limit: 1 << 20}}
	text := func(id string) *frame { return newMessage(`{"signal": "s", "opts": {}, "signal_id": "` + id + `"}`) }
	var o outbox
	for _, id := range []string{"3", "4"} { // since the groups were joined
		if _, _, err := o.push(text(id), limits); err != nil {
			t.Fatal(err)
		}
	}
	var kept []*frame
	for _, id := range []string{"1", "2", "3"} {
		f := fromElsewhere(string(text(id).text()))
		f.hold(limits.memory)
		kept = append(kept, f)
	}
	if !o.inherit(kept, time.Now().Add(time.Hour), limits) {
		t.Fatal("not inherited")
	}
	for _, id := range []string{"4", "5", "2"} { // under way, on both ways
		if _, _, err := o.push(text(id), limits); err != nil {
			t.Fatal(err)
		}
	}
	var ids []string
	for _, f := range o.queue {
		ids = append(ids, f.signalID())
	}
	if want := []string{"1", "2", "3", "4", "5"}; !slices.Equal(ids, want) {
		t.Errorf("got %q, want %q", ids, want)
	}
	o.open()
	if o.inherit(nil, time.Now().Add(time.Hour), limits) {
		t.Error("inherited by a socket that is open")
	}
}

// TestOutboxInheritsInOrder: what earlier windows have collected in turn comes in the order of arrival, whichever ended last.
func TestOutboxInheritsInOrder(t *testing.T) {
	t.Parallel()
	limits := &outboxLimits{frames: 10, bytes: 1000, keptFrames: 10, keptBytes: 1000, memory: &memory{limit: 1 << 20}}
	var arrived []*frame
	for _, id := range []string{"1", "2", "3", "4"} {
		f := newMessage(id)
		f.hold(limits.memory)
		arrived = append(arrived, f)
	}
	var o outbox
	o.inherit(append(slices.Clone(arrived[2:]), arrived[:3]...), time.Now().Add(time.Hour), limits)
	if !slices.Equal(o.queue, arrived) {
		t.Errorf("%d messages, or another order", len(o.queue))
	}
}

// TestOutboxRefusedIsNotKnown: a message that a full outbox refuses is taken behind the close frame, also while repeats are dropped.
func TestOutboxRefusedIsNotKnown(t *testing.T) {
	t.Parallel()
	limits := &outboxLimits{frames: 1, bytes: 1000, keptFrames: 10, keptBytes: 1000, memory: &memory{limit: 1 << 20}}
	var o outbox
	o.inherit(nil, time.Now().Add(time.Hour), limits)
	o.open()
	first, second := newMessage("1"), newMessage("2")
	if _, _, err := o.push(first, limits); err != nil {
		t.Fatal(err)
	}
	if _, _, err := o.push(second, limits); !errors.Is(err, errOutboxFull) {
		t.Fatalf("got %v", err)
	}
	o.seal([]byte("X"), true)
	if _, _, err := o.push(second, limits); err != nil {
		t.Fatal(err)
	}
	o.park(limits)
	if got := o.surrender(nil); len(got) != 2 || got[1] != second {
		t.Fatalf("%d messages for the next socket, want both", len(got))
	}
}

func TestOutboxSeal(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		discard bool
		written int // bytes of "aaaa" before the seal
		taken   bool
		want    string
	}{
		"after the rest":        {want: "aaaabbbbX"},
		"instead of the rest":   {discard: true, want: "X"},
		"never within a frame":  {discard: true, taken: true, written: 2, want: "aaX"},
		"not while it is taken": {discard: true, taken: true, want: "aaaabbbbX"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var o outbox
			o.open()
			mustPush(t, &o, "aaaa")
			mustPush(t, &o, "bbbb")
			var pending string
			if tc.taken {
				pending = bytesOf(o.take(100))
			}
			if tc.written > 0 {
				o.wrote(tc.written, &testLimits)
				pending = ""
			}
			if s := o.seal([]byte("X"), tc.discard); !s.first || s.flush || s.held {
				t.Fatalf("seal: %+v", s)
			}
			if s := o.seal([]byte("Y"), tc.discard); s.first {
				t.Fatal("sealed twice")
			}
			if _, _, err := o.push(&frame{wire: []byte("z")}, &testLimits); !errors.Is(err, errOutboxSealed) {
				t.Fatalf("push after seal: %v", err)
			}
			if pending != "" {
				o.wrote(len(pending), &testLimits)
			}
			if got := pending + drainOutbox(&o); got != tc.want {
				t.Errorf("wrote %q, want %q", got, tc.want)
			}
		})
	}
}

func TestOutboxKill(t *testing.T) {
	t.Parallel()
	var o outbox
	o.open()
	mustPush(t, &o, "a")
	if n := o.kill(&testLimits); n != 1 {
		t.Errorf("%d dropped, want 1", n)
	}
	if _, _, err := o.push(lasting("b"), &testLimits); !errors.Is(err, errOutboxSealed) {
		t.Errorf("push: %v", err)
	}
	if frames, _ := o.take(10); frames != nil {
		t.Errorf("took %d frames", len(frames))
	}
	if n := o.wrote(5, &testLimits); n != 0 {
		t.Errorf("%d frames written", n)
	}
}

func TestSignalID(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"signal": "s", "opts": {}, "signal_id": "00000000-0000-4000-8000-000000000000"}`:    "00000000-0000-4000-8000-000000000000",
		`{"signal": "s", "opts": {"signal_id": "no"}, "signal_id": "yes"}`:                    "yes",
		`{"signal": "s", "opts": {"x": "\"signal_id\": \"no\"}"}}`:                            "",
		`{"signal": "s", "opts": {}, "signal_id": 5}`:                                         "",
		`{"signal": "s", "opts": {}, "signal_id": "` + strings.Repeat("x", 65) + `"}`:         "",
		`{"signal": "s", "opts": "` + strings.Repeat("x", 70_000) + `", "signal_id": "long"}`: "long",
		`{"signal": "s", "opts": "` + strings.Repeat("x", 200) + `", "signal_id": "middle"}`:  "middle",
		``: "", `"}`: "", `x"}`: "",
	} {
		if got := newMessage(text).signalID(); got != want {
			t.Errorf("%.80s: got %q, want %q", text, got, want)
		}
	}
}

// FuzzOutbox: whatever is pushed, pinged, proven, sealed, cut and written in whatever pieces, the socket sees whole frames in order, the
// close frame is the last one, and the next socket gets all that the first was not proven to have, in order.
func FuzzOutbox(f *testing.F) {
	f.Add([]byte{0, 10, 20, 1, 2, 0, 3})
	f.Add([]byte{5, 5, 5, 2, 200, 3, 255, 7})
	f.Add([]byte{0, 1, 2, 12, 4, 9, 5, 3, 0, 1})
	f.Fuzz(func(t *testing.T, script []byte) {
		limits := &outboxLimits{frames: 10, bytes: 500, keptFrames: 1000, keptBytes: 1 << 20, memory: &memory{limit: 1 << 30}}
		var o outbox
		var wire []byte
		o.open()
		next, proven, sealed := byte(1), 0, false
		write := func(limit, most int) bool {
			frames, offset := o.take(limit)
			if frames == nil {
				return false
			}
			p := bytesOf(frames, offset)
			n := min(len(p), most)
			wire = append(wire, p[:n]...)
			o.wrote(n, limits)
			return true
		}
		for _, op := range script {
			switch op % 6 {
			case 0, 1: // a message: its number, as often as op says
				text := bytes.Repeat([]byte{next}, int(op)+1)
				if _, _, err := o.push(&frame{wire: text, lasting: true}, limits); err == nil {
					next++
				}
				if next == 200 {
					return
				}
			case 2: // a write of some bytes
				write(300, int(op))
			case 3:
				sealed = o.seal([]byte{255}, op > 128).first || sealed
			case 4:
				if _, _, err := o.push(&frame{wire: []byte{254}}, limits); err != nil && !errors.Is(err, errOutboxSealed) && !errors.Is(err, errOutboxFull) {
					t.Fatal(err)
				}
			case 5: // an answer that proves what is on the wire whole
				if n := int(o.gone) + lastingIn(o.queue[:o.written]); n > proven {
					proven = n
				}
				o.proven(uint64(proven), limits)
			}
		}
		for write(64, 1000) {
		}
		checkWire(t, wire, sealed)
		o.park(limits)
		want := byte(proven)
		for _, f := range o.surrender(nil) {
			if want++; f.wire[0] != want {
				t.Fatalf("the next socket gets %d, want %d", f.wire[0], want)
			}
			f.release(limits.memory)
		}
		if want != next-1 {
			t.Fatalf("the next socket gets up to %d of %d", want, next-1)
		}
		if n := limits.memory.used.Load(); n != 0 {
			t.Fatalf("%d bytes are still counted", n)
		}
	})
}

func lastingIn(frames []*frame) (n int) {
	for _, f := range frames {
		if f.lasting {
			n++
		}
	}
	return n
}

// checkWire: messages in order, whole; 254 are frames in between.
func checkWire(t *testing.T, wire []byte, sealed bool) {
	t.Helper()
	last := byte(0)
	for _, b := range wire {
		if b == 254 {
			continue
		}
		if b < last {
			t.Fatalf("out of order: %v", wire)
		}
		last = b
	}
	if sealed && (len(wire) == 0 || wire[len(wire)-1] != 255 || bytes.Count(wire, []byte{255}) != 1) {
		t.Fatalf("the close frame is not the last one: %v", wire)
	}
}
