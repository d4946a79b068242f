// Package layertest is the conformance suite for channel layers and a way to test against the real one.
//
// Run and RunPair hold a channelslayer.Layer to what Channels promises; a Peer is a Python process with channels_redis inside, whose
// layers have the methods of a Go layer, so that the suite runs between the two languages in every direction:
//
//	peer := layertest.StartPeer(t)
//	layertest.RunPair(t, layertest.Traits{}, goLayer, func(t testing.TB) channelslayer.Layer { return peer.Layer(t, config(t)) })
//
// Traits say in what a layer differs from a core layer on one server with msgpack; with PubSub the suite is that of a pub/sub layer.
//
// The interpreter comes from the environment variable DFWS_PYTHON.
//
// Goroutines: each Peer has one that reads the answers; it ends with the process and the peer's Cleanup waits for it.
package layertest
