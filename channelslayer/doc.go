// Package channelslayer speaks the wire of channels_redis, the Redis channel layers of Django Channels: messages between processes, to one
// channel or to all members of a group. Go and Python processes on one layer do not notice each other's language.
//
// Core and PubSub are the two layers that channels_redis has, with Python's operations; OpenLayer opens the one of Django's setting. A
// GroupReceiver is for a process with many listeners, a gateway: one member per group whatever the number of listeners, where Python has one
// per websocket.
//
// # What a core layer has in Redis
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
//	│ score: send time  │ 12 random │ {"type": "ws_message",               │
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
// send is one script, and so is group_send where Redis can do it alone (see Core.GroupSend; otherwise it takes two round trips), where
// Python needs four to six round trips. So the capacity is exact. The script of group_send computes the keys of the members: it needs one
// server rather than a cluster (as channels_redis does) and the right to use EVAL and EVALSHA.
//
// Bytes that no channel layer writes are dropped and counted by reason; nobody is disconnected and the next message is delivered. An extension
// type of msgpack is among them, although Python's unpackb would take it: packb writes none for any value that a message has.
//
// # Several hosts
//
// The servers of the option hosts form channels_redis' ring: a name's CRC-32 says which one has it. A group's members are on the server of the
// group's name, messages for a process on that of its specific channels' name up to the "!". Python's send hashes the whole name instead, so
// that with several hosts most of what it sends to a specific channel waits where Python does not look. Send of this package writes where
// Python reads, and Receive and Receiver read from all servers, so nothing is lost in either direction. General channels are on all servers in
// turn and keep no order between them.
//
// # The pub/sub layer
//
// Nothing is in Redis: a group "G" is the Redis channel "asgi__group__G", a specific channel is one of its own name, and a message is the body
// alone, without random bytes and __asgi_channel__. Redis' databases do not part two sites: their prefixes must. A PubSubReceiver holds one
// subscription per group and answers a Join when Redis has confirmed it. A lost connection is made again with all subscriptions;
// Observer.Reconnected counts that, because what was published meanwhile is lost and nobody can tell how much.
//
// # Serializers and encryption
//
// A body is msgpack or JSON, and with keys a Fernet token of it: the first key encrypts, all are tried to decrypt. A core layer refuses tokens
// that are older than expiry and ten seconds. Serializers that a site has registered in Python are refused by name (ErrUnsupported).
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
//	read              Receiver.Run       one per host                    ctx ends (within the pop in flight, which is woken)
//	maintain          Receiver.Run       one per host                    ctx ends
//	Watch             Run, subscriber    one per host with Sentinels     ctx ends
//	interrupt         Receiver.Run       one per host                    the reading has ended
//	flushLoop         Receiver           at most one per host, while     nothing is left to write; Run waits for it
//	                                     changes wait
//	inbox.read        Core               one per host and key that       nobody waits any more; Close waits for it
//	                                     Receive waits for
//	subscriber.run    PubSubReceiver.Run one per host                    ctx ends
//	                  PubSub             the same, from the first        Close, which waits for it
//	                                     channel on
//	write             subscriber         one per connection              the connection ends; run waits for it
//
// # Sources
//
// channels_redis 4.3.0 (core.py, pubsub.py, serializers.py, utils.py), channels 4.3.2 (layers.py), msgpack 1.2.4, cryptography 50.0 (fernet.py),
// redis-py 6.4 (asyncio/connection.py). The core layer's
// wire is the same from channels_redis 3.0 on; random_prefix_length and serializer_format are options since 4.2.1. Redis 5 or newer;
// from 7.0 on the Receiver needs one round trip per batch (BZMPOP) instead of two.
package channelslayer
