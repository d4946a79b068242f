package redisbroker

import (
	"context"
	"fmt"

	"github.com/dfws/dfws/celeryproto"
)

// errGroups refuses what this release does not keep in Redis.
var errGroups = fmt.Errorf("redisbroker: groups and chords: %w", ErrUnsupported)

// Forget is refused.
func (r *Results) Forget(context.Context, ...string) error { return errGroups }

// SaveGroup is refused.
func (r *Results) SaveGroup(context.Context, *celeryproto.ResultTree) error { return errGroups }

// Group is refused.
func (r *Results) Group(context.Context, string) (*celeryproto.ResultTree, error) {
	return nil, errGroups
}

// ForgetGroup is refused.
func (r *Results) ForgetGroup(context.Context, string) error { return errGroups }

// StartChord is refused.
func (r *Results) StartChord(context.Context, celeryproto.ChordStart) error { return errGroups }

// AddToChord is refused.
func (r *Results) AddToChord(context.Context, string, *celeryproto.ResultTree) error {
	return errGroups
}

// ChordPart is refused.
func (r *Results) ChordPart(context.Context, celeryproto.ChordPart) (*celeryproto.Chord, error) {
	return nil, errGroups
}

// RenewChord is refused.
func (r *Results) RenewChord(context.Context, *celeryproto.Chord) (bool, error) {
	return false, errGroups
}

// FinishChord is refused.
func (r *Results) FinishChord(context.Context, *celeryproto.Chord) error { return errGroups }

// FailChord is refused.
func (r *Results) FailChord(context.Context, *celeryproto.Chord) error { return errGroups }
