package channelslayer

import (
	"log/slog"

	"github.com/redis/go-redis/v9"
)

// ClientOptions makes a client's options of a server in redis-py's form. Django's caches in Redis have such URLs, too. The error never contains
// the URL.
func ClientOptions(h Host) (*redis.Options, error) {
	s, err := h.servers(slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	o := s.ClientOptions()
	return &o, nil
}
