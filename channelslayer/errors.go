package channelslayer

import (
	"context"
	"errors"
	"fmt"

	"github.com/dfws/dfws/internal/redisconn"
)

var (
	// ErrChannelFull is returned by Send when the receiving key already holds its capacity of messages (ChannelFull in Python).
	ErrChannelFull = errors.New("channelslayer: channel full")
	// ErrReservedKey is returned by Send when the message already has the key __asgi_channel__.
	ErrReservedKey = errors.New("channelslayer: message has the reserved key __asgi_channel__")
	// ErrWrongClientPrefix is returned by Receive for a specific channel that another layer made.
	ErrWrongClientPrefix = errors.New("channelslayer: the specific channel belongs to another client prefix")
	// ErrUnknownChannel is returned by GroupAdd of a pub/sub layer for a channel that this process does not receive on (RuntimeError in Python).
	ErrUnknownChannel = errors.New("channelslayer: the channel is none of this process")
	// ErrClosed is returned by every method after Close, and by a Receiver's Join and Leave after its Run has returned.
	ErrClosed = errors.New("channelslayer: closed")
	// ErrRunning is returned by a second Run of one Receiver.
	ErrRunning = errors.New("channelslayer: receiver: Run was called before")
	// ErrInvalidName is what errors.Is finds in a *NameError.
	ErrInvalidName = errors.New("channelslayer: invalid name")
	// ErrUnsupported is what errors.Is finds in an *UnsupportedError.
	ErrUnsupported = errors.New("channelslayer: unsupported option")
)

// NameError is returned for a channel or group name that Channels would refuse with a TypeError.
type NameError struct {
	Kind   string // "channel" or "group"
	Reason string
}

// Error implements error. The name itself is left out: it may be long and is not needed to find the call.
func (e *NameError) Error() string {
	return fmt.Sprintf("channelslayer: %s name: %s", e.Kind, e.Reason)
}

// Is reports whether target is ErrInvalidName.
func (e *NameError) Is(target error) bool { return target == ErrInvalidName }

// UnsupportedError is returned by Open for an option of channels_redis that this package does not have.
type UnsupportedError struct {
	Option string // as Python spells it: "symmetric_encryption_keys"
	Detail string
}

// Error implements error.
func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("channelslayer: option %s: not supported: %s", e.Option, e.Detail)
}

// Is reports whether target is ErrUnsupported.
func (e *UnsupportedError) Is(target error) bool { return target == ErrUnsupported }

// ValueError is returned by Send and GroupSend for a value that msgpack.packb would refuse. It never contains the value.
type ValueError struct {
	Path   string // "message", "opts.when", "args[2]"
	Reason string
}

// Error implements error.
func (e *ValueError) Error() string {
	return fmt.Sprintf("channelslayer: message: %s: %s", e.Path, e.Reason)
}

// DecodeError says why the bytes of a message are not what a channel layer writes. It never contains the bytes.
type DecodeError struct {
	Reason DropReason
	Offset int // in the bytes without their random prefix; -1 when not known
}

// Error implements error.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("channelslayer: decode: %s at offset %d", e.Reason, e.Offset)
}

// Retryable reports whether the same call can succeed later without a change of its arguments: Redis was away, loading, or failing
// over, or the channel was full. A send that was cut off may have been carried out, so a retry may deliver it twice.
func Retryable(err error) bool {
	if errors.Is(err, ErrClosed) || errors.Is(err, context.Canceled) {
		return false
	}
	return errors.Is(err, ErrChannelFull) || redisconn.Transient(err)
}
