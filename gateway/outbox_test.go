package gateway

import (
	"bytes"
	"errors"
	"testing"
)

var testLimits = outboxLimits{frames: 4, bytes: 100}

func mustPush(t testing.TB, o *outbox, frame string) (flush bool) {
	t.Helper()
	flush, err := o.push([]byte(frame), testLimits)
	if err != nil {
		t.Fatal(err)
	}
	return flush
}

func TestOutboxHoldsUntilOpen(t *testing.T) {
	t.Parallel()
	var o outbox
	if mustPush(t, &o, "a") || mustPush(t, &o, "b") {
		t.Fatal("flushed during the handshake")
	}
	if flush, sealed := o.open(); !flush || sealed {
		t.Fatalf("open: flush %v, sealed %v", flush, sealed)
	}
	if frames, _ := o.take(10); len(frames) != 2 {
		t.Fatalf("took %q", frames)
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
		t.Fatalf("took %q from %d", frames, offset)
	}
	o.wrote(1)
	if frames, offset = o.take(100); len(frames) != 2 || offset != 1 {
		t.Fatalf("took %q from %d", frames, offset)
	}
	if n := o.wrote(4); n != 2 {
		t.Fatalf("%d frames finished", n)
	}
	if frames, _ := o.take(100); frames != nil {
		t.Fatalf("took %q from nothing", frames)
	}
	if !mustPush(t, &o, "f") {
		t.Fatal("nobody flushes after the outbox was empty")
	}
}

func TestOutboxLimits(t *testing.T) {
	t.Parallel()
	var o outbox
	if _, err := o.push(make([]byte, 1000), testLimits); err != nil {
		t.Fatalf("a frame that is alone was refused: %v", err)
	}
	if _, err := o.push([]byte("x"), testLimits); !errors.Is(err, errOutboxFull) {
		t.Errorf("bytes: got %v", err)
	}
	o = outbox{}
	for range testLimits.frames {
		mustPush(t, &o, "x")
	}
	if _, err := o.push([]byte("x"), testLimits); !errors.Is(err, errOutboxFull) {
		t.Errorf("frames: got %v", err)
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
			if tc.taken {
				o.take(100)
			}
			if tc.written > 0 {
				o.wrote(tc.written)
			}
			if s := o.seal([]byte("X"), tc.discard); !s.first || s.flush || s.held {
				t.Fatalf("seal: %+v", s)
			}
			if s := o.seal([]byte("Y"), tc.discard); s.first {
				t.Fatal("sealed twice")
			}
			if _, err := o.push([]byte("z"), testLimits); !errors.Is(err, errOutboxSealed) {
				t.Fatalf("push after seal: %v", err)
			}
			frames, offset := o.take(100)
			if got := string(bytes.Join(frames, nil)[offset:]); got != tc.want {
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
	if n := o.kill(); n != 1 {
		t.Errorf("%d dropped, want 1", n)
	}
	if _, err := o.push([]byte("b"), testLimits); !errors.Is(err, errOutboxSealed) {
		t.Errorf("push: %v", err)
	}
	if frames, _ := o.take(10); frames != nil {
		t.Errorf("took %q", frames)
	}
	if n := o.wrote(5); n != 0 {
		t.Errorf("%d frames written", n)
	}
}

// FuzzOutbox: whatever is pushed, sealed and written in whatever pieces, the socket sees whole frames in order, and the close frame
// is the last one.
func FuzzOutbox(f *testing.F) {
	f.Add([]byte{0, 10, 20, 1, 2, 0, 3})
	f.Add([]byte{5, 5, 5, 2, 200, 3, 255, 7})
	f.Fuzz(func(t *testing.T, script []byte) {
		var o outbox
		var wire []byte
		o.open()
		next, sealed := byte(1), false
		for _, op := range script {
			switch op % 4 {
			case 0, 1: // a frame: its number, as often as op says
				frame := bytes.Repeat([]byte{next}, int(op)+1)
				if _, err := o.push(frame, outboxLimits{frames: 10, bytes: 500}); err == nil && next < 250 {
					next++
				}
			case 2: // a write of some bytes
				if frames, offset := o.take(300); frames != nil {
					p := bytes.Join(frames, nil)[offset:]
					n := min(len(p), int(op))
					wire = append(wire, p[:n]...)
					o.wrote(n)
				}
			case 3:
				sealed = o.seal([]byte{255}, op > 128).first || sealed
			}
		}
		for {
			frames, offset := o.take(64)
			if frames == nil {
				break
			}
			p := bytes.Join(frames, nil)[offset:]
			wire = append(wire, p...)
			o.wrote(len(p))
		}
		for i := 1; i < len(wire); i++ {
			if wire[i] < wire[i-1] {
				t.Fatalf("out of order: %v", wire)
			}
		}
		if sealed && (len(wire) == 0 || wire[len(wire)-1] != 255 || bytes.Count(wire, []byte{255}) != 1) {
			t.Fatalf("the close frame is not the last one: %v", wire)
		}
		if frames, size := o.waiting(); frames != 0 || size != 0 {
			t.Fatalf("%d frames, %d bytes left", frames, size)
		}
	})
}
