package channelslayer

import "strings"

// The reserved key that tells which channels a message is for (channels_redis 4.3, core.py, send and group_send).
const channelKeyName = "__asgi_channel__"

// The keys of a message that every consumer reads.
const (
	typeKeyName    = "type"
	messageKeyName = "message"
)

// specificPrefix is what new_channel() puts in front of the client prefix (core.py, new_channel).
const specificPrefix = "specific"

// layerKeys names the keys that channels_redis shares with us (core.py, _group_key, send, receive_single).
type layerKeys struct {
	prefix string
}

// group is the sorted set of a group's members. Mind the separator that channel keys do not have.
func (k layerKeys) group(group string) string { return k.prefix + ":group:" + group }

// channel is the sorted set of the messages for a channel: the part of its name up to and including the first "!".
func (k layerKeys) channel(name string) string { return k.prefix + nonLocalName(name) }

// ownKeys names the keys of our own. They must not start with the layer's prefix: flush() deletes all that do.
// The layer's prefix is inside, so that two layers on one server do not sweep each other.
type ownKeys struct {
	prefix string // "dfws:layer:asgi:"
}

func newOwnKeys(keyPrefix, layerPrefix string) ownKeys {
	return ownKeys{prefix: keyPrefix + "layer:" + layerPrefix + ":"}
}

// receivers is the set of the client prefixes of all receivers that have not stopped in order.
func (k ownKeys) receivers() string { return k.prefix + "receivers" }

// alive exists while the receiver p runs; its value is the receiver's name, for people.
func (k ownKeys) alive(p string) string { return k.prefix + p + ":alive" }

// groups is the set of the groups that the receiver p has joined.
func (k ownKeys) groups(p string) string { return k.prefix + p + ":groups" }

// sweeping is held by the receiver that looks for dead ones in this period.
func (k ownKeys) sweeping() string { return k.prefix + "sweeping" }

// nonLocalName is Channels' non_local_name: everything up to and including the first "!".
func nonLocalName(name string) string {
	if i := strings.IndexByte(name, '!'); i >= 0 {
		return name[:i+1]
	}
	return name
}
