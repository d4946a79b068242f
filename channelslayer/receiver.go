package channelslayer

import (
	"context"
	"errors"
)

// ReceiverConfig configures one Receiver.
type ReceiverConfig struct{}

// Receiver is one receiving process.
type Receiver struct{}

// NewReceiver returns a receiver with a fresh client prefix.
func (c *Core) NewReceiver(cfg ReceiverConfig) (*Receiver, error) { return &Receiver{}, nil }

// GroupChannel returns the channel name that stands for group in this process.
func (r *Receiver) GroupChannel(group string) string { return "" }

// Join makes this process a member of groups.
func (r *Receiver) Join(ctx context.Context, groups ...string) error { return errors.ErrUnsupported }

// Leave ends memberships.
func (r *Receiver) Leave(ctx context.Context, groups ...string) error { return errors.ErrUnsupported }

// Run receives until ctx ends.
func (r *Receiver) Run(ctx context.Context, deliver func(groups []string, m *Received)) error {
	return errors.ErrUnsupported
}
