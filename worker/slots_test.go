package worker

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// As many jobs run at once as there are slots, whether they came together or one by one, and none waits while a slot is free.
func TestSlotsRunAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const size = 8
		var running atomic.Int32
		goOnC := make(chan struct{})
		s := newSlots(func(*job) {
			running.Add(1)
			<-goOnC
			running.Add(-1)
		}, func(int, int) {})
		s.resize(size)
		synctest.Wait()
		for range 3 * size {
			s.push(&job{})
		}
		synctest.Wait()
		if n := running.Load(); n != size {
			t.Errorf("%d jobs run in %d slots", n, size)
		}
		for range 2 * size { // each that ends lets another begin
			goOnC <- struct{}{}
			synctest.Wait()
			if n := running.Load(); n != size {
				t.Fatalf("%d jobs run while others wait", n)
			}
		}
		for range size {
			goOnC <- struct{}{}
		}
		synctest.Wait()
		for n := range int32(size) { // the slots are idle: each job begins at once
			s.push(&job{})
			synctest.Wait()
			if got := running.Load(); got != n+1 {
				t.Fatalf("%d jobs run, want %d", got, n+1)
			}
		}
		close(goOnC)
		synctest.Wait()
		s.resize(1)
		s.push(&job{})
		synctest.Wait()
		if _, busy, waiting := s.counts(); busy != 0 || waiting != 0 {
			t.Errorf("%d jobs run and %d wait after all were let go", busy, waiting)
		}
		s.close()
		if left := s.wait(); left != 0 {
			t.Errorf("%d handlers left", left)
		}
	})
}
