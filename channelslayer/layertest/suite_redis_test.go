package layertest_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dfws/dfws/channelslayer"
	"github.com/dfws/dfws/channelslayer/layertest"
	"github.com/dfws/dfws/integration/redistest"
)

var (
	prefixes   sync.Map // testing.TB → its number: a test may run again on the same server
	lastPrefix atomic.Int64
)

// prefix is the test's own layer prefix on the shared server.
func prefix(t testing.TB) string {
	n, ok := prefixes.Load(t)
	if !ok {
		n, _ = prefixes.LoadOrStore(t, lastPrefix.Add(1))
	}
	return fmt.Sprintf("layertest.%d.", n)
}

const capacity = 10

// variant is a way to configure a layer, in both languages.
type variant struct {
	hosts      int // databases of the shared server
	serializer string
	keys       []channelslayer.Secret
	pubsub     bool
}

// variants are the ones that the layers must agree on.
var variants = map[string]variant{
	"msgpack":                         {hosts: 1},
	"json":                            {hosts: 1, serializer: channelslayer.SerializerJSON},
	"msgpack, keys":                   {hosts: 1, keys: []channelslayer.Secret{"new", "old"}},
	"three hosts":                     {hosts: 3},
	"three hosts, json, keys":         {hosts: 3, serializer: channelslayer.SerializerJSON, keys: []channelslayer.Secret{"clé"}},
	"pubsub":                          {hosts: 1, pubsub: true},
	"pubsub, three hosts, json, keys": {hosts: 3, serializer: channelslayer.SerializerJSON, keys: []channelslayer.Secret{"clé", "old"}, pubsub: true},
}

func (v variant) traits() layertest.Traits {
	return layertest.Traits{TextOnly: v.serializer == channelslayer.SerializerJSON, Hosts: v.hosts, PubSub: v.pubsub}
}

func (v variant) urls(t testing.TB) []string {
	urls := make([]string, v.hosts)
	for i := range urls {
		urls[i] = redistest.Shared(t).URLFor(i)
	}
	return urls
}

func (v variant) config(t testing.TB) channelslayer.Config {
	c := channelslayer.Config{Prefix: prefix(t), Capacity: capacity, SerializerFormat: v.serializer, SymmetricEncryptionKeys: v.keys}
	for _, url := range v.urls(t) {
		c.Hosts = append(c.Hosts, channelslayer.Host{URL: url})
	}
	if v.pubsub {
		c.Backend = channelslayer.BackendPubSub
	}
	return c
}

func (v variant) goLayer(t testing.TB) channelslayer.RedisLayer {
	t.Helper()
	l, err := channelslayer.OpenLayer(v.config(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func (v variant) pythonLayer(t testing.TB, peer *layertest.Peer) *layertest.PeerLayer {
	t.Helper()
	config := map[string]any{"hosts": v.urls(t), "prefix": prefix(t), "capacity": capacity}
	if v.serializer != "" {
		config["serializer_format"] = v.serializer
	}
	if v.keys != nil {
		keys := make([]string, len(v.keys))
		for i, key := range v.keys {
			keys[i] = string(key)
		}
		config["symmetric_encryption_keys"] = keys
	}
	if v.pubsub {
		return peer.PubSubLayer(t, config)
	}
	return peer.Layer(t, config)
}

func goLayer(t testing.TB) *channelslayer.Core {
	t.Helper()
	return variants["msgpack"].goLayer(t).(*channelslayer.Core)
}

func pythonConfig(t testing.TB) map[string]any {
	return map[string]any{"hosts": []string{redistest.Shared(t).URL}, "prefix": prefix(t), "capacity": capacity}
}

func TestGoLayer(t *testing.T) {
	t.Parallel()
	for name, v := range variants {
		t.Run(name, func(t *testing.T) {
			layertest.Run(t, v.traits(), func(t testing.TB) channelslayer.Layer { return v.goLayer(t) })
		})
	}
}

// The suite itself is judged by the real thing, then the two are mixed.
func TestPythonLayers(t *testing.T) {
	t.Parallel()
	peer := layertest.StartPeer(t)
	for name, v := range variants {
		inGo := func(t testing.TB) channelslayer.Layer { return v.goLayer(t) }
		inPython := func(t testing.TB) channelslayer.Layer { return v.pythonLayer(t, peer) }
		t.Run(name, func(t *testing.T) {
			if v.hosts == 1 || v.pubsub { // Python's own send loses messages between several hosts of a core layer
				t.Run("python to python", func(t *testing.T) { layertest.Run(t, v.traits(), inPython) })
			}
			toPython := v.traits()
			toPython.OneAtATime = v.hosts > 1
			t.Run("go to python", func(t *testing.T) { layertest.RunPair(t, toPython, inGo, inPython) })
			t.Run("python to go", func(t *testing.T) { layertest.RunPair(t, v.traits(), inPython, inGo) })
		})
	}
}

// Keys are exchanged while the site runs: first every process learns the new one as its second, then it comes first.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	peer := layertest.StartPeer(t)
	old := variant{hosts: 1, keys: []channelslayer.Secret{"old", "new"}}
	rotated := variant{hosts: 1, keys: []channelslayer.Secret{"new", "old"}}
	for name, pair := range map[string][2]channelslayer.Layer{
		"go": {old.goLayer(t), rotated.pythonLayer(t, peer)}, "python": {old.pythonLayer(t, peer), rotated.goLayer(t)},
	} {
		for i, sender := range pair {
			receiver := pair[1-i]
			channel := newChannel(t, receiver)
			must(t, sender.Send(t.Context(), channel, frame(name)))
			mustReceive(t, receiver, channel, name)
			must(t, receiver.GroupAdd(t.Context(), "g"+name, channel))
			must(t, sender.GroupSend(t.Context(), "g"+name, frame(name)))
			mustReceive(t, receiver, channel, name)
			must(t, receiver.GroupDiscard(t.Context(), "g"+name, channel))
		}
	}
}
