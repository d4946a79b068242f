// Package redisbroker is kombu's Redis transport and Celery's Redis result backend: it publishes envelopes to queues,
// consumes them, broadcasts and replies, and stores and awaits results, so that Go and Python programs share one broker.
//
// # Where a message is
//
//	           Publish, Publisher                 take.lua                       Ack
//	producer ───────LPUSH──────▶ queue, queue·3 … ────────▶ unacked + its index ─────▶ gone
//	                              ▲    ▲                        │   │   │
//	                              │    └── RPUSH, next ─────────┘   │   └─ DeadLetter ─▶ dfws:dead:<queue>
//	                              └─────── LPUSH, last ─────────────┘
//	                                       Restore, the end of the consumer, an overdue score / Requeue, Reject(true)
//
// Each arrow is one script or command, so a message is in one place whatever process dies. In Python a message is, between
// BRPOP and the following ZADD and HSET, in the memory of the worker only.
//
// # Guarantees
//
//   - Publish: at least once, as in Celery; an attempt without an answer is repeated. Publisher: once and in order, while it
//     lives and Redis keeps its data. An entry that it gives up at its deadline may have been published.
//   - Consume: at least once. A delivery is acked, requeued, dead-lettered or restored; if its process dies, any Python worker
//     or Consumer restores it after the visibility timeout, as it restores theirs.
//   - A delivery that is held stays ours however long it takes: its score is refreshed three times per visibility timeout.
//   - A delivery that is no longer ours is never touched: settling compares the score, which is unique to a take, so a late ack
//     does not remove the record of the next holder (in Python it does). The caller gets ErrLost, and it is counted.
//   - The reply of a take or settle that gets lost with its connection is asked for again; nothing is stranded until the
//     visibility timeout, nothing is done twice.
//   - Chords: a part that is returned twice counts once; one worker gets a complete chord, Celery's or ours, and another one
//     if that dies. All of it is repeated until Redis answers, without counting twice.
//   - A consumer holds at most Prefetch deliveries, beside up to MaxDelayed that only wait for Requeue's delay.
//   - A delivery requeued with a rest is left to others: until the rest is over the consumer takes nothing from that queue.
//   - A process that died while it restored stops nobody: its lock is short, and the lock of a dead Python process, five minutes
//     long, is passed over after a quarter of one.
//   - Queues are served in kombu's order: strict priority steps, within a step by queue_order_strategy.
//   - What is no envelope is delivered once, with DecodeErr; it is held in a set of our own, because in kombu's set it would stop
//     the restore of Python workers. Missing delivery tags and delivery infos are generated.
//   - PublishFanout, and what a Subscriber receives: at most once for each subscriber, and only while it is connected. It
//     subscribes again by itself and tells of each Gap; what its handler is too slow for is dropped and counted.
//   - Reply: at least once into the client's list; ReplyQueue: at most once out of it.
//   - All of this goes on by itself after Redis was restarted, paused or out of reach. If Redis loses its data, what it lost
//     is lost: deliveries held then end with ErrLost.
//
// Redis 6.2 or later is needed, as for kombu 5.7. Redis Cluster is not known to kombu.
//
// # Which Redis
//
//	URL                        server                         on failure
//	redis://h, unix:///s …     this one                       connect again
//	redis://a;redis://b        the one in use                 the next one, and so on; it stays in use
//	sentinel://a;sentinel://b  the master that Sentinel names  ask again, each Sentinel in turn
//
// All connections of a Broker or Results lead to one server: when another one is chosen, those to the old one are closed. In a
// list, and with Sentinel, a server that is a replica is never used. Whatever runs (Consumer, Publisher, Subscriber, ReplyQueue,
// Results) listens to a Sentinel too, and leaves the old master when a new one is announced. Replication is asynchronous: what the
// old master took and had not passed on is lost with it, whatever its clients do; min-replicas-to-write bounds that.
//
// # Clock
//
// Scores and the comparison of overdue ones use the clock of Redis (TIME). Python uses its own: the clocks of the Redis server
// and of Python workers must agree to within a fraction of the visibility timeout.
//
// # Waiting
//
// An idle consumer has one connection for each list (queue × priority step, at most 64) blocked in BLMOVE list list RIGHT RIGHT
// for a second at a time: a move that changes nothing and holds nothing, but returns at once when a message arrives. Then
// take.lua runs. This costs one command per list and second, and the delay between publishing and delivery is two round
// trips. Lists beyond the 64th are looked at every second. Nothing waits while the consumer is busy or full.
//
// Redis serves the clients blocked on a list in the order in which they blocked. A Python worker blocked in BRPOP therefore
// gets a message whether or not one of our moves is served before it. But when several messages come at once it gets the first
// only, and take.lua has the others before its next BRPOP. So a consumer that gives back what it cannot use would take it
// again and again: with RequeueOptions.Rest it neither takes from the queue nor waits on it for a while. The rest is that of
// one consumer; others that share the queue go on.
//
// # Keys
//
// All with the global key prefix in front.
//
//	<queue>, <queue>·3, ·6, ·9       list     messages; · is the separator 06 16
//	unacked, unacked_index           hash, zset  delivery tag → [envelope, exchange, routing key]; time taken or refreshed. For an
//	                                          exchange named as the routing key: "" and the queue it was taken from
//	unacked_mutex                    string   lock of whoever restores
//	_kombu.binding.<exchange>        set      routing key · pattern · queue; written by publishing and Bind, read by restoring,
//	                                          PublishExchange and Reply
//	_kombu.binding_permanent.<ex>    set      the same without queues that expire, kombu 5.7
//	_kombu.binding_deadlines         zset     exchange → time (ms) from which its bindings may be swept, kombu 5.7
//	<oid>.reply.celery.pidbox        list     replies for a ReplyQueue; 10 minutes after the last of ours
//	/<db>.<exchange>[/<routing key>] channel  fanout exchanges: celery.pidbox, celeryev
//	celery-task-meta-<id>            string   result, and the channel it is published on
//	celery-taskset-meta-<group>      string   saved group, or the header of a chord that has groups among its results
//	  the same with .s .t .j .d .c   various  chord: size, its correction, parts, parts counted, who sends the body or "done"
//	dfws:dead:<queue>                list     dead letters, newest first: {"reason","queue","at","envelope"}; kept for ever
//	dfws:held, dfws:held_index       hash, zset  as unacked, for what is no envelope
//	dfws:take:<consumer>             string   the last take; visibility timeout
//	dfws:publisher:<publisher>       string   number of the last batch; 1 hour
//
// # Goroutines
//
//	goroutine            owner               number          stops when
//	take loop            Consumer.Run        its caller      ctx ends
//	handing over         Consumer.Run        1               the take loop has ended
//	waiter               Consumer.Run        1 per list      its client is closed, after the take loop
//	restore loop         Consumer.Run        1               ctx ends
//	settler              Consumer.Run        1               everything is settled or restored
//	refresher            Consumer.Run        1               with the settler
//	delayed requeues     Consumer.Run        1               with the settler
//	publishing           Publisher.Run       its caller      ctx ended and the queue is drained
//	handler              Subscriber.Run      its caller      ctx ends
//	receiving, bindings  Subscriber.Run      1, 1            ctx ends
//	popping replies      ReplyQueue.Run      its caller, 1   ctx ends
//	Sentinel watch       each Run, Results   1               with Sentinel only: ctx ends; Results.Close
//	storing              OpenResults         1               Results.Close
//	receiving results    first Results.Wait  1, and go-redis' two for its connection   Results.Close
//
// go-redis prints connection errors to standard error unless its SetLogger is called; that is the program's to decide.
//
// # Sources
//
// kombu 5.7 (transport/redis.py: QoS, Channel, SentinelChannel, MultiChannelPoller; transport/virtual/; pidbox.py; connection.py;
// utils/url.py; utils/scheduling.py), celery 5.7 (backends/redis.py, backends/base.py) and redis-py 6.4 (connection.py,
// sentinel.py). The tests compare with recordings of these versions, and talk to them.
package redisbroker
