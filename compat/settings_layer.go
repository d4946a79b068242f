package compat

import (
	"encoding/json"
	"errors"
	"fmt"
)

// CoreLayerBackend is the channel layer that dfws speaks: channels_redis' default one.
const CoreLayerBackend = "channels_redis.core.RedisChannelLayer"

// ChannelLayer holds CHANNEL_LAYERS["default"].
type ChannelLayer struct {
	// Backend is the layer's Python class.
	Backend string `json:"backend"`
	// Hosts are the layer's Redis servers, as URLs.
	Hosts []LayerHost `json:"hosts"`
	// Prefix starts each key of the layer; default "asgi".
	Prefix string `json:"prefix"`
	// Expiry is the life of a message; default 60 s.
	Expiry Seconds `json:"expiry"`
	// GroupExpiry is the life of a group membership; default one day.
	GroupExpiry Seconds `json:"group_expiry"`
	// Capacity is the number of messages a channel holds; default 100.
	Capacity int `json:"capacity"`
	// ChannelCapacity overrides Capacity for channels that match a pattern; the first match counts.
	ChannelCapacity []ChannelCapacity `json:"channel_capacity"`
	// SymmetricEncryptionKeys are the layer's Fernet secrets.
	SymmetricEncryptionKeys []Secret `json:"symmetric_encryption_keys"`
	// RandomPrefixLength is the number of random bytes before each message; default 12.
	RandomPrefixLength int `json:"random_prefix_length"`
	// SerializerFormat is "msgpack", the default, or "json".
	SerializerFormat string `json:"serializer_format"`
}

// LayerHost is one Redis server of the layer.
type LayerHost struct {
	URL Secret `json:"url"`
	// Unsupported describes a host that the export could not write as a URL; such settings are refused.
	Unsupported string `json:"unsupported"`
}

// ChannelCapacity is one entry of CHANNEL_LAYERS["default"]["CONFIG"]["channel_capacity"]; in JSON the pair [pattern, capacity].
type ChannelCapacity struct {
	Pattern  string
	Capacity int
}

// UnmarshalJSON reads the pair.
func (c *ChannelCapacity) UnmarshalJSON(b []byte) error {
	var pair []json.RawMessage
	if err := json.Unmarshal(b, &pair); err != nil || len(pair) != 2 {
		return errors.New("channel_layer.channel_capacity: an entry is not a pair of pattern and capacity")
	}
	if err := json.Unmarshal(pair[0], &c.Pattern); err != nil {
		return errors.New("channel_layer.channel_capacity: a pattern is not a text (regular expressions are not supported)")
	}
	if err := json.Unmarshal(pair[1], &c.Capacity); err != nil {
		return fmt.Errorf("channel_layer.channel_capacity: the capacity of %q is not an integer", c.Pattern)
	}
	return nil
}

// MarshalJSON writes the pair.
func (c ChannelCapacity) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{c.Pattern, c.Capacity})
}
