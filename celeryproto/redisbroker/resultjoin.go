package redisbroker

import (
	"context"

	"github.com/dfws/dfws/celeryproto"
)

// joinChord gathers the results of a complex header by the IDs of its tasks (celery 5.7, result.py, join_native): they are
// stored before the parts are returned, but perhaps by another worker, or never.
func (r *Results) joinChord(ctx context.Context, chord *celeryproto.Chord, tree *celeryproto.ResultTree) error {
	chord.Complex = true
	metas, err := r.await(ctx, tree.TaskIDs(nil))
	if err != nil {
		return r.failedJoin(chord, err)
	}
	chord.Results = make([]celeryproto.ChordPart, len(tree.Children))
	for i := range tree.Children {
		child := &tree.Children[i]
		part := celeryproto.ChordPart{GroupID: chord.GroupID, TaskID: child.ID, Status: celeryproto.StatusSuccess}
		failed, complete := failedOf(child, metas)
		switch {
		case failed != nil:
			part.Status, part.Result = failed.Status, failed.Result
		case !complete:
			exc := celeryproto.NewException("celery.exceptions", "TimeoutError", "The operation timed out.")
			part.Status = celeryproto.StatusFailure
			if part.Result, err = exc.Raw(); err != nil {
				return err
			}
		default:
			part.Result = joined(nil, child, metas)
		}
		chord.Results[i] = part
	}
	return nil
}

// taskResults are results by the ID of their task.
type taskResults map[string]*celeryproto.ResultMeta

// await returns the final results of tasks, from one round trip where they are there already. Those that do not come within
// the join timeout are missing.
func (r *Results) await(ctx context.Context, taskIDs []string) (taskResults, error) {
	metas, missing, err := r.readyOf(ctx, taskIDs)
	if err != nil || len(missing) == 0 {
		return metas, err
	}
	limited, cancel := context.WithTimeout(ctx, r.opts.ChordJoinTimeout)
	defer cancel()
	for _, id := range missing {
		meta, err := r.Wait(limited, id)
		switch {
		case err == nil:
			metas[id] = meta
		case ctx.Err() == nil && limited.Err() != nil:
			// Perhaps it was Redis that was away: what counts is what is there now.
			metas, _, err = r.readyOf(ctx, taskIDs)
			return metas, err
		default:
			return nil, err
		}
	}
	return metas, nil
}

// readyOf reads the final results of tasks, and tells which are missing.
func (r *Results) readyOf(ctx context.Context, taskIDs []string) (metas taskResults, missing []string, err error) {
	metas = make(taskResults, len(taskIDs))
	if len(taskIDs) == 0 {
		return metas, nil, nil
	}
	keys := make([]string, len(taskIDs))
	for i, id := range taskIDs {
		keys[i] = r.Key(id)
	}
	var values []any
	err = r.retried(ctx, "join chord", func(ctx context.Context) error {
		var err error
		values, err = r.client.MGet(ctx, keys...).Result()
		return err
	})
	for i, value := range values {
		text, there := value.(string)
		if !there {
			missing = append(missing, taskIDs[i])
			continue
		}
		meta, err := r.decodeMeta([]byte(text))
		if err != nil {
			return nil, nil, err
		}
		if celeryproto.IsReady(meta.Status) {
			metas[taskIDs[i]] = meta
		} else {
			missing = append(missing, taskIDs[i])
		}
	}
	return metas, missing, err
}

// failedOf is the first failure among the tasks of a result, nil for none; complete tells whether all have one.
func failedOf(tree *celeryproto.ResultTree, metas taskResults) (failed *celeryproto.ResultMeta, complete bool) {
	complete = true
	for _, id := range tree.TaskIDs(nil) {
		switch meta := metas[id]; {
		case meta == nil:
			complete = false
		case meta.Status != celeryproto.StatusSuccess:
			return meta, complete
		}
	}
	return nil, complete
}

// joined appends the value of a result, an array for a group.
func joined(dst []byte, tree *celeryproto.ResultTree, metas taskResults) celeryproto.Raw {
	if !tree.IsGroup {
		if value := metas[tree.ID].Result; len(value) > 0 {
			return append(dst, value...)
		}
		return append(dst, "null"...)
	}
	dst = append(dst, '[')
	for i := range tree.Children {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = joined(dst, &tree.Children[i], metas)
	}
	return append(dst, ']')
}
