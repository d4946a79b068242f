package celeryproto

// Members are the members of a JSON object, in the order of the wire.
type Members []Member

// Get returns the value of a key, the last one when it is there several times,
// as Python does; ok is false when it is not there.
func (m Members) Get(key string) (value Raw, ok bool) {
	for i := len(m) - 1; i >= 0; i-- {
		if m[i].Key == key {
			return m[i].Value, true
		}
	}
	return nil, false
}

// Set gives a key a value, in its old place or at the end. The slice that m was
// copied from is not changed.
func (m *Members) Set(key string, value Raw) {
	members := make(Members, 0, len(*m)+1)
	done := false
	for _, old := range *m {
		if old.Key != key {
			members = append(members, old)
		} else if !done {
			members = append(members, Member{Key: key, Value: value})
			done = true
		}
	}
	if !done {
		members = append(members, Member{Key: key, Value: value})
	}
	*m = members
}

// Delete removes a key. The slice that m was copied from is not changed.
func (m *Members) Delete(key string) {
	var members Members
	for _, old := range *m {
		if old.Key != key {
			members = append(members, old)
		}
	}
	*m = members
}

// Append appends the object as Python writes it.
func (m Members) Append(dst []byte) []byte {
	dst = append(dst, '{')
	for i, member := range m {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = AppendString(dst, member.Key)
		dst = append(dst, ": "...)
		dst = appendRaw(dst, member.Value)
	}
	return append(dst, '}')
}

// appendRaw appends a value, null when there is none.
func appendRaw(dst []byte, r Raw) []byte {
	if len(r) == 0 {
		return append(dst, rawNull...)
	}
	return append(dst, r...)
}
