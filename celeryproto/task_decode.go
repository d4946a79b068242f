package celeryproto

import (
	"errors"
	"slices"
	"strconv"
	"time"
)

// DecodeTask reads the task of an envelope with the default limits: protocol 2
// when there is a "task" header, else protocol 1. The task refers to a decoded
// envelope for what Append writes: change a Clone of it, not the envelope.
//
// The error is a *DisallowedError for a serializer that is not accepted (by
// default all but JSON), an *UnsupportedError that names a serializer,
// compression, body encoding or Python object that is not supported, or else a
// *DecodeError. It refuses whatever breaks a Python worker or makes it drop the
// task.
func DecodeTask(e *Envelope) (*Task, error) {
	return DecodeTaskLimits(e, Limits{})
}

// DecodeTaskLimits is DecodeTask with limits of the caller's.
func DecodeTaskLimits(e *Envelope, lim Limits) (*Task, error) {
	t, err := decodeTask(e, lim)
	if err != nil {
		return nil, err
	}
	t.limits = lim
	return t, nil
}

func decodeTask(e *Envelope, lim Limits) (*Task, error) {
	payload, facts, f, err := e.content(lim)
	if err != nil {
		return nil, err
	}
	src := e
	if e.wire == nil { // made by hand
		src = e.Clone()
		src.Headers = src.Headers.merged()
	}
	t, err := decodeBody(src, payload, facts)
	if err != nil {
		return nil, err
	}
	t.Serializer = f.shortName()
	return t, nil
}

// decodeBody reads the task of an envelope whose body is payload.
func decodeBody(src *Envelope, payload Raw, facts Facts) (*Task, error) {
	_, hasTask := src.Headers.Get(keyTask)
	switch {
	case hasTask && facts.Kind == KindArray:
		return decodeV2(src, payload, facts)
	case facts.Kind != KindObject:
		want := KindObject
		if hasTask {
			want = KindArray
		}
		return nil, &DecodeError{Part: PartBody, Offset: -1, Err: errKind(want, facts.Kind)}
	}
	body, err := payload.Object()
	if err != nil {
		return nil, decodeError(PartBody, err)
	}
	body = body.merged()
	if !hasTask {
		return decodeV1(src, body, facts)
	}
	if _, hybrid := body.Get(keyArgs); !hybrid {
		// What celery 5.7 asks to tell a hybrid (worker/strategy.py).
		return nil, &DecodeError{Part: PartBody, Field: keyArgs, Offset: -1, Err: ErrMissing}
	}
	return decodeHybrid(src, body, facts)
}

// decodeV2 reads a message of protocol 2.
func decodeV2(src *Envelope, payload Raw, facts Facts) (*Task, error) {
	elements, n, err := payload.triple()
	if err == nil && n != len(elements) {
		err = errors.New("expected three elements, got " + strconv.Itoa(n))
	}
	if err != nil {
		return nil, decodeError(PartBody, err)
	}
	t := &Task{Args: elements[0], Kwargs: elements[1]}
	if err := t.checkCall("[0]", "[1]", facts); err != nil {
		return nil, err
	}
	if facts.TypedMarker && string(elements[2]) != emptyEmbed {
		if err := checkTyped(elements[2]); err != nil {
			return nil, &DecodeError{Part: PartBody, Field: "[2]", Offset: -1, Err: err}
		}
	}
	switch embed := elements[2]; embed.Kind() {
	case KindNull:
	case KindObject:
		if string(embed) == emptyEmbed {
			break
		}
		members, err := embed.object(embedKeys.len())
		if err != nil {
			return nil, decodeError(PartBody, err)
		}
		t.Embed = embedOf(members.merged())
	default:
		return nil, &DecodeError{Part: PartBody, Field: "[2]", Offset: -1, Err: errKind(KindObject, embed.Kind())}
	}
	return t, t.readHeaders(src, src.Headers)
}

