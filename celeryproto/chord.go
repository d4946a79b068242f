package celeryproto

import "errors"

// ErrNoResult says that the result backend has nothing for a task or group. Its
// state is PENDING, as that of every ID that nobody knows.
var ErrNoResult = errors.New("celeryproto: no result")

// ChordStart is one of the two calls that prepare a chord's header in the result
// backend (celery 5.7, backends/base.py).
type ChordStart struct {
	// GroupID of the header.
	GroupID string
	// Header, when not nil, are the header's results: apply_chord, before any
	// message. When it is nil this is set_chord_size, before the last message.
	Header *ResultTree
	// Complex says that a member of Header is itself a group. Only then does
	// the Redis backend store the header.
	Complex bool
	// Size is how many parts will return, for set_chord_size.
	Size int
}

// ChordPart is what a finished task of a chord's header returns to the chord
// (celery 5.7, backends/base.py, on_chord_part_return).
type ChordPart struct {
	// GroupID of the header.
	GroupID string
	// TaskID of the finished task.
	TaskID string
	// Index is the position in the header, nil for none: such parts come last.
	Index *int
	// Status is the final state, StatusSuccess, StatusFailure or StatusRevoked.
	Status string
	// Result is the return value or, for the other states, the stored exception
	// (Exception.Raw).
	Result Raw
}

// Failed tells whether the part makes its chord fail (celery 5.7, states.py,
// PROPAGATE_STATES).
func (p *ChordPart) Failed() bool { return p.Status == StatusFailure || p.Status == StatusRevoked }

// Chord is a header whose parts have all returned. Whoever holds it has claimed
// it and must send the body, or take the failure path.
type Chord struct {
	// GroupID of the header.
	GroupID string
	// Results are the parts in the header's order. Those of a Complex header
	// are the values that were stored for its results, an array for a group.
	Results []ChordPart
	// Complex says that the results were joined by their IDs.
	Complex bool
	// Plain says that the error of a failed part is all that the body's failure
	// tells, as in django-celery-results: neither the part nor the step.
	Plain bool
	// Token is the claim.
	Token string
}
