package celeryproto

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestEnvelopeGoldens(t *testing.T) {
	t.Parallel()
	for _, g := range mustEnvelopes(t) {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			e := must(DecodeEnvelope(g.value))(t)
			got := must(e.Append(nil))(t)
			if !bytes.Equal(got, g.value) {
				t.Errorf("encoded again:\n got %s\nwant %s", got, g.value)
			}
			// And as a new envelope, without the memory of the wire.
			e.wire, e.Properties.wire, e.Properties.DeliveryInfo.wire = nil, nil, nil
			if got := must(e.Append(nil))(t); !sameJSON(t, got, g.value) {
				t.Errorf("written anew:\n got %s\nwant %s", got, g.value)
			}
		})
	}
}

func TestUnackedEntryGoldens(t *testing.T) {
	t.Parallel()
	for _, g := range mustGoldens(t, `[{"body": `) {
		entry := must(Raw(g.value).Array())(t)
		if len(entry) != 3 {
			t.Fatalf("%s: %d elements", g.name, len(entry))
		}
		e := must(DecodeEnvelope(entry[0]))(t)
		if got := must(e.Append(nil))(t); !bytes.Equal(got, entry[0]) {
			t.Errorf("%s: encoded again:\n got %s\nwant %s", g.name, got, entry[0])
		}
	}
}

