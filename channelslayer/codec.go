package channelslayer

import (
	"errors"
	"math/rand/v2"
)

// format is a serializer of channels_redis (serializers.py, registry).
type format uint8

const (
	formatMsgpack format = iota
	formatJSON
)

// codec turns messages into the bytes of a sorted set's member, or of a published message, and back: random prefix, then the body.
//
//	┌──────────────────────────┬───────────────────────────────────────────────────┐
//	│ random_prefix_length (12)│ {type, message, __asgi_channel__} as msgpack or as │
//	│                          │ JSON; with keys the Fernet token of that           │
//	└──────────────────────────┴───────────────────────────────────────────────────┘
//
// The random prefix stays in clear. The pub/sub layer has none.
type codec struct {
	randomLength int
	format       format
	fernet       *fernet // nil: in clear
}

// isOpen reports whether the list of channel names can be appended to what encodeOpen returned.
func (c codec) isOpen() bool { return c.format == formatMsgpack && c.fernet == nil }

// random writes the random prefix. It only keeps equal messages apart in the sorted set, so no secret source is needed.
func (c codec) random(p *packer) {
	for left := c.randomLength; left > 0; {
		word := rand.Uint64()
		for i := 0; i < 8 && left > 0; i++ {
			p.buf.WriteByte(byte(word))
			word >>= 8
			left--
		}
	}
}

// encode returns the bytes of m as send writes them: with __asgi_channel__ = channel, or without it when channel is "".
func (c codec) encode(m Message, channel string) (string, error) {
	if channel == "" {
		return c.encodeWith(m, nil)
	}
	return c.encodeWith(m, channel)
}

// encodeList returns the bytes of m as group_send writes them for one key.
func (c codec) encodeList(m Message, channels []string) (string, error) {
	return c.encodeWith(m, channels)
}

// encodeWith writes m with __asgi_channel__ = channels: a string, a []string, or nil for none.
func (c codec) encodeWith(m Message, channels any) (string, error) {
	p := newPacker()
	defer p.release()
	c.random(p)
	if err := c.body(p, m, channels); err != nil {
		return "", err
	}
	if c.fernet == nil {
		return p.buf.String(), nil
	}
	token, err := c.fernet.encrypt(p.buf.Bytes()[c.randomLength:])
	if err != nil {
		return "", err
	}
	p.buf.Truncate(c.randomLength)
	p.buf.Write(token)
	return p.buf.String(), nil
}

// body writes the serialized dictionary.
func (c codec) body(p *packer, m Message, channels any) error {
	if c.format == formatJSON {
		w := jsonWriter{b: p.buf.AvailableBuffer()}
		err := w.message(m, channels)
		p.buf.Write(w.b)
		return err
	}
	if channels == nil {
		return p.message(m, 0)
	}
	return errors.Join(p.message(m, 1), p.enc.EncodeString(channelKeyName), p.value(channels, channelKeyName, 1))
}

// encodeOpen returns the bytes of m as group_send writes them, up to the list of channel names, which the script in Redis
// appends for each receiving key: the key __asgi_channel__ is the last thing written. Only where isOpen.
func (c codec) encodeOpen(m Message) (string, error) {
	p := newPacker()
	defer p.release()
	c.random(p)
	if err := p.message(m, 1); err != nil {
		return "", err
	}
	if err := p.enc.EncodeString(channelKeyName); err != nil {
		return "", err
	}
	return p.buf.String(), nil
}

// decode checks and opens one member of a channel's sorted set, or one published message.
func (c codec) decode(member string, score float64) (Received, channelNames, error) {
	if len(member) < c.randomLength {
		return Received{}, channelNames{}, &DecodeError{Reason: DropUndecodable, Offset: -1}
	}
	body := member[c.randomLength:]
	if c.fernet != nil {
		clear, err := c.fernet.decrypt(body)
		if err != nil {
			return Received{}, channelNames{}, err
		}
		body = string(clear)
	}
	if c.format == formatJSON {
		r, names, err := scanJSON(body)
		r.score = score
		return r, names, err
	}
	r, names, err := scanMessage(body)
	r.score = score
	return r, names, err
}
