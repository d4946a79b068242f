package redisbroker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto"
)

// groupKeyPrefix is KeyValueStoreBackend.group_keyprefix (celery 5.7, backends/base.py).
const groupKeyPrefix = "celery-taskset-meta-"

// groupMember is the one member of a saved group (celery 5.7, backends/base.py, _save_group).
const groupMember = "result"

// GroupKey is the key of a saved group, and with a suffix those of its chord.
func (r *Results) GroupKey(groupID string) string {
	return r.prefix[:len(r.prefix)-len(resultKeyPrefix)] + groupKeyPrefix + groupID
}

// encodeValue is a value that is stored beside the metas: a saved group, a part of a chord (celery 5.7, backends/base.py,
// encode).
func (r *Results) encodeValue(v celeryproto.Raw) ([]byte, error) {
	return r.opts.Codec.AppendValue(nil, v)
}

// decodeValue is the reverse of encodeValue, for what any worker may have stored.
func (r *Results) decodeValue(b []byte) (celeryproto.Raw, error) { return r.opts.Codec.DecodeValue(b) }

// checkCodec tells whether what a codec writes it can read.
func checkCodec(c celeryproto.ResultCodec) error {
	b, err := c.AppendValue(nil, celeryproto.Raw("null"))
	if err == nil {
		_, err = c.DecodeValue(b)
	}
	return err
}

// decodeMeta reads a task's result.
func (r *Results) decodeMeta(b []byte) (*celeryproto.ResultMeta, error) {
	return r.opts.Codec.Decode(b)
}

// retried runs an operation that may be repeated until Redis has answered, ctx ends, or Close.
func (r *Results) retried(ctx context.Context, operation string, run func(context.Context) error) error {
	var pause backoff
	for {
		start := time.Now()
		err := run(context.WithoutCancel(ctx)) // the socket timeout bounds it
		switch {
		case err == nil:
			r.obs.roundTrip(operation, 1, start)
			return nil
		case !Retryable(err):
			return opError(operation, err)
		case ctx.Err() != nil:
			return opError(operation, errors.Join(context.Cause(ctx), err))
		}
		r.obs.disconnected(operation, err)
		timer := time.NewTimer(pause.pause())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return opError(operation, errors.Join(context.Cause(ctx), err))
		case <-r.stopC:
			timer.Stop()
			return ErrClosed
		}
	}
}

// seconds of an option, 0 for no limit.
func seconds(d time.Duration) int {
	if d <= 0 {
		return 0
	}
	return max(int(d/time.Second), 1)
}

// SaveGroup stores what a group consists of, so that Python's GroupResult.restore finds it (GroupResult.save), and tells
// whoever listens on its key.
func (r *Results) SaveGroup(ctx context.Context, tree *celeryproto.ResultTree) error {
	if !tree.IsGroup || tree.ID == "" {
		return errors.New("redisbroker: save group: not a group")
	}
	value, err := r.encodeTree(tree)
	if err != nil {
		return fmt.Errorf("redisbroker: save group: %w", err)
	}
	key, ttl := r.GroupKey(tree.ID), seconds(r.opts.Expires)
	return r.retried(ctx, "save group", func(ctx context.Context) error {
		_, err := r.client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			if ttl > 0 {
				pipe.SetEx(ctx, key, value, time.Duration(ttl)*time.Second)
			} else {
				pipe.Set(ctx, key, value, 0)
			}
			pipe.Publish(ctx, key, value)
			return nil
		})
		return err
	})
}

func (r *Results) encodeTree(tree *celeryproto.ResultTree) ([]byte, error) {
	members := celeryproto.Members{{Key: groupMember, Value: tree.Raw()}}
	return r.encodeValue(members.Append(nil)) // refuses what is nested too deeply for a reader
}

// Group reads what a saved group consists of: ErrNoResult when it was not saved.
func (r *Results) Group(ctx context.Context, groupID string) (*celeryproto.ResultTree, error) {
	if groupID == "" {
		return nil, errors.New("redisbroker: get group: no group id")
	}
	b, err := r.client.Get(ctx, r.GroupKey(groupID)).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, ErrNoResult
	}
	if err != nil {
		return nil, opError("get group", err)
	}
	return r.decodeTree(b)
}

func (r *Results) decodeTree(b []byte) (*celeryproto.ResultTree, error) {
	raw, err := r.decodeValue(b)
	if err != nil {
		return nil, err
	}
	members, err := raw.Object()
	if err != nil {
		return nil, &celeryproto.DecodeError{Part: celeryproto.PartResult, Offset: -1, Err: err}
	}
	tree, there := members.Get(groupMember)
	if !there {
		return nil, &celeryproto.DecodeError{Part: celeryproto.PartResult, Field: groupMember, Offset: -1, Err: celeryproto.ErrMissing}
	}
	return celeryproto.DecodeResultTree(tree)
}

// ForgetGroup removes a saved group, not the results of its tasks.
func (r *Results) ForgetGroup(ctx context.Context, groupID string) error {
	if groupID == "" {
		return errors.New("redisbroker: forget group: no group id")
	}
	return r.retried(ctx, "forget group", func(ctx context.Context) error {
		return r.client.Del(ctx, r.GroupKey(groupID)).Err()
	})
}

// Forget removes the results of tasks.
func (r *Results) Forget(ctx context.Context, taskIDs ...string) error {
	if len(taskIDs) == 0 {
		return nil
	}
	keys := make([]string, len(taskIDs))
	for i, id := range taskIDs {
		if id == "" {
			return errors.New("redisbroker: forget result: no task id")
		}
		keys[i] = r.Key(id)
	}
	return r.retried(ctx, "forget results", func(ctx context.Context) error { return r.client.Del(ctx, keys...).Err() })
}
