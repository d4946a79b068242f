package channelslayer

import (
	"math"
	"time"
)

// Received is one message as a Receiver took it from Redis. The whole of it was checked when it was taken, but nothing was built:
// Type and Text are parts of the bytes from Redis, Map decodes them when asked. It may be kept and read from several goroutines.
type Received struct {
	body    string // in clear, without the random prefix
	typ     string
	text    string
	hasText bool
	format  format
	score   float64
}

// Type returns the value of "type", the name of the handler ("ws_message"); "" when it is absent or no text.
func (r *Received) Type() string { return r.typ }

// Text returns the value of "message" when it is a text: for df_websockets the frame for the browser.
func (r *Received) Text() (text string, ok bool) { return r.text, r.hasText }

// SentAt returns the sender's clock at the time of sending, with the precision of a float64.
func (r *Received) SentAt() time.Time {
	whole, frac := math.Modf(r.score)
	if math.IsNaN(whole) || math.Abs(whole) > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(whole), int64(frac*1e9))
}

// Len returns the size of the message in bytes, its random prefix not counted.
func (r *Received) Len() int { return len(r.body) }

// Map builds the whole message, without __asgi_channel__. It is costlier than Type and Text.
func (r *Received) Map() (Message, error) {
	decode := decodeMap
	if r.format == formatJSON {
		decode = decodeJSON
	}
	m, err := decode(r.body)
	if err != nil {
		return nil, err
	}
	delete(m, channelKeyName)
	return m, nil
}

// channelNames is the value of __asgi_channel__: a text from send, a list from group_send, absent on general channels.
type channelNames struct {
	present bool
	one     string // when it is a text
	list    string // the undecoded list otherwise: count elements at the start of list
	count   int
	names   []string // the list when it was JSON
}

// each calls f with every name.
func (c channelNames) each(f func(name string)) {
	if !c.present {
		return
	}
	if c.names != nil {
		for _, name := range c.names {
			f(name)
		}
		return
	}
	if c.count == 0 && c.list == "" {
		f(c.one)
		return
	}
	sc := scanner{s: c.list}
	for range c.count {
		t, err := sc.next()
		if err != nil {
			return // cannot be: scanMessage went through it
		}
		name, err := sc.content(t)
		if err != nil {
			return
		}
		f(name)
	}
}

// scanMessage checks the bytes of one message (without the random prefix) and finds what a receiver needs. When a key occurs
// twice the last one counts, as in a Python dictionary.
func scanMessage(body string) (Received, channelNames, error) {
	r := Received{body: body}
	var names channelNames
	sc := scanner{s: body}
	head, err := sc.next()
	if err != nil {
		return r, names, err
	}
	if head.kind != kindMap {
		return r, names, &DecodeError{Reason: DropUndecodable, Offset: 0}
	}
	for range head.n {
		key, isText, err := sc.key()
		if err != nil {
			return r, names, err
		}
		if !isText {
			key = "" // b"type" is another key than "type"
		}
		switch key {
		case typeKeyName:
			r.typ, _, err = sc.textOrSkip()
		case messageKeyName:
			r.text, r.hasText, err = sc.textOrSkip()
		case channelKeyName:
			names, err = sc.channelNames()
		default:
			err = sc.skipNext(1)
		}
		if err != nil {
			return r, names, err
		}
	}
	return r, names, sc.end()
}

// textOrSkip reads a text; any other value is walked over and "" returned.
func (sc *scanner) textOrSkip() (string, bool, error) {
	t, err := sc.next()
	if err != nil {
		return "", false, err
	}
	if t.kind != kindText {
		return "", false, sc.skip(t, 1)
	}
	text, err := sc.content(t)
	return text, err == nil, err
}

// channelNames reads the value of __asgi_channel__.
func (sc *scanner) channelNames() (channelNames, error) {
	t, err := sc.next()
	if err != nil {
		return channelNames{}, err
	}
	switch t.kind {
	case kindText:
		name, err := sc.content(t)
		return channelNames{present: true, one: name}, err
	case kindArray:
		start := sc.pos
		for range t.n {
			e, err := sc.next()
			if err != nil {
				return channelNames{}, err
			}
			if e.kind != kindText {
				return channelNames{}, sc.fail(DropChannelType)
			}
			if _, err := sc.content(e); err != nil {
				return channelNames{}, err
			}
		}
		return channelNames{present: t.n > 0, list: sc.s[start:sc.pos], count: t.n}, nil
	default:
		return channelNames{}, sc.fail(DropChannelType)
	}
}
