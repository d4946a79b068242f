package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat/dispatch"
)

// Backend is a result backend: where the results of tasks, of groups and the state of chords are. All of Celery's workers and clients
// of a site use the same. Each method may be called again after an error for which Retryable(err) would be true; methods are safe for
// concurrent use.
type Backend interface {
	// Store stores a result and tells those who wait for it. A stored SUCCESS is final: another result is not stored, without an error.
	Store(ctx context.Context, m *celeryproto.ResultMeta) error
	// Get reads a result; celeryproto.ErrNoResult when there is none.
	Get(ctx context.Context, taskID string) (*celeryproto.ResultMeta, error)
	// Wait returns the result once it is SUCCESS, FAILURE or REVOKED.
	Wait(ctx context.Context, taskID string) (*celeryproto.ResultMeta, error)
	// Forget deletes results.
	Forget(ctx context.Context, taskIDs ...string) error

	// SaveGroup stores the results that a group consists of.
	SaveGroup(ctx context.Context, group *celeryproto.ResultTree) error
	// Group reads them; celeryproto.ErrNoResult when there are none.
	Group(ctx context.Context, groupID string) (*celeryproto.ResultTree, error)
	// ForgetGroup deletes them.
	ForgetGroup(ctx context.Context, groupID string) error

	// StartChord prepares the header of a chord.
	StartChord(ctx context.Context, c celeryproto.ChordStart) error
	// AddToChord makes the header one part larger.
	AddToChord(ctx context.Context, groupID string, r *celeryproto.ResultTree) error
	// ChordPart counts the end of a header's task. It returns the chord to the one caller that has to send the body; nil to all others.
	ChordPart(ctx context.Context, p celeryproto.ChordPart) (*celeryproto.Chord, error)
	// RenewChord keeps a chord for this caller a while longer; false when it is somebody else's by now.
	RenewChord(ctx context.Context, c *celeryproto.Chord) (bool, error)
	// FinishChord ends a chord whose body was sent, FailChord one whose header failed.
	FinishChord(ctx context.Context, c *celeryproto.Chord) error
	FailChord(ctx context.Context, c *celeryproto.Chord) error

	// Close ends the connections.
	Close() error
}

// BackendError reports a result backend that this program cannot use.
type BackendError struct {
	Name string // as result_backend has it, without what may be secret
	Hint string // what to do
}

// Error implements error.
func (e *BackendError) Error() string {
	return fmt.Sprintf("worker: result_backend %q is not supported: %s", e.Name, e.Hint)
}

// openBackend opens the result backend that the settings name: nil when they name none.
func openBackend(services *dispatch.Services) (Backend, error) {
	if services.Results != nil {
		return services.Results, nil
	}
	url := services.Settings.Celery.ResultBackend.Reveal()
	name, _, _ := strings.Cut(url, ":")
	switch {
	case url == "" || name == "disabled":
		return nil, nil
	default:
		return nil, &BackendError{Name: name, Hint: "use redis:// or rediss://"}
	}
}

// closeBackend closes what openBackend opened beside the services.
func closeBackend(services *dispatch.Services, backend Backend) error {
	if backend == nil || services.Results != nil {
		return nil // the services close their own
	}
	return backend.Close()
}

var errNoBackend = errors.New("worker: a chord needs a result backend")
