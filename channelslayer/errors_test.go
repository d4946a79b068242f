package channelslayer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/redis/go-redis/v9"
)

type redisReply string

func (e redisReply) Error() string { return string(e) }
func (redisReply) RedisError()     {}

func TestRetryable(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{
		nil: false, ErrChannelFull: true, ErrClosed: false, ErrReservedKey: false, context.Canceled: false, context.DeadlineExceeded: true,
		io.EOF: true, io.ErrUnexpectedEOF: true, redis.ErrPoolTimeout: true, &net.OpError{Op: "dial", Err: errors.New("refused")}: true,
		redisReply("LOADING Redis is loading the dataset in memory"): true, redisReply("READONLY You can't write against a read only replica."): true,
		redisReply("WRONGTYPE Operation against a key"): false, redisReply("NOAUTH Authentication required."): false,
		&NameError{Kind: "group"}: false, &ValueError{Path: "v"}: false, &UnsupportedError{Option: "hosts"}: false,
	} {
		if got := Retryable(err); got != want {
			t.Errorf("Retryable(%v) = %t", err, got)
		}
		if err != nil && Retryable(fmt.Errorf("wrapped: %w", err)) != want {
			t.Errorf("Retryable(wrapped %v) = %t", err, !want)
		}
	}
}

func TestErrorTexts(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"channelslayer: group name: empty":                         CheckGroupName(""),
		"channelslayer: option hosts: not supported: 2 entries":    &UnsupportedError{Option: "hosts", Detail: "2 entries"},
		"channelslayer: message: opts.when: type time.Time has no": &ValueError{Path: "opts.when", Reason: "type time.Time has no"},
		"channelslayer: decode: undecodable at offset 7":           &DecodeError{Reason: DropUndecodable, Offset: 7},
		"channelslayer: send: EOF":                                 wrap("send", io.EOF),
	} {
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
