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
