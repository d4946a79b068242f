package channelslayer

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dfws/dfws/integration/redistest"
	"golang.org/x/sync/errgroup"
)

// benchFrame is a frame of the usual size: 150 bytes of JSON.
var benchFrame = `{"signal": "demo.answer", "opts": {"text": "` + strings.Repeat("x", 60) + `"}, "signal_id": "0f6a6a3e-9d54-4d51-8a51-0d7a9a2b1c11"}`

func BenchmarkGroupSend(b *testing.B) {
	for name, parallel := range map[string]bool{"one": false, "parallel": true} {
		b.Run(name, func(b *testing.B) {
			s := redistest.Shared(b)
			l := open(b, s, Config{})
			c := s.Client(b)
			for _, channel := range []string{"specific.a!x", "specific.b!x"} { // two processes
				must(b, l.GroupAdd(b.Context(), "g", channel))
			}
			must(b, c.Del(b.Context(), l.keys.channel("specific.a!")).Err())
			b.ReportAllocs()
			send := func() {
				if err := l.GroupSend(b.Context(), "g", text(benchFrame)); err != nil {
					b.Error(err)
				}
			}
			if !parallel {
				for b.Loop() {
					send()
				}
				return
			}
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					send()
				}
			})
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	c := codec{randomLength: DefaultRandomPrefixLength}
	m := text(benchFrame)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.encodeOpen(m); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecode is one message as a Receiver handles it: from the bytes to the groups and the text.
func BenchmarkDecode(b *testing.B) {
	l, err := Open(Config{})
	must(b, err)
	defer l.Close()
	r, err := l.NewReceiver(ReceiverConfig{})
	must(b, err)
	part := r.shards[0]
	part.members.mu.Lock()
	part.want("g")
	part.members.mu.Unlock()
	encoded, err := l.codec.encode(text(benchFrame), r.GroupChannel("g"))
	must(b, err)
	received, got := 0, ""
	deliver := func(groups []string, m *Received) {
		got, _ = m.Text()
		received += len(groups)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(encoded)))
	for b.Loop() {
		part.handle(encoded, 1, deliver)
	}
	if received == 0 || got != benchFrame {
		b.Errorf("%d received, the last %q", received, got)
	}
}

// BenchmarkDecodeMap is what the same message costs when the dictionary is wanted.
func BenchmarkDecodeMap(b *testing.B) {
	c := codec{}
	encoded, err := c.encode(text(benchFrame), "specific.p!x")
	must(b, err)
	b.ReportAllocs()
	for b.Loop() {
		r, _, err := c.decode(encoded, 1)
		must(b, err)
		_, err = r.Map()
		must(b, err)
	}
}

// BenchmarkReceive drains what was put into the key beforehand, so that it measures the receiver and Redis, not a sender.
func BenchmarkReceive(b *testing.B) {
	s := redistest.Shared(b)
	l := open(b, s, Config{})
	c := s.Client(b)
	r, err := l.NewReceiver(ReceiverConfig{})
	must(b, err)
	must(b, r.Join(b.Context(), "g"))
	var received atomic.Int64
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var g errgroup.Group
	const batch = 1000
	p := c.Pipeline()
	for i := range b.N {
		encoded, err := l.codec.encode(text(benchFrame), r.GroupChannel("g"))
		must(b, err)
		p.ZAdd(b.Context(), r.key, zOf(i, encoded))
		if i%batch == batch-1 || i == b.N-1 {
			_, err := p.Exec(b.Context())
			must(b, err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	g.Go(func() error {
		return r.Run(ctx, func([]string, *Received) {
			if received.Add(1) == int64(b.N) {
				close(done)
			}
		})
	})
	select {
	case <-done:
	case <-time.After(time.Minute):
		b.Errorf("%d of %d received", received.Load(), b.N)
	}
	b.StopTimer()
	cancel()
	must(b, g.Wait())
}

// BenchmarkJoin is a connect's share: two groups of its own, many at a time.
func BenchmarkJoin(b *testing.B) {
	s := redistest.Shared(b)
	l := open(b, s, Config{})
	r := startReceiver(b, l, ReceiverConfig{})
	var n atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			id := hexOf(int(n.Add(1)))
			if err := r.Join(b.Context(), "window"+id, "user"+id, "broadcast"); err != nil {
				b.Error(err)
			}
		}
	})
}
