package celeryproto

// Further keys of the body of protocol 1 (celery 5.7, app/amqp.py, as_task_v1).
const (
	keyArgs    = "args"
	keyKwargs  = "kwargs"
	keyUTC     = "utc"
	keyTaskset = "taskset"
)

var bodyV1Keys = newKeySet(keyTask, keyID, keyArgs, keyKwargs, keyGroup, keyGroupIndex, keyRetries,
	keyETA, keyExpires, keyUTC, keyCallbacks, keyErrbacks, keyTimeLimit, keyTaskset, keyChord)

// headerV1Keys are the headers that have a field in Task with protocol 1.
var headerV1Keys = newKeySet(keyCompression, keyRedelivered)

// decodeV1 reads a message of protocol 1, which has everything in its body
// (celery 5.7, worker/strategy.py, proto1_to_proto2).
func decodeV1(src *Envelope, body Members, facts Facts) (*Task, error) {
	t := &Task{Protocol: 1, src: src}
	if err := t.readCallV1(body, facts); err != nil {
		return nil, err
	}
	r := fieldReader{part: PartBody, members: body}
	t.Name = r.needText(keyTask)
	t.ID = r.needText(keyID)
	t.GroupID = r.text(keyGroup)
	if _, there := body.Get(keyTaskset); there {
		t.GroupID = r.text(keyTaskset)
	}
	t.GroupIndex = r.optionalInt(keyGroupIndex)
	t.Retries = r.int(keyRetries)
	var naiveETA, naiveExpires bool
	t.ETA, naiveETA = r.time(keyETA)
	t.Expires, naiveExpires = r.time(keyExpires)
	if utc := r.optionalBool(keyUTC); utc != nil && !*utc {
		t.NaiveIsLocal = naiveETA || naiveExpires
	}
	t.TimeLimit = r.timeLimit(keyTimeLimit)
	t.ExtraBody = bodyV1Keys.rest(body)

	headers := fieldReader{part: PartHeaders, members: src.Headers}
	t.Compression = headers.text(keyCompression)
	t.ExtraHeaders = headerV1Keys.rest(src.Headers)
	t.readProperties(&headers)
	if r.err == nil {
		r.err = headers.err
	}
	return t, r.err
}

// readCallV1 reads what protocol 1 and a hybrid take from the body alone.
func (t *Task) readCallV1(body Members, facts Facts) error {
	t.Args, _ = body.Get(keyArgs)
	t.Kwargs, _ = body.Get(keyKwargs)
	if err := t.checkCall(keyArgs, keyKwargs, facts); err != nil {
		return err
	}
	if facts.TypedMarker {
		for _, m := range body {
			if err := checkTyped(m.Value); err != nil {
				return &DecodeError{Part: PartBody, Field: m.Key, Offset: -1, Err: err}
			}
		}
	}
	embed := embedOf(body)
	t.Embed = Embed{Callbacks: embed.Callbacks, Errbacks: embed.Errbacks, Chord: embed.Chord}
	return nil
}

// bodyV1 is the body of protocol 1 in Python's order.
func (t *Task) bodyV1(dst []byte) ([]byte, error) {
	f := &fieldSet{}
	f.text(keyTask, t.Name)
	f.text(keyID, t.ID)
	f.raw(keyArgs, t.args())
	f.raw(keyKwargs, t.kwargs())
	f.textOrNull(keyGroup, t.GroupID)
	f.intOrNull(keyGroupIndex, t.GroupIndex)
	f.int(keyRetries, t.Retries)
	if err := f.timeOrNull(keyETA, t.ETA); err != nil {
		return dst, err
	}
	if err := f.timeOrNull(keyExpires, t.Expires); err != nil {
		return dst, err
	}
	f.bool(keyUTC, true) // timeOrNull has written the offsets
	f.raw(keyCallbacks, t.Embed.Callbacks)
	f.raw(keyErrbacks, t.Embed.Errbacks)
	if err := f.timeLimit(keyTimeLimit, t.TimeLimit); err != nil {
		return dst, err
	}
	f.textOrNull(keyTaskset, t.GroupID)
	f.raw(keyChord, t.Embed.Chord)
	if err := f.extra(PartBody, t.ExtraBody, bodyV1Keys); err != nil {
		return dst, err
	}
	return f.appendObject(dst), nil
}

// headerFieldsV1 are the few headers of protocol 1.
func (t *Task) headerFieldsV1() (*fieldSet, error) {
	f := &fieldSet{}
	t.sharedHeaders(f)
	return f, f.extra(PartHeaders, t.ExtraHeaders, headerV1Keys)
}
