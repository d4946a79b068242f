package app

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/redis/go-redis/v9"
)

func TestReturnMemoryEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*quietTick)
		defer cancel()
		ReturnMemory(ctx) // synctest fails when it does not end
	})
}

// TestQuietRedis is not parallel: go-redis has one logger per process.
func TestQuietRedis(t *testing.T) {
	var out bytes.Buffer
	logger, err := NewLogger(&out, "text", "debug")
	if err != nil {
		t.Fatal(err)
	}
	QuietRedis(logger)
	t.Cleanup(func() { QuietRedis(slog.New(slog.DiscardHandler)) })
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	if err := client.Ping(t.Context()).Err(); err == nil {
		t.Fatal("something listens on port 1")
	}
	if text := out.String(); !strings.Contains(text, "level=DEBUG msg=go-redis") {
		t.Errorf("log: %s", text)
	}
}
