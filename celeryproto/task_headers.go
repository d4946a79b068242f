package celeryproto

import (
	"cmp"
	"math"
	"strconv"
	"time"
)

// Keys of the headers of protocol 2 (celery 5.7, app/amqp.py, as_task_v2) and,
// where they are the same, of the body of protocol 1.
const (
	keyLang                = "lang"
	keyTask                = "task"
	keyID                  = "id"
	keyShadow              = "shadow"
	keyETA                 = "eta"
	keyExpires             = "expires"
	keyGroup               = "group"
	keyGroupIndex          = "group_index"
	keyRetries             = "retries"
	keyTimeLimit           = "timelimit"
	keyRootID              = "root_id"
	keyParentID            = "parent_id"
	keyArgsRepr            = "argsrepr"
	keyKwargsRepr          = "kwargsrepr"
	keyOrigin              = "origin"
	keyIgnoreResult        = "ignore_result"
	keyReplacedTaskNesting = "replaced_task_nesting"
	keyStampedHeaders      = "stamped_headers"
	keyStamps              = "stamps"
	keyCompression         = "compression" // kombu 5.7, messaging.py
)

var headerKeys = newKeySet(keyLang, keyTask, keyID, keyShadow, keyETA, keyExpires, keyGroup,
	keyGroupIndex, keyRetries, keyTimeLimit, keyRootID, keyParentID, keyArgsRepr, keyKwargsRepr,
	keyOrigin, keyIgnoreResult, keyReplacedTaskNesting, keyStampedHeaders, keyStamps,
	keyCompression, keyRedelivered)

// hybridKeys are what a hybrid takes from its body when the headers lack it
// (celery 5.7, worker/strategy.py, hybrid_to_proto2).
var hybridKeys = []string{keyLang, keyTask, keyID, keyRootID, keyParentID, keyGroup, keyShadow,
	keyETA, keyExpires, keyRetries, keyTimeLimit, keyArgsRepr, keyKwargsRepr, keyOrigin}

// headerFields are the headers of protocol 2 in Python's order. What only a
// new task gets as a default is left as it is in a decoded one.
func (t *Task) headerFields() (*fieldSet, error) {
	f := newFieldSet(headerKeys.len()+len(t.ExtraHeaders), 512)
	return f, t.fillHeaders(f)
}

func (t *Task) fillHeaders(f *fieldSet) error {
	lang, root, argsRepr, kwargsRepr := t.Lang, t.RootID, t.ArgsRepr, t.KwargsRepr
	if t.src == nil {
		lang = cmp.Or(lang, LangGo)
		root = cmp.Or(root, t.ID)
		if argsRepr == "" {
			argsRepr = ReprTuple(t.args())
		}
		if kwargsRepr == "" {
			kwargsRepr = Repr(t.kwargs())
		}
	}
	f.textOrNull(keyLang, lang)
	f.text(keyTask, t.Name)
	f.text(keyID, t.ID)
	f.textOrNull(keyShadow, t.Shadow)
	if err := f.timeOrNull(keyETA, t.ETA); err != nil {
		return err
	}
	if err := f.timeOrNull(keyExpires, t.Expires); err != nil {
		return err
	}
	f.textOrNull(keyGroup, t.GroupID)
	f.intOrNull(keyGroupIndex, t.GroupIndex)
	f.int(keyRetries, t.Retries)
	if err := f.timeLimit(keyTimeLimit, t.TimeLimit); err != nil {
		return err
	}
	f.textOrNull(keyRootID, root)
	f.textOrNull(keyParentID, t.ParentID)
	f.text(keyArgsRepr, argsRepr)
	f.text(keyKwargsRepr, kwargsRepr)
	f.textOrNull(keyOrigin, t.Origin)
	f.boolOrNull(keyIgnoreResult, t.IgnoreResult)
	f.int(keyReplacedTaskNesting, t.ReplacedTaskNesting)
	f.raw(keyStampedHeaders, t.StampedHeaders)
	f.rawOr(keyStamps, t.Stamps, "{}")
	t.sharedHeaders(f)
	return f.extra(PartHeaders, t.ExtraHeaders, headerKeys)
}

// sharedHeaders are those that both protocols have.
func (t *Task) sharedHeaders(f *fieldSet) {
	if t.Compression != "" {
		f.text(keyCompression, compressionMIME(t.Compression))
	}
	if t.Redelivered {
		f.raw(keyRedelivered, rawTrue)
	}
}

func (t *Task) args() Raw {
	if len(t.Args) == 0 {
		return Raw("[]")
	}
	return t.Args
}

func (t *Task) kwargs() Raw {
	if len(t.Kwargs) == 0 {
		return Raw("{}")
	}
	return t.Kwargs
}

func (f *fieldSet) timeOrNull(key string, t *time.Time) error {
	if t == nil {
		f.raw(key, rawNull)
		return nil
	}
	if err := validateTime(*t); err != nil {
		return &EncodeError{Path: key, Err: err}
	}
	f.append(key, func(dst []byte) []byte {
		return append(appendTime(append(dst, '"'), *t), '"')
	})
	return nil
}

func (f *fieldSet) timeLimit(key string, limits [2]*float64) error {
	for _, limit := range limits {
		if limit != nil && (math.IsNaN(*limit) || math.IsInf(*limit, 0)) {
			return &EncodeError{Path: key, Err: errNotFinite}
		}
	}
	f.append(key, func(dst []byte) []byte {
		dst = appendSeconds(append(dst, '['), limits[0])
		dst = appendSeconds(append(dst, ", "...), limits[1])
		return append(dst, ']')
	})
	return nil
}

// appendSeconds writes whole seconds as an integer, as people give them in Python.
func appendSeconds(dst []byte, seconds *float64) []byte {
	switch {
	case seconds == nil:
		return append(dst, rawNull...)
	case *seconds == math.Trunc(*seconds) && math.Abs(*seconds) < 1e15:
		return strconv.AppendInt(dst, int64(*seconds), 10)
	default:
		return AppendFloat(dst, *seconds)
	}
}
