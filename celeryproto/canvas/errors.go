package canvas

import "errors"

// Conditions for errors.Is.
var (
	// ErrTooDeep says that signatures are nested deeper than Limits.MaxDepth
	// or contain themselves. Encode, Apply and Freeze return it.
	ErrTooDeep = errors.New("canvas: signatures nested too deeply")
	// ErrTooManyMessages says that a composition makes more messages than
	// Limits.MaxMessages. Apply and what follows a task return it.
	ErrTooManyMessages = errors.New("canvas: composition makes too many messages")
	// ErrTooLarge says that what follows the messages of a plan, taken
	// together, is larger than Limits.MaxBytes.
	ErrTooLarge = errors.New("canvas: composition makes too large messages")
	// ErrGroupLink is Celery's TypeError for a callback or errback on a group
	// that is applied: it belongs to a chord, or to the tasks of the group.
	ErrGroupLink = errors.New("canvas: cannot add link to group: use a chord, or the tasks of the group")
	// ErrEmptyChain says that a chain without tasks has no result to wait for,
	// and nothing to link a callback to.
	ErrEmptyChain = errors.New("canvas: empty chain")
	// ErrSameID is Celery's RuntimeError "Recursive result parents": tasks that
	// wait for each other have the same ID.
	ErrSameID = errors.New("canvas: tasks that follow each other have the same ID")
	// ErrInChord is Celery's ImproperlyConfigured for a replacement that is part
	// of a chord already. Replace returns it.
	ErrInChord = errors.New("canvas: a signature replacing a task must not be part of a chord")
	// ErrNoChord is Celery's ValueError of add_to_chord outside of a chord.
	ErrNoChord = errors.New("canvas: current task is not member of any chord")
)
