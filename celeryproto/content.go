package celeryproto

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// DecodeContent turns serialized data into JSON text, as kombu's loads turns it
// into Python objects (kombu 5.7, serialization.py): what JSON has no type for
// becomes kombu's typed values. An empty content type is application/data.
// JSON comes back as it is. Content without a decoder becomes a text, or bytes
// when the encoding is "binary". No data at all is refused where there is a
// decoder; kombu gives them back as bytes, which no task or result can be.
//
// The error is a *DisallowedError for a content type that is not in
// lim.Accept, an *UnsupportedError that names a content type, an encoding or a
// Python object that this package cannot represent, or a *DecodeError.
func DecodeContent(contentType, contentEncoding string, data []byte, lim Limits) (Raw, error) {
	if contentType == "" {
		contentType = ContentTypeData
	}
	f := formatOf(contentType)
	if f == nil || contentType != f.contentType {
		return nil, unsupportedSerializer(contentType)
	}
	if !lim.Accept.has(f) {
		return nil, &DisallowedError{ContentType: contentType}
	}
	if f.read == nil {
		return plainContent(contentEncoding, data)
	}
	if len(data) == 0 {
		return nil, &DecodeError{Part: PartContent, Offset: -1, Err: errors.New("empty")}
	}
	r, err := f.read(data, lim.withDefaults())
	if _, unsupported := errors.AsType[*UnsupportedError](err); err != nil && !unsupported {
		err = decodeError(PartContent, err)
	}
	return r, err
}

// readJSON checks what is JSON already.
func readJSON(data []byte, lim Limits) (Raw, error) {
	if err := CheckJSON(data, lim.JSON); err != nil {
		return nil, err
	}
	return data, nil
}

// plainContent is a text or bytes that nobody parses.
func plainContent(encoding string, data []byte) (Raw, error) {
	switch name := strings.ToLower(encoding); name {
	case EncodingBinary, "ascii-8bit":
		return EncodeValue(append([]byte{}, data...))
	case "", EncodingUTF8, "utf8", "ascii", "us-ascii":
		if !utf8.Valid(data) || strings.HasSuffix(name, "ascii") && !isASCII(string(data)) {
			return nil, &DecodeError{Part: PartContent, Offset: -1, Err: errors.New("text is not " + name)}
		}
		return AppendString(nil, string(data)), nil
	case "latin-1", "latin1", "iso-8859-1":
		return AppendString(nil, latin1(data)), nil
	default:
		return nil, &UnsupportedError{What: "content encoding", Name: shorten(encoding)}
	}
}

func latin1(b []byte) string {
	out := make([]byte, 0, len(b))
	for _, c := range b {
		out = utf8.AppendRune(out, rune(c))
	}
	return string(out)
}

// EncodeContent serializes a JSON text as kombu's dumps serializes the Python
// objects that it stands for. The serializer is a name or a content type of
// kombu, "" for JSON. "raw" (application/data) takes bytes or a text, text/plain
// a text.
//
// The error is an *UnsupportedError that names a serializer, or an *EncodeError
// that names a type which the serializer does not have, as kombu's EncodeError.
func EncodeContent(serializer string, r Raw) (data []byte, contentType, contentEncoding string, err error) {
	f := formatOf(serializer)
	if f == nil {
		return nil, "", "", unsupportedSerializer(serializer)
	}
	if f.name == SerializerJSON {
		if err := CheckJSON(r, JSONLimits{}); err != nil {
			return nil, "", "", &EncodeError{Err: err}
		}
		return r, f.contentType, f.encoding, nil
	}
	tree, err := treeOf(r)
	if err != nil {
		return nil, "", "", &EncodeError{Err: err}
	}
	if f.write == nil {
		data, contentEncoding, err = encodePlain(f, tree)
		return data, f.contentType, contentEncoding, err
	}
	data, err = f.write(tree)
	return data, f.contentType, f.encoding, err
}

func encodePlain(f *format, tree any) (data []byte, encoding string, err error) {
	switch v := tree.(type) {
	case string:
		if utf8.ValidString(v) {
			return []byte(v), EncodingUTF8, nil
		}
		return nil, "", &EncodeError{Err: errLoneSurrogate}
	case []byte:
		if f.contentType == ContentTypeData {
			return v, EncodingBinary, nil
		}
	}
	return nil, "", errCannot(f.name, tree)
}

var errLoneSurrogate = errors.New("text with a lone surrogate")

// serialize is EncodeContent for JSON that has been checked.
func (f *format) serialize(r Raw) ([]byte, error) {
	if f.write == nil {
		return r, nil
	}
	tree, err := treeOf(r)
	if err != nil {
		return nil, &EncodeError{Err: err}
	}
	return f.write(tree)
}