// TestEnvelopeKeepsForm has what foreign producers write.
func TestEnvelopeKeepsForm(t *testing.T) {
	t.Parallel()
	const tail = `"properties":{"delivery_tag":"t","delivery_info":{"exchange":"","routing_key":"q"}}`
	for name, text := range map[string]string{
		"minimal":          `{"body":"",` + tail + `}`,
		"null headers":     `{"body":"b","headers":null,` + tail + `}`,
		"null encoding":    `{"body":"b","content-encoding":null,` + tail + `}`,
		"unknown members":  `{"x-a":1e400,"body":"b","x-b":[NaN],` + tail + `}`,
		"unknown property": `{"body":"b","properties":{"delivery_tag":"t","app":"\ud800","delivery_info":{"exchange":"","routing_key":"q","hops":1}}}`,
		"priority as text": `{"body":"b","properties":{"priority":"5","delivery_tag":"t","delivery_info":{"exchange":"","routing_key":"q"}}}`,
		"priority no int":  `{"body":"b","properties":{"priority":5.5,"delivery_tag":"t","delivery_info":{"exchange":"","routing_key":"q"}}}`,
		"big number":       `{"body":"b","headers":{"n":100000000000000000000000000000000},` + tail + `}`,
		"bytes body":       `{"body":{"__type__":"base64","__value__":"eJw="},` + tail + `}`,
		"typed header":     `{"body":"b","headers":{"at":{"__type__":"datetime","__value__":"2024-02-29T12:30:45"}},` + tail + `}`,
		"expiration":       `{"body":"b","properties":{"expiration":60000,"delivery_tag":"t","delivery_info":{"exchange":null,"routing_key":"q"}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := must(DecodeEnvelope([]byte(text)))(t)
			if got := must(e.Append(nil))(t); !sameJSON(t, got, []byte(text)) {
				t.Errorf("got  %s\nwant %s", got, text)
			}
		})
	}
}

func TestEnvelopeDuplicateKeysMergeAsInPython(t *testing.T) {
	t.Parallel()
	const text = `{"body":"one","headers":{"a":1,"b":2,"a":3},"body":"two",` +
		`"properties":{"delivery_tag":"t","delivery_info":{"exchange":"","routing_key":"q"}}}`
	e := must(DecodeEnvelope([]byte(text)))(t)
	if e.Body != "two" || len(e.Headers) != 2 || string(e.Headers[0].Value) != "3" {
		t.Errorf("got %q, %v", e.Body, e.Headers)
	}
}

func TestEnvelopeChange(t *testing.T) {
	t.Parallel()
	e := must(DecodeEnvelope(mustGolden(t, "task_v2_simple", `{"body": `)))(t)
	before := e.Clone()
	e.Headers.Set("redelivered", rawTrue)
	e.Headers.Delete("shadow")
	e.Properties.DeliveryInfo.Redelivered = true
	e.Properties.Priority = 9
	e.Properties.DeliveryTag = "new"
	again := must(DecodeEnvelope(must(e.Append(nil))(t)))(t)
	if v, _ := again.Headers.Get("redelivered"); string(v) != "true" {
		t.Errorf("redelivered header %q", v)
	}
	if _, there := again.Headers.Get("shadow"); there {
		t.Error("shadow header is still there")
	}
	p := again.Properties
	if !p.DeliveryInfo.Redelivered || p.Priority != 9 || p.DeliveryTag != "new" {
		t.Errorf("properties %+v", p)
	}
	if p.ReplyTo != before.Properties.ReplyTo || p.CorrelationID != before.Properties.CorrelationID {
		t.Errorf("properties %+v", p)
	}
	if _, there := before.Headers.Get("redelivered"); there {
		t.Error("the clone has changed")
	}
}

// TestEnvelopeRefused has the messages that a Python consumer loses or dies of.
func TestEnvelopeRefused(t *testing.T) {
	t.Parallel()
	const good = `"properties":{"delivery_tag":"t","delivery_info":{"exchange":"","routing_key":"q"}}`
	for name, tc := range map[string]struct {
		text, field string
		offset      int64
	}{
		"empty":                   {``, "", 0},
		"no JSON":                 {`{"body": xx}`, "", 9},
		"cut off":                 {`{"body": "`, "", 9},
		"array":                   {`[]`, "", -1},
		"invalid UTF-8":           {"{\"body\": \"\xff\"}", "", 10},
		"unknown type":            {`{"body":"b","headers":{"x":{"__type__":"money","__value__":1}},` + good + `}`, "", -1},
		"broken datetime":         {`{"body":"b","headers":{"x":{"__type__":"datetime","__value__":"soon"}},` + good + `}`, "datetime", 27},
		"no body":                 {`{` + good + `}`, "body", -1},
		"body is a number":        {`{"body":1,` + good + `}`, "body", -1},
		"body is an object":       {`{"body":{},` + good + `}`, "body", -1},
		"headers is a list":       {`{"body":"b","headers":[],` + good + `}`, "headers", -1},
		"no properties":           {`{"body":"b"}`, "properties", -1},
		"no delivery_info":        {`{"body":"b","properties":{"delivery_tag":"t"}}`, "properties.delivery_info", -1},
		"no delivery_tag":         {`{"body":"b","properties":{"delivery_info":{"exchange":"","routing_key":"q"}}}`, "properties.delivery_tag", -1},
		"delivery_tag is a digit": {`{"body":"b","properties":{"delivery_tag":1,"delivery_info":{"exchange":"","routing_key":"q"}}}`, "properties.delivery_tag", -1},
		"no routing key":          {`{"body":"b","properties":{"delivery_tag":"t","delivery_info":{"exchange":""}}}`, "properties.delivery_info.routing_key", -1},
		"no exchange":             {`{"body":"b","properties":{"delivery_tag":"t","delivery_info":{"routing_key":"q"}}}`, "properties.delivery_info.exchange", -1},
		"too deep":                {strings.Repeat("[", 600), "", 512},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := DecodeEnvelope([]byte(tc.text))
			fault, ok := errors.AsType[*DecodeError](err)
			if !ok {
				t.Fatalf("error %v", err)
			}
			if fault.Part != PartEnvelope || fault.Field != tc.field || fault.Offset != tc.offset {
				t.Errorf("part %q, field %q, offset %d: %v", fault.Part, fault.Field, fault.Offset, err)
			}
		})
	}
}

// TestErrorsKeepSecrets: values can be window keys and passwords.
func TestErrorsKeepSecrets(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	for _, text := range []string{
		`{"body": "` + secret + `\x"}`,
		`{"body": {"a": "` + secret + `"}}`,
		`{"body": "b", "headers": "` + secret + `"}`,
		`{"body": "b", "headers": {"x": {"__type__": "datetime", "__value__": "` + secret + `"}}}`,
		`{"body": "b", "properties": {"delivery_tag": ["` + secret + `"]}}`,
	} {
		_, err := DecodeEnvelope([]byte(text))
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestEnvelopeNeedsDeliveryTag(t *testing.T) {
	t.Parallel()
	_, err := (&Envelope{Body: "x"}).Append(nil)
	if fault, ok := errors.AsType[*EncodeError](err); !ok || fault.Path != "properties.delivery_tag" {
		t.Errorf("error %v", err)
	}
	e := &Envelope{Extra: Members{{Key: "body", Value: rawTrue}}, Properties: Properties{DeliveryTag: "t"}}
	if _, err := e.Append(nil); err == nil {
		t.Error("a second body was accepted")
	}
}
