package channelslayer

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Defaults of channels_redis 4.3.0 (core.py, RedisChannelLayer.__init__).
const (
	DefaultHostURL            = "redis://localhost:6379"
	DefaultPrefix             = "asgi"
	DefaultExpiry             = 60 * time.Second
	DefaultGroupExpiry        = 24 * time.Hour
	DefaultCapacity           = 100
	DefaultRandomPrefixLength = 12

	// BackendCore is the dotted name of the layer that this package speaks.
	BackendCore = "channels_redis.core.RedisChannelLayer"
	// SerializerMsgpack is the default serializer_format.
	SerializerMsgpack = "msgpack"

	// NoRandomPrefix as Config.RandomPrefixLength stands for Python's random_prefix_length=0.
	NoRandomPrefix = -1
	// maxRandomPrefix bounds a typing error, not a need: 12 bytes are plenty.
	maxRandomPrefix = 1024
)

// Config is the CONFIG dictionary of a channels_redis core layer. The zero value is Python's default.
type Config struct {
	// Hosts lists the Redis servers. Empty means one, DefaultHostURL. More than one is refused for now.
	Hosts []Host
	// Prefix starts every key of the layer; "" means "asgi". All processes of a site must agree.
	Prefix string
	// Expiry is how long a message waits for its receiver; 0 means 60 s. Whole seconds, at least one.
	Expiry time.Duration
	// GroupExpiry is how long a membership lasts without renewal; 0 means 24 h. Whole seconds, at least one.
	GroupExpiry time.Duration
	// Capacity bounds the messages waiting on one key; 0 means 100.
	Capacity int
	// ChannelCapacity overrides Capacity for channel names that match; the first match counts.
	ChannelCapacity []CapacityRule
	// RandomPrefixLength is the number of random bytes before each message; 0 means 12, NoRandomPrefix none.
	// All processes of a site must agree.
	RandomPrefixLength int

	// Backend is the dotted name from Django's setting; "" and BackendCore are the same, others are refused for now.
	Backend string
	// SerializerFormat is "" or "msgpack"; others are refused for now.
	SerializerFormat string
	// SymmetricEncryptionKeys must be empty: encryption is refused for now.
	SymmetricEncryptionKeys []Secret

	// Logger gets lifecycle and trouble; nil discards.
	Logger *slog.Logger
	// Observer gets the counts.
	Observer Observer
}

// CapacityRule is one entry of channel_capacity.
type CapacityRule struct {
	// Glob is a shell pattern (fnmatch: * ? [seq] [!seq]) that must match the whole channel name, case-sensitive.
	Glob string
	// Capacity applies to the names that match; at least 1.
	Capacity int
}

// Secret is text that must not reach a log: it prints as [redacted].
type Secret string

const redacted = "[redacted]"

// String implements fmt.Stringer.
func (s Secret) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return redacted }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

func (c Config) withDefaults() Config {
	if len(c.Hosts) == 0 {
		c.Hosts = []Host{{URL: DefaultHostURL}}
	}
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if c.Expiry == 0 {
		c.Expiry = DefaultExpiry
	}
	if c.GroupExpiry == 0 {
		c.GroupExpiry = DefaultGroupExpiry
	}
	if c.Capacity == 0 {
		c.Capacity = DefaultCapacity
	}
	switch c.RandomPrefixLength {
	case 0:
		c.RandomPrefixLength = DefaultRandomPrefixLength
	case NoRandomPrefix:
		c.RandomPrefixLength = 0
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// validate joins all faults of a Config that has its defaults.
func (c Config) validate() error {
	return errors.Join(c.validateSupported(), c.validateBounds())
}

func (c Config) validateSupported() error {
	var faults []error
	refuse := func(option, detail string) {
		faults = append(faults, &UnsupportedError{Option: option, Detail: detail})
	}
	if c.Backend != "" && c.Backend != BackendCore {
		refuse("BACKEND", fmt.Sprintf("%q (supported: %s)", c.Backend, BackendCore))
	}
	if len(c.Hosts) > 1 {
		refuse("hosts", fmt.Sprintf("%d entries (supported: one)", len(c.Hosts)))
	}
	if c.SerializerFormat != "" && c.SerializerFormat != SerializerMsgpack {
		refuse("serializer_format", fmt.Sprintf("%q (supported: %s)", c.SerializerFormat, SerializerMsgpack))
	}
	if len(c.SymmetricEncryptionKeys) > 0 {
		refuse("symmetric_encryption_keys", "encrypted messages cannot be read or written yet")
	}
	return errors.Join(faults...)
}

func (c Config) validateBounds() error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("channelslayer: option "+format, args...))
	}
	seconds := func(name string, d time.Duration) {
		if d < time.Second || d%time.Second != 0 {
			fault("%s: %v is not a whole number of seconds, at least one", name, d)
		}
	}
	seconds("expiry", c.Expiry)
	seconds("group_expiry", c.GroupExpiry)
	if c.Capacity < 1 {
		fault("capacity: %d is below 1", c.Capacity)
	}
	if c.RandomPrefixLength < 0 || c.RandomPrefixLength > maxRandomPrefix {
		fault("random_prefix_length: %d is not between 0 and %d", c.RandomPrefixLength, maxRandomPrefix)
	}
	return errors.Join(faults...)
}
