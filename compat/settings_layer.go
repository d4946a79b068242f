package compat

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
)

// The channel layers that dfws speaks.
const (
	CoreLayerBackend   = "channels_redis.core.RedisChannelLayer"
	PubSubLayerBackend = "channels_redis.pubsub.RedisPubSubChannelLayer"
)

// ChannelLayer holds CHANNEL_LAYERS["default"].
type ChannelLayer struct {
	// Backend is the layer's Python class.
	Backend string `json:"backend"`
	// Hosts are the layer's Redis servers.
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
	// URL in redis-py's dialect. With Sentinels its host and port say nothing.
	URL Secret `json:"url"`
	// Sentinels are the addresses, "host:port", of the Sentinels that know the server by MasterName.
	Sentinels  []string `json:"sentinels,omitempty"`
	MasterName string   `json:"master_name,omitempty"`
	// SentinelKwargs say how Sentinels are reached, by redis-py's names.
	SentinelKwargs SecretJSON `json:"sentinel_kwargs,omitempty"`
	// Unsupported describes a host that the export could not write as a URL; such settings are refused.
	Unsupported string `json:"unsupported"`
}

// ChannelCapacity is one entry of CHANNEL_LAYERS["default"]["CONFIG"]["channel_capacity"]; in JSON the pair [pattern, capacity],
// where a compiled regular expression is the object {"regex": …, "flags": …}.
type ChannelCapacity struct {
	// Pattern is a shell pattern for the whole name of a channel, or the text of the regular expression.
	Pattern string
	// Regexp is the compiled expression, to be matched at the start of the name; nil for a shell pattern.
	Regexp *regexp.Regexp
	// Flags of the regular expression, by the letters of Python's inline syntax.
	Flags string
	// Capacity is the number of messages.
	Capacity int
}

// jsonRegex is a compiled regular expression of Python.
type jsonRegex struct {
	Regex       *string `json:"regex"`
	Flags       string  `json:"flags"`
	Unsupported string  `json:"unsupported,omitempty"`
}

// UnmarshalJSON reads the pair.
func (c *ChannelCapacity) UnmarshalJSON(b []byte) error {
	var pair []json.RawMessage
	if err := json.Unmarshal(b, &pair); err != nil || len(pair) != 2 {
		return errors.New("channel_layer.channel_capacity: an entry is not a pair of pattern and capacity")
	}
	if err := c.readPattern(pair[0]); err != nil {
		return fmt.Errorf("channel_layer.channel_capacity: %w", err)
	}
	if err := json.Unmarshal(pair[1], &c.Capacity); err != nil {
		return fmt.Errorf("channel_layer.channel_capacity: the capacity of %q is not an integer", c.Pattern)
	}
	return nil
}

func (c *ChannelCapacity) readPattern(b []byte) error {
	if json.Unmarshal(b, &c.Pattern) == nil {
		return nil
	}
	var r jsonRegex
	switch err := json.Unmarshal(b, &r); {
	case err != nil || r.Regex == nil && r.Unsupported == "":
		return errors.New("a pattern is neither a text nor a regular expression")
	case r.Unsupported != "":
		return fmt.Errorf("%s is not supported", r.Unsupported)
	}
	p, err := compilePattern(*r.Regex, r.Flags)
	if err != nil {
		return fmt.Errorf("%w is not supported", err)
	}
	c.Pattern, c.Regexp, c.Flags = *r.Regex, p.re, r.Flags
	return nil
}

// MarshalJSON writes the pair.
func (c ChannelCapacity) MarshalJSON() ([]byte, error) {
	if c.Regexp != nil {
		return json.Marshal([]any{jsonRegex{Regex: &c.Pattern, Flags: c.Flags}, c.Capacity})
	}
	return json.Marshal([]any{c.Pattern, c.Capacity})
}
