package harness

import (
	"context"
	"encoding/json"
	"fmt"
)

// journalKey is the Redis list of project/demo/journal.py.
const journalKey = "calls"

// Call is one executed handler, as project/demo/journal.py notes it.
type Call struct {
	Handler   string            `json:"handler"`
	By        string            `json:"by"`
	PID       int               `json:"pid"`
	Username  *string           `json:"username"`
	WindowKey *string           `json:"window_key"`
	Arguments map[string]string `json:"arguments"` // as Python's ascii() shows them
}

// Journal returns the executed handlers since the last [Site.ClearJournal].
func (s *Site) Journal(ctx context.Context) ([]Call, error) {
	client := s.Database(JournalDB)
	defer client.Close()
	lines, err := client.LRange(ctx, journalKey, 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("harness: journal: %w", err)
	}
	calls := make([]Call, len(lines))
	for i, line := range lines {
		if err := json.Unmarshal([]byte(line), &calls[i]); err != nil {
			return nil, fmt.Errorf("harness: journal: %w", err)
		}
	}
	return calls, nil
}

// ClearJournal forgets the calls so far.
func (s *Site) ClearJournal(ctx context.Context) error {
	client := s.Database(JournalDB)
	defer client.Close()
	return client.Del(ctx, journalKey).Err()
}

// WaitCall waits for a call that fits.
func (s *Site) WaitCall(ctx context.Context, what string, fits func(Call) bool) (Call, error) {
	var found Call
	err := WaitFor(ctx, what, func(ctx context.Context) error {
		calls, err := s.Journal(ctx)
		if err != nil {
			return err
		}
		for _, c := range calls {
			if fits(c) {
				found = c
				return nil
			}
		}
		return fmt.Errorf("not among %d calls", len(calls))
	})
	return found, err
}
