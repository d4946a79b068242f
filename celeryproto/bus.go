package celeryproto

import (
	"errors"

	"github.com/google/uuid"
)

// BusOptions are how the messages of remote control and events are written. The zero value is Celery's default.
type BusOptions struct {
	// Serializer is kombu's name or content type: task_serializer for remote control, event_serializer for events. "" is JSON.
	Serializer string
	// BodyEncoding is BodyBase64 (also when empty) or BodyUTF8: the transport option body_encoding.
	BodyEncoding string
}

// busEnvelope is an envelope that is no task, with a fresh delivery tag.
func busEnvelope(o BusOptions, body []byte, headers Members, mode int, exchange, routingKey string) (*Envelope, error) {
	f, err := checkSerializer(o.Serializer)
	if err != nil {
		return nil, err
	}
	if err := checkRaw(body, JSONLimits{}); err != nil {
		return nil, &EncodeError{Path: keyBody, Err: err}
	}
	if body, err = f.serialize(body); err != nil {
		return nil, within(keyBody, err)
	}
	tag, err := uuid.NewRandom()
	if err != nil {
		return nil, err
	}
	e := &Envelope{
		ContentType: f.contentType, ContentEncoding: f.encoding, Headers: headers,
		Properties: Properties{
			DeliveryMode: mode, DeliveryInfo: DeliveryInfo{Exchange: exchange, RoutingKey: routingKey},
			BodyEncoding: o.BodyEncoding, DeliveryTag: tag.String(), bare: true,
		},
	}
	return e, e.setPayload(body, f.encoding == EncodingBinary, "")
}

// busBody is the body of such an envelope, checked for typed values that Python cannot read.
func (e *Envelope) busBody(lim Limits) (Raw, Kind, error) {
	payload, facts, _, err := e.content(lim)
	if err != nil {
		return nil, 0, err
	}
	if facts.TypedMarker {
		if err := checkTyped(payload); err != nil {
			return nil, 0, decodeError(PartBody, err)
		}
	}
	return payload, facts.Kind, nil
}

// busObject is a body that must be an object.
func (e *Envelope) busObject(lim Limits) (Members, error) {
	body, kind, err := e.busBody(lim)
	if err == nil && kind != KindObject {
		err = &DecodeError{Part: PartBody, Offset: -1, Err: errKind(KindObject, kind)}
	}
	if err != nil {
		return nil, err
	}
	members, err := body.Object()
	if err != nil {
		return nil, decodeError(PartBody, err)
	}
	return members.merged(), nil
}

var errNegative = errors.New("is negative")
