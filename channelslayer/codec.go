package channelslayer

import (
	"errors"
	"math/rand/v2"
)

// codec turns messages into the bytes of a sorted set's member and back: random prefix, then the body.
//
//	┌──────────────────────────┬──────────────────────────────────────────┐
//	│ random_prefix_length (12)│ msgpack {type, message, __asgi_channel__}│
//	└──────────────────────────┴──────────────────────────────────────────┘
//
// A second serializer or encryption belongs here: both change the body only.
type codec struct {
	randomLength int
}

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
	p := newPacker()
	defer p.release()
	c.random(p)
	extra := 1
	if channel == "" {
		extra = 0
	}
	if err := p.message(m, extra); err != nil {
		return "", err
	}
	if channel != "" {
		if err := errors.Join(p.enc.EncodeString(channelKeyName), p.text(channel, channelKeyName)); err != nil {
			return "", err
		}
	}
	return p.buf.String(), nil
}

// encodeOpen returns the bytes of m as group_send writes them, up to the list of channel names, which the script in Redis
// appends for each receiving key: the key __asgi_channel__ is the last thing written.
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

// decode checks and opens one member of a channel's sorted set.
func (c codec) decode(member string, score float64) (Received, channelNames, error) {
	if len(member) < c.randomLength {
		return Received{}, channelNames{}, &DecodeError{Reason: DropUndecodable, Offset: -1}
	}
	r, names, err := scanMessage(member[c.randomLength:])
	r.score = score
	return r, names, err
}
