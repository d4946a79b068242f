package loadproto

import (
	"os"
	"syscall"
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	t.Parallel()
	var delays []time.Duration
	for i := 100; i > 0; i-- {
		delays = append(delays, time.Duration(i)*time.Millisecond)
	}
	for _, c := range []struct {
		delays []time.Duration
		p      int
		want   float64
	}{{nil, 99, 0}, {delays, 50, 50}, {delays, 99, 99}, {delays, 100, 100}, {delays[:1], 0, 100}} {
		if got := Percentile(c.delays, c.p); got != c.want {
			t.Errorf("Percentile(%d delays, %d) = %v, want %v", len(c.delays), c.p, got, c.want)
		}
	}
}

func TestProcess(t *testing.T) {
	t.Parallel()
	if cpu, err := CPUSeconds(os.Getpid()); err != nil || cpu < 0 {
		t.Errorf("CPUSeconds: %v, %v", cpu, err)
	}
	if rss, err := ResidentBytes(os.Getpid()); err != nil || rss < 1<<20 {
		t.Errorf("ResidentBytes: %v, %v", rss, err)
	}
	if cpu, err := GroupCPUSeconds(syscall.Getpgrp()); err != nil || cpu < 0 {
		t.Errorf("GroupCPUSeconds: %v, %v", cpu, err)
	}
	if rss, err := GroupResidentBytes(syscall.Getpgrp()); err != nil || rss < 1<<20 {
		t.Errorf("GroupResidentBytes: %v, %v", rss, err)
	}
	if _, err := GroupCPUSeconds(-1); err == nil {
		t.Error("GroupCPUSeconds of no group: no error")
	}
	if _, err := CPUSeconds(-1); err == nil {
		t.Error("CPUSeconds of no process: no error")
	}
}
