package gateway

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/dispatch"
	"github.com/dfws/dfws/integration/logbuffer"
	"github.com/dfws/dfws/integration/redistest"
)

// BenchmarkConnect measures handshakes with a ticket and three groups, one of them new, over real Redis; eight at a time. The client's
// side shares the processors.
func BenchmarkConnect(b *testing.B) {
	server := redistest.Shared(b)
	settings, err := compat.ParseSettings(fmt.Appendf(nil, `{"schema":1,"celery":{"broker_url":%q},
		"channel_layer":{"hosts":[{"url":%q}]}}`, server.URL, server.URLFor(1)))
	if err != nil {
		b.Fatal(err)
	}
	services, err := dispatch.Connect(b.Context(), dispatch.ServicesConfig{Settings: settings})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = services.Close() })
	r := &redisRig{shared: server, services: services, client: server.Client(b)}
	r.t, r.counts, r.logs, r.doneC = b, &counts{n: map[string]int{}}, &logbuffer.Buffer{}, make(chan struct{})
	if r.Gateway, err = New(Config{Settings: settings, Services: services, DrainWindow: Off, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		b.Fatal(err)
	}
	r.rig.start()
	addr := strings.TrimPrefix(r.rig.server.URL, "http://")
	pipe := r.client.Pipeline()
	for i := range 1000 {
		r.writeTicketTo(pipe, fmt.Sprint("key", i))
	}
	if _, err := pipe.Exec(b.Context()); err != nil {
		b.Fatal(err)
	}
	var n atomic.Int64
	b.SetParallelism(4)
	b.ReportAllocs()
	start := time.Now()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			conn := rawWindow(b, addr, fmt.Sprint("key", n.Add(1)%1000))
			_ = conn.Close()
		}
	})
	b.ReportMetric(float64(n.Load())/time.Since(start).Seconds(), "connects/s")
}
