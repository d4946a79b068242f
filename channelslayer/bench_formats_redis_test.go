package channelslayer

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/dfws/dfws/integration/redistest"
)

// benchFormats are the ways to write a message, beside msgpack in clear.
var benchFormats = map[string]Config{
	"json":          {SerializerFormat: SerializerJSON},
	"msgpack, keys": {SymmetricEncryptionKeys: []Secret{"new", "old"}},
	"json, keys":    {SerializerFormat: SerializerJSON, SymmetricEncryptionKeys: []Secret{"new", "old"}},
}

func BenchmarkFormats(b *testing.B) {
	for name, cfg := range benchFormats {
		c, err := cfg.codec(DefaultRandomPrefixLength, DefaultExpiry+fernetGrace)
		must(b, err)
		names := []string{"specific.p!x"}
		encoded, err := c.encodeList(text(benchFrame), names)
		must(b, err)
		b.Run("encode/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.encodeList(text(benchFrame), names); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("decode/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := c.decode(encoded, 1); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkGroupSendLayers is BenchmarkGroupSend, one after the other, on the layers that cannot do with one script.
func BenchmarkGroupSendLayers(b *testing.B) {
	s := redistest.Shared(b)
	for name, cfg := range map[string]Config{
		"core, keys":        {Hosts: []Host{{URL: s.URL}}, SymmetricEncryptionKeys: []Secret{"k"}},
		"core, three hosts": {Hosts: threeHosts(s)},
		"pubsub":            {Hosts: []Host{{URL: s.URL}}, Backend: BackendPubSub},
	} {
		b.Run(name, func(b *testing.B) {
			l := openLayer(b, cfg)
			r := startGroupReceiver(b, l)
			must(b, r.Join(b.Context(), "g"))
			b.ReportAllocs()
			for b.Loop() {
				if err := l.GroupSend(b.Context(), "g", text(benchFrame)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPubSubReceive is publishing and receiving together: nothing waits for a receiver that is too slow, so it is asked now and then.
func BenchmarkPubSubReceive(b *testing.B) {
	s := redistest.Shared(b)
	l := openLayer(b, Config{Hosts: []Host{{URL: s.URL}}, Backend: BackendPubSub}).(*PubSub)
	r := startGroupReceiver(b, l)
	must(b, r.Join(b.Context(), "g"))
	c := s.Client(b)
	payload, err := l.codec.encode(text(benchFrame), "")
	must(b, err)
	b.ReportAllocs()
	b.ResetTimer()
	for sent := 0; sent < b.N; {
		p := c.Pipeline()
		for range min(1000, b.N-sent) {
			p.Publish(b.Context(), l.groupName("g"), payload)
			sent++
		}
		if _, err := p.Exec(b.Context()); err != nil {
			b.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); len(r.list()) < sent; <-time.After(time.Millisecond) {
			if time.Now().After(deadline) {
				b.Fatalf("%d of %d received", len(r.list()), sent)
			}
		}
	}
}

// BenchmarkPubSubJoin is BenchmarkJoin.
func BenchmarkPubSubJoin(b *testing.B) {
	s := redistest.Shared(b)
	r := startGroupReceiver(b, openLayer(b, Config{Hosts: []Host{{URL: s.URL}}, Backend: BackendPubSub}))
	b.ReportAllocs()
	b.SetParallelism(32)
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			id := hexOf(int(n.Add(1)))
			if err := r.Join(b.Context(), "window"+id, "user"+id, "broadcast"); err != nil {
				b.Error(err)
			}
		}
	})
}
