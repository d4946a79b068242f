// Package channelslayer speaks the wire of channels_redis, the Redis channel layer of Django Channels: messages between processes, to one
// channel or to all members of a group. Go and Python processes on one layer do not notice each other's language.
//
// Core is the layer itself, with Python's operations. Receiver is for a process with many listeners, a gateway: one member per group whatever
// the number of listeners, where Python has one per websocket.
//
// # What is in Redis
//
// With the prefix "asgi", a group "G", a Python process with the client prefix A that has two websockets in the group, and a Receiver with the
// client prefix B:
//
//	asgi:group:G            sorted set, expires group_expiry (24 h) after the last group_add
//	┌───────────────────┬──────────────────────────────────────────────────┐
//	│ score: join time  │ specific.A!179ded4d51bc4a39ae55ba8ddcb21fa0      │ a websocket of the Python process
//	│                   │ specific.A!df1d833fc318444f99229377fd76c48a      │ another one
//	│                   │ specific.B!n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1s… │ the Receiver: base64url(sha256("G"))
//	└───────────────────┴──────────────────────────────────────────────────┘
//	         │ group_send: one message per process, with the names of its members
//	         ▼
//	asgispecific.A!         sorted set, expires expiry (60 s) after the last message; at most capacity (100) messages
//	asgispecific.B!
//	┌───────────────────┬───────────┬──────────────────────────────────────┐
//	│ score: send time  │ 12 random │ msgpack of {"type": "ws_message",    │
//	│                   │ bytes     │  "message": "<text>",                │
//	│                   │           │  "__asgi_channel__": [names]}        │
//	└───────────────────┴───────────┴──────────────────────────────────────┘
//
// __asgi_channel__ is a text in a message of send, a list in one of group_send, and absent on a general channel ("asgicelery"). The
// message does not tell its group: that is why the Receiver's member name must. Equal messages differ by the random bytes.
//
// Of our own, outside the layer's prefix because its flush() deletes all that starts with it (KeyPrefix "dfws:", layer prefix "asgi"):
//
//	dfws:layer:asgi:receivers    set of the client prefixes of receivers
//	dfws:layer:asgi:<B>:alive    exists while B lives (AliveTTL, 30 s); its value is the receiver's name
//	dfws:layer:asgi:<B>:groups   set of the groups that B has joined
//	dfws:layer:asgi:sweeping     whoever sweeps in this period
//
// and inside of it the group "dfws.receiver.<B>", whose only purpose is to vanish when the layer is flushed.
//
// # Guarantees
//
// At most once, as with channels_redis: a message is lost when its receiver dies after taking it, when Redis loses its memory, when the receiving
// key is full (counted by the sender: Observer.GroupSent, ErrChannelFull), or when it waits for longer than expiry. There is no
// $inflight key: it protects Python's receive from being cancelled, and ours is never cancelled between Redis and its caller. The order is
// that of the senders' clocks; equal times have no order.
//
// send and group_send are one script each where Python needs four to six round trips, so the capacity is exact. The script computes the keys of
// the members, so it needs one server rather than a cluster (as channels_redis does) and the right to use EVAL and EVALSHA.
//
// Bytes that no channel layer writes are dropped and counted by reason; nobody is disconnected and the next message is delivered. An extension
// type of msgpack is among them, although Python's unpackb would take it: packb writes none for any value that a message has.
//
// # Memberships of a Receiver
//
// Join returns when Redis has the membership. All are written again (ZADD and EXPIRE, pipelined) every third of group_expiry, after every
// reconnection, and when the sentinel group is found missing, which is looked for every ProbeInterval: after a flush(), a FLUSHDB, an eviction, or when
// other receivers swept this one because it gave no sign of life for AliveTTL. The sentinel is written before the memberships and swept after
// them, so whatever comes between is noticed. Each period one receiver sweeps the dead ones: it removes their memberships and keys.
//
// # Decoding
//
// The hot path is one message {"type": "ws_message", "message": text}. Received checks the bytes once and points into them: Type and Text cost nothing
// and Map builds the dictionary only when asked.
//
// # Goroutines
//
//	goroutine         owner              how many                        stops when
//	Run's caller      the caller         one per Receiver                ctx ends (within the pop in flight, which is woken)
//	maintain          Receiver.Run       one                             ctx ends
//	interrupt         Receiver.Run       one                             the reading has ended
//	flushLoop         Receiver           at most one, while changes wait nothing is left to write; Run waits for it
//	inbox.read        Core               one per key that Receive waits  nobody waits any more; Close waits for it
//
// # Not here yet
//
// Several hosts, Sentinel, encryption, the json serializer, compiled regular expressions in channel_capacity and the pub/sub layer are refused by
// name (ErrUnsupported). Shards belong beside Core.client, other formats and encryption into codec, the pub/sub layer beside Core.
//
// # Sources
//
// channels_redis 4.3.0 (core.py, serializers.py, utils.py), channels 4.3.2 (layers.py), msgpack 1.2.4, redis-py 6.4 (asyncio/connection.py). The core layer's
// wire is the same from channels_redis 3.0 on; random_prefix_length and serializer_format are options since 4.2.1. Redis 5 or newer;
// from 7.0 on the Receiver needs one round trip per batch (BZMPOP) instead of two.
package channelslayer
