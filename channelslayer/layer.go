package channelslayer

import "context"

// Message is the dictionary that a channel carries, without the reserved key __asgi_channel__.
//
// What msgpack can carry is what a value may be: nil, bool, every integer type (64 bits), float64, string (valid UTF-8), []byte,
// []any, []string, map[string]any, map[string]string and Message. Anything else is refused by Send and GroupSend with a *ValueError,
// as Python's packb refuses it. A received message holds only nil, bool, int64, uint64 (above the largest int64), float64, string,
// []byte, []any and map[string]any.
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
	// NewChannel returns a new specific channel name that this layer can receive on; prefix "" means "specific".
	NewChannel(prefix string) string
	// Receive returns the next message of a channel. It blocks until there is one, ctx ends or the layer is closed.
	Receive(ctx context.Context, channel string) (Message, error)
	// Close ends every Receive and gives back the connections.
	Close() error
}
