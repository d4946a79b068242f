package celeryproto

// EncodeColumn serializes one value as django-celery-results 2.6 does for a
// column of its tables (backends/database.py, encode_content), without the Base64
// of what is binary. With a status in which a result is an exception (RETRY,
// FAILURE, REVOKED), pickle writes the exception itself, as Append does; "" is for
// values that are no results. Compression does not count: the database backend
// has none. The errors are those of Append.
func (c ResultCodec) EncodeColumn(status string, r Raw) (data []byte, contentType, contentEncoding string, err error) {
	f, err := checkSerializer(c.Serializer)
	if err != nil {
		return nil, "", "", err
	}
	if f.name != SerializerPickle || !isExceptionState(status) {
		return EncodeContent(f.name, r)
	}
	tree, err := treeOf(r)
	if err != nil {
		return nil, "", "", &EncodeError{Err: err}
	}
	if data, err = writePickledException(tree); err != nil {
		return nil, "", "", within(PartResult, err)
	}
	return data, f.contentType, f.encoding, nil
}

// DecodeColumn reads what EncodeColumn writes; the row says its content type, and
// c.Serializer does not count. An exception object in a pickle becomes what
// Exception reads, as with Decode, whose errors these are.
func (c ResultCodec) DecodeColumn(status, contentType string, data []byte) (Raw, error) {
	lim := c.Limits
	lim.Accept = c.Accept
	if contentType != ContentTypePickle || !isExceptionState(status) {
		r, err := DecodeContent(contentType, "", data, lim)
		return r, inPart(PartResult, err)
	}
	if !c.Accept.Accepts(contentType) {
		return nil, &DisallowedError{ContentType: contentType}
	}
	r, err := unpickleAs(data, lim.withDefaults(), nil, (*pickleReader).exception)
	return r, inPart(PartResult, err)
}
