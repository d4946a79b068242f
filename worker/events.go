package worker

import (
	"context"
	"time"
)

// eventHub publishes the events of tasks where somebody listens.
type eventHub struct{}

func (h *eventHub) revoke(context.Context, []string)     {}
func (h *eventHub) received(*job)                        {}
func (h *eventHub) started(*job)                         {}
func (h *eventHub) finished(*job, Report, time.Duration) {}
func (h *eventHub) rejected(*job, bool)                  {}
func (h *eventHub) revoked(*job, string)                 {}
