package main

import (
	"context"
	"errors"

	"github.com/dfws/dfws/worker"
)

// commands are the control commands of tasks.py that the integration tests send, and one that the plugin needs. The others of tasks.py,
// schedule_add_then_cancel_consumer and pending_operations_count, look into the inside of Celery's consumer, for Celery's smoke tests.
func (s suite) commands() {
	worker.HandleControl(s.w, "pidbox_reset_error", func(context.Context, map[string]any) (any, error) {
		return nil, errors.New("pidbox reset integration test")
	})
	worker.HandleControl(s.w, "celerysuite_clear_revoked_stamps", func(context.Context, map[string]any) (any, error) {
		return "cleared", s.w.ClearRevokedStamps()
	})
}
