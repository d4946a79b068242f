package redisbroker

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/dfws/dfws/celeryproto"
)

var jsonTrue = celeryproto.Raw("true")

// entry is a value of the unacked hash: [envelope, exchange, routing key].
type entry struct {
	envelope             celeryproto.Raw
	exchange, routingKey string
}

// parseEntry reads what QoS.append of kombu wrote. The result shares the memory of b.
func parseEntry(b []byte) (entry, error) {
	if err := celeryproto.CheckJSON(b, celeryproto.JSONLimits{}); err != nil {
		return entry{}, &EntryError{Err: err}
	}
	parts, err := celeryproto.Raw(b).Array()
	if err != nil {
		return entry{}, &EntryError{Err: err}
	}
	if len(parts) != 3 {
		return entry{}, &EntryError{Err: fmt.Errorf("%d elements, not 3", len(parts))}
	}
	e := entry{envelope: parts[0]}
	if e.envelope.Kind() != celeryproto.KindObject {
		return entry{}, &EntryError{Err: errors.New("the envelope is no object")}
	}
	if e.exchange, err = optionalText(parts[1]); err != nil {
		return entry{}, &EntryError{Err: fmt.Errorf("exchange: %w", err)}
	}
	if e.routingKey, err = optionalText(parts[2]); err != nil {
		return entry{}, &EntryError{Err: fmt.Errorf("routing key: %w", err)}
	}
	return e, nil
}

// optionalText reads a string or null: kombu treats both null and "" as the anonymous exchange.
func optionalText(r celeryproto.Raw) (string, error) {
	if r.IsNull() {
		return "", nil
	}
	return r.Text()
}

// heldSeparator stands between the queue, as a JSON string, and the element in the own held hash.
const heldSeparator = '\n'

func appendHeld(queue string, raw []byte) []byte {
	b := celeryproto.AppendString(make([]byte, 0, len(queue)+len(raw)+3), queue)
	return append(append(b, heldSeparator), raw...)
}

func parseHeld(b []byte) (queue string, raw []byte, err error) {
	name, raw, ok := bytes.Cut(b, []byte{heldSeparator})
	if !ok {
		return "", nil, &EntryError{Err: errors.New("held entry without a queue")}
	}
	if queue, err = celeryproto.Raw(name).Text(); err != nil {
		return "", nil, &EntryError{Err: fmt.Errorf("queue: %w", err)}
	}
	return queue, raw, nil
}

// redelivered returns the envelope as kombu gives it back to a queue (Channel._do_restore_message): with
// headers.redelivered and properties.delivery_info.redelivered true, as far as these objects exist. All other values keep
// their bytes. What is no object is returned as it is.
func redelivered(envelope []byte) []byte {
	top, err := celeryproto.Raw(envelope).Object()
	if err != nil {
		return envelope
	}
	setFlag(&top, "headers")
	setFlag(&top, "properties", "delivery_info")
	return top.Append(make([]byte, 0, len(envelope)+2*len(`, "redelivered": true`)))
}

// setFlag sets redelivered in the object at path, if there is one.
func setFlag(m *celeryproto.Members, path ...string) bool {
	if len(path) == 0 {
		m.Set("redelivered", jsonTrue)
		return true
	}
	value, ok := m.Get(path[0])
	if !ok {
		return false
	}
	inner, err := value.Object()
	if err != nil {
		return false
	}
	if !setFlag(&inner, path[1:]...) {
		return false
	}
	m.Set(path[0], inner.Append(nil))
	return true
}

// repaired completes an envelope that lacks what a delivery needs: properties.delivery_tag and delivery_info with exchange
// and routing_key. Python loses such a message. What cannot be completed is returned with false.
func repaired(envelope []byte, tag, queue string) ([]byte, bool) {
	top, err := celeryproto.Raw(envelope).Object()
	if err != nil {
		return nil, false
	}
	props, ok := objectOrEmpty(top, "properties")
	if !ok {
		return nil, false
	}
	if !hasText(props, "delivery_tag") {
		props.Set("delivery_tag", celeryproto.AppendString(nil, tag))
	}
	info, ok := objectOrEmpty(props, "delivery_info")
	if !ok {
		return nil, false
	}
	if !hasText(info, "exchange") || !hasText(info, "routing_key") {
		info.Set("exchange", celeryproto.AppendString(nil, ""))
		info.Set("routing_key", celeryproto.AppendString(nil, queue))
		props.Set("delivery_info", info.Append(nil))
	}
	top.Set("properties", props.Append(nil))
	return top.Append(nil), true
}

// objectOrEmpty is the object under key, empty when it is missing or null; false when there is something else.
func objectOrEmpty(m celeryproto.Members, key string) (celeryproto.Members, bool) {
	value, ok := m.Get(key)
	if !ok || value.IsNull() {
		return nil, true
	}
	inner, err := value.Object()
	return inner, err == nil
}

func hasText(m celeryproto.Members, key string) bool {
	value, ok := m.Get(key)
	return ok && value.Kind() == celeryproto.KindString
}

// wasRedelivered reads the flags that redelivered sets.
func wasRedelivered(e *celeryproto.Envelope) bool {
	if e.Properties.DeliveryInfo.Redelivered {
		return true
	}
	flag, ok := e.Headers.Get("redelivered")
	if !ok {
		return false
	}
	set, err := flag.Bool()
	return err == nil && set
}

// priorityOf is properties.priority as kombu's _get_message_priority reads it: 0 when missing or no number.
func priorityOf(envelope []byte) int {
	top, err := celeryproto.Raw(envelope).Object()
	if err != nil {
		return 0
	}
	value, ok := top.Get("properties")
	if !ok {
		return 0
	}
	props, err := value.Object()
	if err != nil {
		return 0
	}
	if value, ok = props.Get("priority"); !ok {
		return 0
	}
	text := string(value)
	if value.Kind() == celeryproto.KindString { // int("5") works in Python too
		if text, err = value.Text(); err != nil {
			return 0
		}
		n, _ := strconv.Atoi(text)
		return n
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f != f { // true, null, an object, NaN
		return 0
	}
	return int(min(max(f, -1), 10)) // clamped to 0..9 when the key is made
}
