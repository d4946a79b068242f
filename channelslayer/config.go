package channelslayer

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
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

	// BackendCore and BackendPubSub are the dotted names of the layers that this package speaks.
	BackendCore   = "channels_redis.core.RedisChannelLayer"
	BackendPubSub = "channels_redis.pubsub.RedisPubSubChannelLayer"
	// SerializerMsgpack is the default serializer_format, SerializerJSON the other one that channels_redis has.
	SerializerMsgpack = "msgpack"
	SerializerJSON    = "json"

	// NoRandomPrefix as Config.RandomPrefixLength stands for Python's random_prefix_length=0.
	NoRandomPrefix = -1
	// maxRandomPrefix bounds a typing error, not a need: 12 bytes are plenty.
	maxRandomPrefix = 1024
)

// Config is the BACKEND and the CONFIG dictionary of a channels_redis layer. The zero value is Python's default. A pub/sub
// layer uses Hosts, Prefix, SymmetricEncryptionKeys and SerializerFormat; as in Python the other options say nothing to it.
type Config struct {
	// Hosts lists the Redis servers, at most MaxHosts, which share the load. Empty means one, DefaultHostURL. All processes of
	// a site must have the same list in the same order.
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

	// Backend is the dotted name from Django's setting, BackendCore or BackendPubSub; "" is what the function that opens the
	// layer is for. A class of the site's own is refused by name.
	Backend string
	// SerializerFormat is SerializerMsgpack, also when empty, or SerializerJSON. Others, which a site has registered in Python,
	// are refused by name. All processes of a site must agree.
	SerializerFormat string
	// SymmetricEncryptionKeys are texts from which keys are derived: the first one encrypts, all are tried to decrypt. Empty
	// means in clear. The clocks of a core layer's processes must agree within Expiry.
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
	// Regexp is used instead when it is not nil: it must match at the start of the name, as Python's re.match does. With one,
	// GroupSend needs two round trips.
	Regexp *regexp.Regexp
	// Capacity applies to the names that match; at least 1.
	Capacity int
}

func (r CapacityRule) pattern() string {
	if r.Regexp != nil {
		return r.Regexp.String()
	}
	return r.Glob
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

// validate joins all faults of a Config that has its defaults, for the layer with the dotted name backend.
func (c Config) validate(backend string) error {
	return errors.Join(c.validateSupported(backend), c.validateHosts(), c.validateBounds())
}

// codec is how the messages of this layer are written.
func (c Config) codec(randomLength int, ttl time.Duration) (codec, error) {
	f, err := newFernet(c.SymmetricEncryptionKeys, ttl)
	if err != nil {
		return codec{}, fmt.Errorf("channelslayer: option symmetric_encryption_keys: %w", err)
	}
	cd := codec{randomLength: randomLength, fernet: f}
	if c.SerializerFormat == SerializerJSON {
		cd.format = formatJSON
	}
	return cd, nil
}

func (c Config) validateSupported(backend string) error {
	var faults []error
	refuse := func(option, detail string) {
		faults = append(faults, &UnsupportedError{Option: option, Detail: detail})
	}
	if c.Backend != "" && c.Backend != backend {
		refuse("BACKEND", fmt.Sprintf("%q (supported: %s, %s)", c.Backend, BackendCore, BackendPubSub))
	}
	if c.SerializerFormat != "" && c.SerializerFormat != SerializerMsgpack && c.SerializerFormat != SerializerJSON {
		refuse("serializer_format", fmt.Sprintf("%q (supported: %s, %s)", c.SerializerFormat, SerializerMsgpack, SerializerJSON))
	}
	return errors.Join(faults...)
}

func (c Config) validateHosts() error {
	if len(c.Hosts) > MaxHosts {
		return fmt.Errorf("channelslayer: option hosts: %d entries (at most %d)", len(c.Hosts), MaxHosts)
	}
	return nil
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
