// Package redisconn knows how a Redis is reached: one server, a failover list of which one is in use at a time, or whatever Sentinels
// say; over TCP or a unix socket, with TLS by redis-py's names of its options. It reads no URLs: each of the programs that share a Redis
// with Python writes them in another dialect (see redisbroker and channelslayer).
//
// A Servers makes the options of go-redis clients, whose connections all lead to one server and move together. A Wire speaks RESP for
// what go-redis has no place for: Sentinels, and subscriptions.
//
// Nothing here has a goroutine of its own; Watch is for one of the caller's.
//
// Sources: redis-py 6.4 (connection.py, sentinel.py), kombu 5.7 (transport/redis.py).
package redisconn
