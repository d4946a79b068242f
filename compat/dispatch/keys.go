package dispatch

import (
	"crypto/sha256"
	"encoding/hex"
)

// keys names everything of dfws in Redis. All start with the key prefix (DFWS_KEY_PREFIX), which never starts with the channel
// layer's: its flush() deletes those.
type keys struct{ prefix string }

// registry is a hash: publisher → entry.
func (k keys) registry() string { return k.prefix + "registry" }

// registryChanged is a channel: the publisher whose entry changed.
func (k keys) registryChanged() string { return k.prefix + "registry:changed" }

// ticket is a string: what Django says about a window. The window key is a secret, so the name has its hash.
func (k keys) ticket(windowKey string) string {
	sum := sha256.Sum256([]byte(windowKey))
	return k.prefix + "ticket:" + hex.EncodeToString(sum[:])
}

// revoked is a channel: sessions and users whose windows must go.
func (k keys) revoked() string { return k.prefix + "revoked" }

// parkedOwners is a set: the gateways that keep messages for a page whose window has lost its socket.
func (k keys) parkedOwners(page string) string { return k.prefix + "parked:" + page }

// parkedMessages is a list: what one of them has written, oldest first.
func (k keys) parkedMessages(page, owner string) string {
	return k.prefix + "parked:" + page + ":" + owner
}

// gateway is a channel: notes to one gateway.
func (k keys) gateway(name string) string { return k.prefix + "gateway:" + name }

// gateways is a channel: notes to all that take new windows.
func (k keys) gateways() string { return k.prefix + "gateways" }
