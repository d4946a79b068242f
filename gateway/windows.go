package gateway

import (
	"sync"
	"sync/atomic"
)

// windowShards divide the open windows; the heartbeat visits one shard per tick.
const windowShards = 64

type windowShard struct {
	mu   sync.Mutex
	list []*window
}

// windowSet holds every open window.
type windowSet struct {
	next   atomic.Uint32
	shards [windowShards]windowShard
}

func (s *windowSet) add(w *window) {
	w.shard = uint8(s.next.Add(1) % windowShards)
	shard := &s.shards[w.shard]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	w.index = len(shard.list)
	shard.list = append(shard.list, w)
}

func (s *windowSet) remove(w *window) {
	shard := &s.shards[w.shard]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	last := len(shard.list) - 1
	moved := shard.list[last]
	shard.list[w.index] = moved
	moved.index = w.index
	shard.list[last] = nil
	shard.list = shard.list[:last]
}

// inShard appends the windows of one shard to dst.
func (s *windowSet) inShard(dst []*window, shard int) []*window {
	sh := &s.shards[shard]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return append(dst, sh.list...)
}

// all returns every open window.
func (s *windowSet) all() []*window {
	var list []*window
	for i := range s.shards {
		list = s.inShard(list, i)
	}
	return list
}
