// Package celeryproto reads and writes the messages of Celery: task messages of
// protocol 2 and 1, results, remote control, events, and what kombu serializes
// and compresses them with. It is pure: bytes in, values out, no network, no
// goroutine, no time of its own. Package redisbroker carries the bytes.
//
// # The envelope
//
// A queue is a Redis list; each element is an envelope, one JSON object:
//
//	┌ Envelope ───────────────────────────────────────────────────────────┐
//	│ "body"              base64 of ┌ payload ──────────────────────────┐ │
//	│                  (compressed, │ [args, kwargs, embed]  protocol 2 │ │
//	│                     perhaps)  │ {"task": …, "args": …} protocol 1 │ │
//	│                               └───────────────────────────────────┘ │
//	│ "content-encoding"  "utf-8", "binary"                               │
//	│ "content-type"      "application/json", -x-msgpack, -x-yaml, …      │
//	│ "headers"          ┌ protocol 2; {} in protocol 1 ────────────────┐ │
//	│                    │ lang task id shadow eta expires group        │ │
//	│                    │ group_index retries timelimit root_id        │ │
//	│                    │ parent_id argsrepr kwargsrepr origin         │ │
//	│                    │ ignore_result replaced_task_nesting          │ │
//	│                    │ stamped_headers stamps [compression]         │ │
//	│                    │ [redelivered] and whatever users add         │ │
//	│                    └──────────────────────────────────────────────┘ │
//	│ "properties"       ┌ Properties ──────────────────────────────────┐ │
//	│                    │ correlation_id reply_to delivery_mode        │ │
//	│                    │ [expiration] priority body_encoding          │ │
//	│                    │ delivery_tag                                 │ │
//	│                    │ delivery_info: exchange routing_key          │ │
//	│                    │                [redelivered]                 │ │
//	│                    └──────────────────────────────────────────────┘ │
//	└─────────────────────────────────────────────────────────────────────┘
//
// DecodeEnvelope takes the outer box apart, DecodeTask the inner ones; a Task
// makes an Envelope, an Envelope its bytes. A header "task" marks protocol 2.
// Its embed has four members: callbacks and errbacks (arrays of signatures),
// chain (the same, the next step last) and chord (a signature). They are
// carried untouched. Protocol 1 has no chain and no workflow IDs; a hybrid
// (headers of 2, body of 1) is read as protocol 2.
//
// Messages of remote control (ControlMessage, ControlReply) and events (Event)
// have the same outer box, with other headers and bodies and without
// correlation_id and reply_to.
//
// # Guarantees
//
// What this package writes is, byte for byte, what Python writes for the same
// values. What it reads is what Python may write, or a foreign producer that a
// Python worker accepts. What was read and not changed is written again with
// the same meaning: unknown members, absent and null, integers of any size, NaN,
// lone surrogates. An untouched body keeps its bytes.
//
// Whatever makes a Python worker exit, loop or drop a message is refused with a
// *DecodeError that says where, and never what: values can be secrets. What is
// not in Limits.Accept is refused with a *DisallowedError, and what Celery knows
// and this package does not (signed messages, serializers of an application, a
// Python object in a pickle) with an *UnsupportedError that names it.
//
// Text and nesting cost linear time and memory; depth, digits of integers,
// values and decompressed size have limits (JSONLimits, Limits).
//
// # JSON in Python's dialect
//
// encoding/json refuses or changes much of what json.dumps writes. So values
// that are only relayed stay Raw, a checked JSON text; CheckJSON, Inspect,
// Raw.Lookup and HasTypedMarker allocate nothing, for the frames of browsers.
// DecodeValue and EncodeValue convert, with kombu's typed values
// ({"__type__": "datetime", "__value__": "…"}) as Go types of their own.
//
// # Other serializers
//
// Whatever the serializer, a value is JSON in memory: DecodeContent converts
// when a message or result is read, EncodeContent when it is written. A body
// that was not changed is not converted back.
//
//	Python             json             msgpack   yaml       pickle
//	int, float, str    number, text     ← to 64 bits         ←
//	bytes              typed            bin       !!binary   ←
//	datetime, date     typed            refused   timestamp  ←
//	time, Decimal,     typed            refused   refused    ←
//	  UUID
//	tuple, set         array (read; a set cannot be written)
//	dict with keys     their text, as json.dumps writes it; msgpack refuses
//	  of other types   them, and no serializer has bytes or tuples as keys here
//	Timestamp, ExtType                  refused by name
//	any other object                              refused by name: a tag in
//	                                              YAML, a class in a pickle
//
// YAML is what yaml.safe_load and yaml.safe_dump of PyYAML make of it. A pickle
// is data here: its reader knows the plain types, dates and times, Decimal, UUID,
// OrderedDict, defaultdict and Celery's signatures, and refuses the name of
// everything else; nothing that it names is looked up or called. Exceptions are
// read where a result has one, as their class, module and arguments.
//
// Not carried over: which lists were tuples or sets, int keys of a dict that is
// written again, the name of a time zone (zoneinfo other than UTC is refused, for
// its offset is in a database), timedelta, and objects that were shared.
//
// # Differences
//
// Differences to CPython, all on input that Python does not write: depth is
// limited to 512 (CPython: about 1000 less the caller's stack); a typed
// decimal keeps its text instead of taking Python's canonical form; base64 and
// UUIDs with characters outside of their alphabets, and offsets of datetimes
// with fractions of a second, are refused.
//
// # Sources
//
// celery 5.7.0: app/amqp.py (as_task_v1, as_task_v2), worker/strategy.py
// (protocol 1 and hybrids), backends/base.py (results, exceptions),
// utils/saferepr.py, utils/serialization.py (pickled exceptions), events/,
// utils/nodenames.py. kombu 5.7.0: transport/virtual/base.py (envelope,
// properties), utils/json.py (typed values), compression.py, serialization.py,
// pidbox.py, matcher.py, clocks.py. msgpack 1.2, PyYAML 6.0. CPython 3.11:
// Modules/_json.c, Modules/_datetimemodule.c, Lib/pickle.py. The goldens in
// testdata were recorded from these releases.
package celeryproto
