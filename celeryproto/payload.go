package celeryproto

import (
	"encoding/base64"
	"errors"
	"strings"
)

// Payload is the serialized body: decoded from base64, decompressed, not yet
// parsed. The error is an *UnsupportedError for a compression or body encoding
// that is not supported, else a *DecodeError.
func (e *Envelope) Payload(lim Limits) ([]byte, error) {
	data, err := e.bodyBytes()
	if err != nil {
		return nil, err
	}
	name, err := e.compression()
	if err != nil || name == "" {
		return data, err
	}
	plain, err := decompress(name, data, lim.withDefaults().MaxDecompressed)
	if _, unsupported := errors.AsType[*UnsupportedError](err); err == nil || unsupported {
		return plain, err
	}
	return nil, decodeError(PartBody, err)
}

// bodyBytes is the body without the encoding that makes it a text.
func (e *Envelope) bodyBytes() ([]byte, error) {
	switch name := e.Properties.BodyEncoding; {
	case strings.EqualFold(name, BodyUTF8):
		return []byte(e.Body), nil
	case name != "" && name != BodyBase64:
		return nil, &UnsupportedError{What: "body encoding", Name: shorten(name)}
	}
	data, err := base64.StdEncoding.DecodeString(e.Body)
	if err != nil {
		offset := int64(-1)
		if corrupt, ok := errors.AsType[base64.CorruptInputError](err); ok {
			offset = int64(corrupt)
		}
		return nil, &DecodeError{Part: PartBody, Offset: offset, Err: errors.New("not base64")}
	}
	return data, nil
}

// compression is the name in the headers, "" for none.
func (e *Envelope) compression() (string, error) {
	value, _ := e.Headers.Get(keyCompression)
	if value.IsNull() {
		return "", nil
	}
	r := fieldReader{part: PartHeaders, members: Members{{Key: keyCompression, Value: value}}}
	return r.text(keyCompression), r.err
}

// content is the body as JSON, whatever its serializer, with what a scan of it
// tells; f is the serializer.
func (e *Envelope) content(lim Limits) (r Raw, facts Facts, f *format, err error) {
	if f = formatOf(e.ContentType); f == nil || e.ContentType != f.contentType {
		if e.ContentType == "" {
			return nil, Facts{}, nil, &DecodeError{Part: PartEnvelope, Field: keyContentType, Offset: -1, Err: ErrMissing}
		}
		return nil, Facts{}, nil, unsupportedSerializer(e.ContentType)
	}
	if f.contentType == ContentTypeData { // no task is bytes alone: it is a signed one
		return nil, Facts{}, nil, unsupportedSerializer(serializerAuth + " (" + ContentTypeData + ")")
	}
	if !lim.Accept.has(f) {
		return nil, Facts{}, nil, &DisallowedError{ContentType: f.contentType}
	}
	payload, err := e.Payload(lim)
	if err != nil {
		return nil, Facts{}, nil, err
	}
	r = payload
	if f.name != SerializerJSON {
		if r, err = DecodeContent(f.contentType, e.ContentEncoding, payload, lim); err != nil {
			return nil, Facts{}, nil, inPart(PartBody, err)
		}
	}
	if facts, err = Inspect(r, lim.JSON); err != nil {
		return nil, Facts{}, nil, decodeError(PartBody, err)
	}
	return r, facts, f, nil
}

// inPart puts a part in front of a fault of DecodeContent.
func inPart(part string, err error) error {
	if err == nil {
		return nil
	}
	if _, unsupported := errors.AsType[*UnsupportedError](err); unsupported {
		return err
	}
	return decodeError(part, err)
}

// setPayload makes a payload the body; binary says that it is no text.
func (e *Envelope) setPayload(payload []byte, binary bool, compression string) error {
	if compression != "" {
		var err error
		if payload, err = compress(compression, payload); err != nil {
			return err
		}
	}
	switch name := e.Properties.BodyEncoding; {
	case name == "" || name == BodyBase64:
		e.Body = base64.StdEncoding.EncodeToString(payload)
		e.BodyIsBytes = false
	case strings.EqualFold(name, BodyUTF8):
		e.Body = string(payload)
		e.BodyIsBytes = binary || compression != ""
	default:
		return &UnsupportedError{What: "body encoding", Name: shorten(name)}
	}
	return nil
}

// TaskID is the ID of the task in the envelope, "" when there is none to be
// read: for messages that DecodeTask refuses. It looks into the headers and,
// for protocol 1, into the body, whether or not its serializer is accepted.
func (e *Envelope) TaskID() string { return e.taskText(keyID) }

// TaskName is the name of the task in the envelope, as TaskID.
func (e *Envelope) TaskName() string { return e.taskText(keyTask) }

func (e *Envelope) taskText(key string) string {
	if value, there := e.Headers.Get(key); there {
		s, err := value.Text()
		if err != nil {
			return ""
		}
		return s
	}
	if _, isV2 := e.Headers.Get(keyTask); isV2 {
		return ""
	}
	payload, _, _, err := e.content(Limits{Accept: acceptAll})
	if err != nil {
		return ""
	}
	var value [1]Raw
	if err := payload.Lookup([]string{key}, value[:]); err != nil {
		return ""
	}
	s, err := value[0].Text()
	if err != nil {
		return ""
	}
	return s
}
