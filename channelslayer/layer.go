package channelslayer

import "context"

// Message is the dictionary that a channel carries, without the reserved key __asgi_channel__.
//
// What the serializer can carry is what a value may be. With msgpack that is nil, bool, every integer type (64 bits), float64, string (valid UTF-8),
// []byte, []any, []string, map[string]any, map[string]string and Message. Anything else is refused by Send and GroupSend with a
// *ValueError, as Python's packb refuses it. A received message holds only nil, bool, int64, uint64 (above the largest int64),
// float64, string, []byte, []any and map[string]any.
//
// With the json serializer byte strings are refused, and integers may have any size: beyond 64 bits they are *big.Int.
type Message map[string]any

// Layer is a channel layer as Django Channels defines it, with Python's names for the operations.
// Implementations are safe for concurrent use and pass the conformance suite of package layertest.
type Layer interface {
	// Send puts m on one channel: a general one ("celery"), which any process may receive from, or a specific one
	// ("specific.<client prefix>!<local part>"), which belongs to the process that made it.
	// It returns ErrChannelFull when the receiver is too far behind.
	Send(ctx context.Context, channel string, m Message) error
	// GroupSend sends m to all members of a group. It is no error when the group is empty or a member is full.
	GroupSend(ctx context.Context, group string, m Message) error
	// GroupAdd makes channel a member of group, or renews its membership.
	GroupAdd(ctx context.Context, group, channel string) error
	// GroupDiscard ends a membership. It is no error when there is none.
	GroupDiscard(ctx context.Context, group, channel string) error
	// NewChannel returns a new specific channel name that this layer receives on; prefix "" means the default, "specific".
	NewChannel(ctx context.Context, prefix string) (string, error)
	// Receive returns the next message of a channel. It blocks until there is one, ctx ends or the layer is closed.
	Receive(ctx context.Context, channel string) (Message, error)
	// Close ends every Receive and gives back the connections.
	Close() error
}

// RedisLayer is what both layers of this package are, Core and PubSub.
type RedisLayer interface {
	Layer
	// Ping returns nil when every server of the layer answers.
	Ping(ctx context.Context) error
	// Flush forgets all messages and groups, as Python's flush does. It is for tests.
	Flush(ctx context.Context) error
	// NewGroupReceiver returns what a process with many listeners receives with. It does not connect.
	NewGroupReceiver(cfg ReceiverConfig) (GroupReceiver, error)
}

// GroupReceiver is one receiving process with any number of listeners: it is a member of each group once, and its caller fans
// out. Receiver is the one of Core, PubSubReceiver that of PubSub.
type GroupReceiver interface {
	// Join makes this process a member of groups and returns when Redis knows, so that a message sent afterwards arrives. It is
	// idempotent and costs nothing for a group that is joined. After an error the groups are joined all the same, as soon as
	// that is possible: call Leave to give up.
	Join(ctx context.Context, groups ...string) error
	// Leave ends memberships; groups that are not joined are ignored. After an error nothing of the groups is delivered, either.
	Leave(ctx context.Context, groups ...string) error
	// Joined returns the number of groups that are joined now.
	Joined() int
	// Run receives until ctx ends, and calls deliver for one message after the other, with the joined groups that it is for;
	// deliver must not wait for a listener. Both arguments may be kept; groups must not be changed. Redis being away is no
	// error.
	Run(ctx context.Context, deliver func(groups []string, m *Received)) error
}

// OpenLayer opens the layer that cfg.Backend names, the core layer when it is empty.
func OpenLayer(cfg Config) (RedisLayer, error) {
	if cfg.Backend == BackendPubSub {
		return OpenPubSub(cfg)
	}
	return Open(cfg)
}
