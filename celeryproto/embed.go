package celeryproto

// Embed is what follows a call. Each field is the JSON text of signatures,
// carried untouched; nil is null.
type Embed struct {
	Callbacks Raw // array of signatures applied with the result
	Errbacks  Raw // array of signatures called on failure
	Chain     Raw // array of signatures, the next one last
	Chord     Raw // signature of the chord's body
	// Extra are the members that this package does not know, in wire order.
	Extra Members
}

// Keys of the embed (celery 5.7, app/amqp.py, as_task_v2).
const (
	keyCallbacks = "callbacks"
	keyErrbacks  = "errbacks"
	keyChain     = "chain"
	keyChord     = "chord"
)

var embedKeys = newKeySet(keyCallbacks, keyErrbacks, keyChain, keyChord)

// embedOf reads the third element of a body of protocol 2.
func embedOf(members Members) Embed {
	r := fieldReader{members: members}
	return Embed{
		Callbacks: r.raw(keyCallbacks),
		Errbacks:  r.raw(keyErrbacks),
		Chain:     r.raw(keyChain),
		Chord:     r.raw(keyChord),
		Extra:     embedKeys.rest(members),
	}
}

// emptyEmbed is what Python writes for a call that nothing follows.
const emptyEmbed = `{"callbacks": null, "errbacks": null, "chain": null, "chord": null}`

func (e *Embed) append(dst []byte) ([]byte, error) {
	if e.Callbacks == nil && e.Errbacks == nil && e.Chain == nil && e.Chord == nil && e.Extra == nil {
		return append(dst, emptyEmbed...), nil
	}
	f, err := e.fields()
	if err != nil {
		return dst, err
	}
	return f.appendObject(dst), nil
}

func (e *Embed) fields() (*fieldSet, error) {
	f := newFieldSet(embedKeys.len()+len(e.Extra), 0)
	f.raw(keyCallbacks, e.Callbacks)
	f.raw(keyErrbacks, e.Errbacks)
	f.raw(keyChain, e.Chain)
	f.raw(keyChord, e.Chord)
	return f, f.extra("embed", e.Extra, embedKeys)
}