// decodeHybrid reads headers of protocol 2 with a body of protocol 1: the
// headers win (celery 5.7, worker/strategy.py, hybrid_to_proto2).
func decodeHybrid(src *Envelope, body Members, facts Facts) (*Task, error) {
	t := &Task{hybrid: true}
	if err := t.readCallV1(body, facts); err != nil {
		return nil, err
	}
	headers := slices.Clone(src.Headers)
	for _, key := range hybridKeys {
		value, there := body.Get(key)
		if _, wins := headers.Get(key); there && !wins {
			headers = append(headers, Member{Key: key, Value: value})
		}
	}
	return t, t.readHeaders(src, headers)
}

// checkCall looks at Args and Kwargs; their places are for errors.
func (t *Task) checkCall(args, kwargs string, facts Facts) error {
	for _, part := range []struct {
		field string
		value Raw
		kind  Kind
	}{
		{args, t.Args, KindArray},
		{kwargs, t.Kwargs, KindObject},
	} {
		if part.value == nil {
			continue
		}
		if got := part.value.Kind(); got != part.kind {
			return &DecodeError{Part: PartBody, Field: part.field, Offset: -1, Err: errKind(part.kind, got)}
		}
		if !facts.TypedMarker {
			continue
		}
		v, err := DecodeValue(part.value)
		if err == nil && part.kind == KindObject {
			if _, isMap := v.(map[string]any); !isMap {
				err = errors.New("expected object, got a typed value")
			}
		}
		if err != nil {
			return &DecodeError{Part: PartBody, Field: part.field, Offset: -1, Err: err}
		}
	}
	return nil
}

// readHeaders reads the headers of protocol 2 and the properties.
func (t *Task) readHeaders(src *Envelope, headers Members) error {
	r := fieldReader{part: PartHeaders, members: headers}
	t.Protocol = 2
	t.src = src
	t.Name = r.needText(keyTask)
	t.ID = r.needText(keyID)
	t.RootID = r.textLike(keyRootID, t.ID)
	t.ParentID = r.text(keyParentID)
	t.GroupID = r.text(keyGroup)
	t.GroupIndex = r.optionalInt(keyGroupIndex)
	t.Retries = r.int(keyRetries)
	t.ETA, _ = r.time(keyETA)
	t.Expires, _ = r.time(keyExpires)
	t.TimeLimit = r.timeLimit(keyTimeLimit)
	t.Lang = r.text(keyLang)
	t.Shadow = r.text(keyShadow)
	t.Origin = r.text(keyOrigin)
	t.ArgsRepr = r.text(keyArgsRepr)
	t.KwargsRepr = r.text(keyKwargsRepr)
	t.IgnoreResult = r.optionalBool(keyIgnoreResult)
	t.ReplacedTaskNesting = r.int(keyReplacedTaskNesting)
	t.StampedHeaders = r.ofKind(keyStampedHeaders, KindArray)
	t.Stamps = r.ofKind(keyStamps, KindObject)
	t.Compression = r.text(keyCompression)
	t.ExtraHeaders = headerKeys.rest(headers)
	t.readProperties(&r)
	return r.err
}

func (t *Task) readProperties(headers *fieldReader) {
	t.Properties = t.src.Properties
	t.Redelivered = headers.truth(keyRedelivered) || t.Properties.DeliveryInfo.Redelivered
}

// time reads an eta or expires: null, an ISO 8601 text, or a typed datetime.
// naive tells that it has no offset.
func (r *fieldReader) time(key string) (t *time.Time, naive bool) {
	value := r.raw(key)
	if value == nil {
		return nil, false
	}
	v, err := DecodeValue(value)
	if err != nil {
		r.fail(key, err)
		return nil, false
	}
	var instant time.Time
	switch v := v.(type) {
	case time.Time:
		instant = v
	case NaiveTime:
		instant, naive = v.In(time.UTC), true
	case string:
		iso, err := parseISO(v)
		if err == nil {
			instant, err = iso.time()
		}
		if err != nil {
			r.fail(key, err)
			return nil, false
		}
		naive = !iso.aware
	default:
		r.fail(key, errKind(KindString, value.Kind()))
		return nil, false
	}
	return &instant, naive
}
