package djangoresults_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/integration/dbtest"
)

// BenchmarkStore stores the result of a new task each time, in as many goroutines as a worker has slots. The servers of dbtest do
// not wait for the disk; SQLite does.
func BenchmarkStore(b *testing.B) {
	for _, kind := range dbtest.Kinds {
		b.Run(string(kind), func(b *testing.B) {
			backend := sharedSite(b, kind).open(b)
			var n atomic.Int64
			prefix := newID()
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					m := &celeryproto.ResultMeta{TaskID: fmt.Sprint(prefix, n.Add(1)), Status: "SUCCESS", Result: raw("42")}
					if err := backend.Store(b.Context(), m); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
