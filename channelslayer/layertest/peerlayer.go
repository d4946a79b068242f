package layertest

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dfws/dfws/channelslayer"
)

var _ channelslayer.Layer = (*PeerLayer)(nil)

// PeerLayer is one channels_redis layer object in a Peer, with the methods of a Go layer.
type PeerLayer struct {
	peer   *Peer
	id     int64
	prefix string
}

var peerLayers atomic.Int64

// Layer makes a RedisChannelLayer(**config), a layer of its own with its own client prefix, and closes it by Cleanup.
func (p *Peer) Layer(t testing.TB, config map[string]any) *PeerLayer {
	t.Helper()
	return p.open(t, "core", config)
}

// PubSubLayer makes a RedisPubSubChannelLayer(**config) and closes it by Cleanup.
func (p *Peer) PubSubLayer(t testing.TB, config map[string]any) *PeerLayer {
	t.Helper()
	return p.open(t, "pubsub", config)
}

func (p *Peer) open(t testing.TB, kind string, config map[string]any) *PeerLayer {
	t.Helper()
	l := &PeerLayer{peer: p, id: peerLayers.Add(1)}
	if err := l.call(t.Context(), &l.prefix, "open", map[string]any{"kind": kind, "config": config}); err != nil {
		t.Fatalf("python layer: %v", err)
	}
	t.Cleanup(func() { _ = l.Close() }) // the test may have closed it, or killed the process
	return l
}

func (l *PeerLayer) call(ctx context.Context, result any, op string, args map[string]any) error {
	args["op"], args["layer"] = op, l.id
	return l.peer.call(ctx, result, args)
}

// ClientPrefix returns the layer's client_prefix; a pub/sub layer has none.
func (l *PeerLayer) ClientPrefix() string { return l.prefix }

// Send implements channelslayer.Layer.
func (l *PeerLayer) Send(ctx context.Context, channel string, m channelslayer.Message) error {
	return l.call(ctx, nil, "send", map[string]any{"channel": channel, "message": toWire(map[string]any(m))})
}

// GroupSend implements channelslayer.Layer.
func (l *PeerLayer) GroupSend(ctx context.Context, group string, m channelslayer.Message) error {
	return l.call(ctx, nil, "group_send", map[string]any{"group": group, "message": toWire(map[string]any(m))})
}

// GroupAdd implements channelslayer.Layer.
func (l *PeerLayer) GroupAdd(ctx context.Context, group, channel string) error {
	return l.call(ctx, nil, "group_add", map[string]any{"group": group, "channel": channel})
}

// GroupDiscard implements channelslayer.Layer.
func (l *PeerLayer) GroupDiscard(ctx context.Context, group, channel string) error {
	return l.call(ctx, nil, "group_discard", map[string]any{"group": group, "channel": channel})
}

// NewChannel implements channelslayer.Layer.
func (l *PeerLayer) NewChannel(ctx context.Context, prefix string) (string, error) {
	var name string
	err := l.call(ctx, &name, "new_channel", map[string]any{"prefix": prefix})
	return name, err
}

// Receive implements channelslayer.Layer.
func (l *PeerLayer) Receive(ctx context.Context, channel string) (channelslayer.Message, error) {
	var m map[string]any
	if err := l.call(ctx, &m, "receive", map[string]any{"channel": channel}); err != nil {
		return nil, err
	}
	fromWire(m)
	return m, nil
}

// Flush deletes everything of the layer in Redis.
func (l *PeerLayer) Flush(ctx context.Context) error {
	return l.call(ctx, nil, "flush", map[string]any{})
}

// Close implements channelslayer.Layer.
func (l *PeerLayer) Close() error {
	return l.call(context.Background(), nil, "close", map[string]any{})
}

// pythonFloat keeps 1.0 a float on its way: encoding/json would write 1.
func pythonFloat(f float64) json.RawMessage {
	text := strconv.FormatFloat(f, 'g', -1, 64)
	if !strings.ContainsAny(text, ".eEIN") {
		text += ".0"
	}
	return json.RawMessage(text)
}

func number(n json.Number) any {
	if i, err := strconv.ParseInt(n.String(), 10, 64); err == nil {
		return i
	}
	if u, err := strconv.ParseUint(n.String(), 10, 64); err == nil {
		return u
	}
	f, err := n.Float64()
	if err != nil {
		return n.String()
	}
	return f
}
