package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/compat"
)

// journalKey is the list of project/demo/journal.py.
const journalKey = "calls"

// journal notes executed handlers where Python notes its own; without a URL it notes nothing.
type journal struct{ client *redis.Client }

func openJournal(url string) (journal, error) {
	if url == "" {
		return journal{}, nil
	}
	opts, err := redis.ParseURL(url)
	if err != nil {
		return journal{}, fmt.Errorf("journal: %w", err)
	}
	return journal{redis.NewClient(opts)}, nil
}

func (j journal) close() {
	if j.client != nil {
		_ = j.client.Close() // the process ends
	}
}

// note records one execution, arguments by name.
func (j journal) note(ctx context.Context, handler string, window *compat.WindowInfo, arguments map[string]string) error {
	if j.client == nil {
		return nil
	}
	entry := map[string]any{"handler": handler, "by": "go", "pid": os.Getpid(), "arguments": arguments}
	if window != nil {
		entry["username"] = window.Username()
		if key, ok := window.WindowKey(); ok {
			entry["window_key"] = key
		}
	}
	text, err := json.Marshal(entry)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return j.client.RPush(ctx, journalKey, text).Err()
}
