package celeryproto

import (
	"bytes"
	"errors"
)

// ResultCodec reads and writes what Celery's result backend stores, by the
// settings of the application. A stored value does not say how it was serialized:
// all who read it need the same Serializer. The zero value is Celery's default.
type ResultCodec struct {
	// Serializer is result_serializer: "" is json; msgpack, yaml or pickle, or
	// their content types.
	Serializer string
	// Compression is result_compression (celery 5.7): "" for none. What is read
	// tells its compression by itself.
	Compression string
	// Accept is result_accept_content, or accept_content where that is not set:
	// as in Celery, a result is not read when Serializer is not in it. The zero
	// value is JSON alone.
	Accept Accept
	// Limits bounds what reading may cost; Limits.Accept does not count.
	Limits Limits
}

// compressedMarker is in front of a compressed value, with the MIME type and
// another zero byte after it (celery 5.7, backends/base.py, compress_payload).
const compressedMarker = "\x00celery-compressed\x00"

// Append appends a result meta as Celery writes it. With pickle, the exception of
// a FAILURE, RETRY or REVOKED becomes an exception object when every reader has
// its class (the built-in ones, Celery's and billiard's), so that Python
// unpickles and raises it; any other stays the dict that Celery's reader looks
// the class up for, as with the other serializers.
//
// The error is an *EncodeError, also for a value that the serializer has no type
// for, or an *UnsupportedError. m.Compression does not count.
func (c ResultCodec) Append(dst []byte, m *ResultMeta) ([]byte, error) {
	f, err := checkSerializer(c.Serializer)
	if err != nil {
		return dst, err
	}
	if m.wire == nil && f.name == SerializerJSON && c.Compression == "" {
		return m.appendNew(dst)
	}
	members, err := m.merged()
	if err != nil {
		return dst, err
	}
	if f.name == SerializerJSON && c.Compression == "" {
		return members.Append(dst), nil
	}
	return c.append(dst, f, members.Append(nil))
}

// AppendValue appends any other value of the backend, for instance a chord part
// or a saved group, given as JSON.
func (c ResultCodec) AppendValue(dst []byte, r Raw) ([]byte, error) {
	f, err := checkSerializer(c.Serializer)
	if err == nil {
		err = CheckJSON(r, JSONLimits{})
	}
	if syntax, ok := errors.AsType[*SyntaxError](err); ok {
		err = &EncodeError{Err: syntax}
	}
	if err != nil {
		return dst, err
	}
	return c.append(dst, f, r)
}

func (c ResultCodec) append(dst []byte, f *format, r Raw) ([]byte, error) {
	data := []byte(r)
	if f.write != nil {
		tree, err := treeOf(r)
		if err != nil {
			return dst, &EncodeError{Err: err}
		}
		write := f.write
		if f.name == SerializerPickle {
			write = writePickledResult
		}
		if data, err = write(tree); err != nil {
			return dst, within(PartResult, err)
		}
	}
	if c.Compression == "" {
		return append(dst, data...), nil
	}
	a, err := algorithmOf(c.Compression)
	if err != nil {
		return dst, err
	}
	if data, err = a.write(data); err != nil {
		return dst, &EncodeError{Err: err}
	}
	dst = append(append(append(dst, compressedMarker...), a.mime...), 0)
	return append(dst, data...), nil
}

// Decode reads a result meta. It refuses what Python's AsyncResult cannot read:
// what is no dict, no status, no result. An exception object in a pickle
// becomes what Exception reads; nothing is constructed of it. The error is a
// *DisallowedError when Serializer is not in Accept, an *UnsupportedError that
// names what is not supported, or a *DecodeError.
func (c ResultCodec) Decode(b []byte) (*ResultMeta, error) {
	r, compression, err := c.decode(b)
	if err != nil {
		return nil, err
	}
	facts, err := Inspect(r, c.Limits.JSON)
	if err == nil && facts.Kind != KindObject {
		err = errKind(KindObject, facts.Kind)
	}
	if err != nil {
		return nil, decodeError(PartResult, err)
	}
	members, err := r.Object()
	if err != nil {
		return nil, decodeError(PartResult, err)
	}
	m, err := resultOf(members.merged())
	if err != nil {
		return nil, err
	}
	m.Compression = compression
	return m, nil
}

// DecodeValue reads any other value of the backend as JSON. An exception object
// as the result of a failed chord part becomes the dict that the other
// serializers store. The errors are those of Decode.
func (c ResultCodec) DecodeValue(b []byte) (Raw, error) {
	r, _, err := c.decode(b)
	if err != nil {
		return nil, err
	}
	if err := CheckJSON(r, c.Limits.JSON); err != nil {
		return nil, decodeError(PartResult, err)
	}
	return r, nil
}

// decode makes JSON of a stored value. JSON comes back unchecked.
func (c ResultCodec) decode(b []byte) (r Raw, compression string, err error) {
	lim := c.Limits.withDefaults()
	f, err := checkSerializer(c.Serializer)
	if err != nil {
		return nil, "", err
	}
	if !c.Accept.has(f) {
		return nil, "", &DisallowedError{ContentType: f.contentType}
	}
	if b, compression, err = decompressResult(b, lim); err != nil {
		return nil, "", err
	}
	switch f.name {
	case SerializerJSON:
		return b, compression, nil
	case SerializerPickle:
		r, err = unpickle(b, lim, true)
	default:
		r, err = f.read(b, lim)
	}
	return r, compression, inPart(PartResult, err)
}

func decompressResult(b []byte, lim Limits) (plain []byte, compression string, err error) {
	rest, isCompressed := bytes.CutPrefix(b, []byte(compressedMarker))
	if !isCompressed {
		return b, "", nil
	}
	name, data, found := bytes.Cut(rest, []byte{0})
	if !found {
		return nil, "", &DecodeError{Part: PartResult, Field: keyCompression, Offset: -1, Err: ErrMissing}
	}
	plain, err = decompress(string(name), data, lim.MaxDecompressed)
	return plain, compressionMIME(string(name)), inPart(PartResult, err)
}
