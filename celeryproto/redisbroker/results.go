package redisbroker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto"
)

const (
	// resultKeyPrefix is KeyValueStoreBackend.task_keyprefix (celery 5.7, backends/base.py).
	resultKeyPrefix = "celery-task-meta-"
	// defaultResultExpires is Celery's setting result_expires.
	defaultResultExpires = 24 * time.Hour
	storeBatch           = 256
	storeBytes           = 4 << 20 // keeps the script short when results are large
	storeQueue           = 1024
)

// ResultOptions of a result backend. The zero value of each field is Python's default.
//
// Celery's settings redis_retry_on_timeout, result_backend_always_retry, result_backend_max_retries and its two sleeps have no
// counterpart: storing a result goes on until the caller's context ends.
type ResultOptions struct {
	// URL is Celery's result_backend: redis://, rediss://, redis+socket://, socket:// or unix://; empty: redis://localhost:6379/0.
	// Several sentinel:// ones with ";" in between name Sentinels, port 6379 by default as in Celery, and need MasterName. User,
	// password and database of Redis come from the first.
	URL string
	// KeyPrefix is result_backend_transport_options.global_keyprefix. As Celery 5.5 and later do it, "_" is put behind it
	// unless it ends in one of ": _ - .".
	KeyPrefix string
	// Codec is result_serializer, result_compression and result_accept_content. All workers and clients need the same serializer.
	Codec celeryproto.ResultCodec
	// FailureExpires is result_failure_expires (Celery 5.7), in whole seconds: Expires for failures; Expires when 0, no limit when
	// negative.
	FailureExpires time.Duration
	// Expires is result_expires, in whole seconds; 24 h when 0, no limit when negative (Python: 0 or None).
	Expires time.Duration
	// ChordExpires is result_chord_expires, in whole seconds: how long the parts of a chord wait for the others; Expires when
	// 0, no limit when negative.
	ChordExpires time.Duration
	// ChordJoinTimeout is result_chord_join_timeout: how long a worker waits for results that a chord's header refers to; 3 s
	// when 0. Twice as long, at least 5 s, a worker's claim of a complete chord holds.
	ChordJoinTimeout time.Duration
	// ChordPublishTimeout is how long sending a chord's body may take, with all attempts: so long RenewChord prolongs the
	// claim. 21 s when 0, which Python computes from broker_connection_timeout and task_publish_retry_policy.
	ChordPublishTimeout time.Duration
	// SocketTimeout (redis_socket_timeout) bounds one reply or write, SocketConnectTimeout (redis_socket_connect_timeout) a
	// connect; 5 s when 0, where Celery waits for 120 s and for ever. The URL may say otherwise.
	SocketTimeout, SocketConnectTimeout time.Duration
	// UseTLS is redis_backend_use_ssl, nil for none. It needs ssl_cert_reqs, as in Celery; ssl_* keys of the URL come before its.
	UseTLS *TLSOptions
	// Host, Port, Username and Password are redis_host, redis_port, redis_username and redis_password: what the URL leaves open.
	// DB is redis_db, which counts without a URL only.
	Host               string
	Port, DB           int
	Username, Password string
	// CredentialProvider is redis_backend_credential_provider, a class of Python: refused unless it is empty.
	CredentialProvider string
	// ClientName (redis_client_name) is shown by CLIENT LIST.
	ClientName string
	// MaxConnections (redis_max_connections) bounds the connection pool; 10 per CPU when 0.
	MaxConnections int
	// SocketKeepalive is redis_socket_keepalive.
	SocketKeepalive Keepalive
	// HealthCheckInterval (redis_backend_health_check_interval) is how long the connection for waiting may be silent before it is
	// tested; 3 s when 0, negative: never.
	HealthCheckInterval time.Duration

	// ChordsUnordered is result_chord_ordered false of result_backend_transport_options: results of a chord's header are kept in
	// the order in which they come. All workers need the same.
	ChordsUnordered bool
	// MasterName, Sentinel and MinOtherSentinels are master_name, sentinel_kwargs and min_other_sentinels of
	// result_backend_transport_options, as in TransportOptions.
	MasterName        string
	Sentinel          SentinelOptions
	MinOtherSentinels int

	// Logger; nil discards.
	Logger *slog.Logger
	// Observer for counters: ResultStored, RoundTrip, Disconnected and Switched are used.
	Observer Observer
}

func (o ResultOptions) withDefaults() ResultOptions {
	setDefault(&o.Expires, defaultResultExpires)
	setDefault(&o.FailureExpires, o.Expires)
	setDefault(&o.ChordExpires, o.Expires)
	setDefault(&o.ChordJoinTimeout, defaultChordJoinTimeout)
	setDefault(&o.ChordPublishTimeout, defaultChordPublishTimeout)
	setDefault(&o.SocketTimeout, defaultSocketTimeout)
	setDefault(&o.SocketConnectTimeout, defaultSocketTimeout)
	setDefault(&o.HealthCheckInterval, pubsubCheck)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Results is Celery's Redis result backend. It is safe for concurrent use.
type Results struct {
	opts   ResultOptions
	prefix string // of the keys
	client *redis.Client
	obs    *Observer
	// servers know where Redis is.
	servers *servers

	outage outageLog     // runStore only
	storeC chan *storing // Store sends, runStore receives; never closed. A full one makes callers wait
	stopC  chan struct{} // closed by Close
	wg     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	pubsub *redis.PubSub            // made by the first Wait
	subs   map[string]*subscription // by channel, which is the key
}

// storing is a result on its way to Redis.
type storing struct {
	ctx    context.Context // of the caller: no attempt after its end
	key    string
	meta   []byte
	status string
	ttl    int         // seconds, 0 for no limit
	done   func(error) // called once by runStore, or by Close; must not block
}

// OpenResults checks the options and prepares a result backend. It does not connect. Close stops its goroutines.
func OpenResults(opts ResultOptions) (*Results, error) {
	opts = opts.withDefaults()
	if opts.ChordJoinTimeout < 0 || opts.ChordPublishTimeout < 0 {
		return nil, errors.New("redisbroker: result backend: negative timeout")
	}
	if err := checkCodec(opts.Codec); err != nil {
		return nil, fmt.Errorf("redisbroker: result backend: %w", err)
	}
	servers, dial, err := opts.connect()
	if err != nil {
		return nil, fmt.Errorf("result backend: %w", err)
	}
	r := &Results{
		opts: opts, prefix: resultPrefix(opts.KeyPrefix), client: redis.NewClient(dial), servers: servers, obs: &opts.Observer,
		storeC: make(chan *storing, storeQueue), stopC: make(chan struct{}), subs: make(map[string]*subscription),
		outage: outageLog{logger: opts.Logger, what: "storing results"},
	}
	r.wg.Go(r.runStore)
	r.wg.Go(r.watchServers)
	return r, nil
}

// resultPrefix is what stands before the task id (RedisBackend._add_global_keyprefix of Celery 5.5).
func resultPrefix(global string) string {
	if global != "" && !strings.ContainsAny(global[len(global)-1:], ":_-.") {
		global += "_"
	}
	return global + resultKeyPrefix
}

// Key is the key, and channel, of a task's result.
func (r *Results) Key(taskID string) string { return r.prefix + taskID }

// Ping asks Redis for a sign of life.
func (r *Results) Ping(ctx context.Context) error { return opError("ping", r.client.Ping(ctx).Err()) }

// Close stops everything; calls in progress return ErrClosed.
func (r *Results) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	close(r.stopC)
	var err error
	if r.pubsub != nil {
		err = r.pubsub.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
	return opError("close", errors.Join(err, r.client.Close()))
}

// Store stores a result and tells those who wait for it. A stored SUCCESS is final: another result is not stored, without
// an error, as in Celery. It tries until Redis has answered or ctx ends. Calls of many goroutines share round trips.
//
// With another serializer than JSON, or compressed, looking and storing are two steps, as in Celery.
func (r *Results) Store(ctx context.Context, m *celeryproto.ResultMeta) error {
	s, err := r.storing(ctx, m)
	if err != nil {
		return err
	}
	resultC := make(chan error, 1) // runStore must not wait for a caller that gave up
	s.done = func(err error) { resultC <- err }
	if err := r.submit(&s); err != nil {
		return err
	}
	select {
	case err := <-resultC:
		return err
	case <-r.stopC:
		return ErrClosed
	case <-ctx.Done():
		return opError("store result", context.Cause(ctx))
	}
}

// StoreAsync is Store that returns once the result is queued. done is called once with the outcome, by a goroutine that must not be
// held up; not when StoreAsync itself returns an error: m cannot be encoded, ctx has ended, or Close was called.
func (r *Results) StoreAsync(ctx context.Context, m *celeryproto.ResultMeta, done func(error)) error {
	s, err := r.storing(ctx, m)
	if err != nil {
		return err
	}
	s.done = done
	return r.submit(&s)
}

// storing encodes a result.
func (r *Results) storing(ctx context.Context, m *celeryproto.ResultMeta) (storing, error) {
	if m.TaskID == "" {
		return storing{}, errors.New("redisbroker: store result: no task id")
	}
	meta, err := r.opts.Codec.Append(nil, m)
	if err != nil {
		return storing{}, fmt.Errorf("redisbroker: store result: %w", err)
	}
	expires := r.opts.Expires
	if m.Status == celeryproto.StatusFailure {
		expires = r.opts.FailureExpires
	}
	return storing{ctx: ctx, key: r.Key(m.TaskID), meta: meta, status: m.Status, ttl: seconds(expires)}, nil
}

// isOpaque tells whether scripts cannot see what state a stored result has.
func (r *Results) isOpaque() bool {
	c := &r.opts.Codec
	return c.Compression != "" || c.Serializer != "" && c.Serializer != celeryproto.SerializerJSON && c.Serializer != celeryproto.ContentTypeJSON
}

// keepFinal takes out the results whose tasks have a SUCCESS already, where the script does not see that. As in Celery, nothing
// keeps somebody else from storing one in between.
func (r *Results) keepFinal(ctx context.Context, batch []*storing) ([]*storing, error) {
	keys := make([]string, len(batch))
	for i, s := range batch {
		keys[i] = s.key
	}
	old, err := r.client.MGet(ctx, keys...).Result()
	if err != nil {
		return batch, err
	}
	wanted := make([]*storing, 0, len(batch))
	for i, s := range batch {
		text, there := old[i].(string)
		if there {
			if m, err := r.decodeMeta([]byte(text)); err == nil && m.Status == celeryproto.StatusSuccess {
				r.obs.resultStored(s.status, true)
				s.done(nil)
				continue
			}
		}
		wanted = append(wanted, s)
	}
	return wanted, nil
}

// submit queues a result; its done function will be called, unless submit returns an error or Close comes first.
func (r *Results) submit(s *storing) error {
	select {
	case <-r.stopC: // first, since the select below chooses at random
		return ErrClosed
	default:
	}
	select {
	case r.storeC <- s:
		return nil
	case <-r.stopC:
		return ErrClosed
	case <-s.ctx.Done():
		return opError("store result", context.Cause(s.ctx))
	}
}

// runStore stores until Close.
func (r *Results) runStore() {
	for {
		select {
		case <-r.stopC:
			return
		case first := <-r.storeC:
			r.storeAll(r.gather(first))
		}
	}
}

func (r *Results) gather(first *storing) []*storing {
	batch := []*storing{first}
	size := len(first.meta)
	for len(batch) < storeBatch && size < storeBytes {
		select {
		case s := <-r.storeC:
			batch = append(batch, s)
			size += len(s.meta)
		default:
			return batch
		}
	}
	return batch
}

// storeAll tries until each item is stored or its caller has gone. Storing is idempotent, so any failure may be repeated.
func (r *Results) storeAll(batch []*storing) {
	var pause backoff
	for {
		wanted := batch[:0]
		for _, s := range batch {
			if s.ctx.Err() != nil {
				s.done(opError("store result", context.Cause(s.ctx)))
				continue
			}
			wanted = append(wanted, s)
		}
		if len(wanted) == 0 {
			return
		}
		if batch = r.storeOnce(wanted); len(batch) == 0 {
			r.outage.worked()
			return
		}
		timer := time.NewTimer(pause.pause())
		select {
		case <-timer.C:
		case <-r.stopC:
			timer.Stop()
			for _, s := range batch {
				s.done(ErrClosed)
			}
			return
		}
	}
}

// storeOnce is one round trip. It answers what is over and returns what to try again.
func (r *Results) storeOnce(batch []*storing) (again []*storing) {
	start := time.Now()
	ctx := context.WithoutCancel(batch[0].ctx) // the socket timeout bounds it
	if r.isOpaque() {
		wanted, err := r.keepFinal(ctx, batch)
		if err != nil && Retryable(err) {
			r.obs.disconnected("store", err)
			r.outage.failed(err)
			return batch
		}
		if batch = wanted; len(batch) == 0 {
			return nil
		}
	}
	keys, args := make([]string, len(batch)), make([]any, 0, 2*len(batch))
	for i, s := range batch {
		keys[i], args = s.key, append(args, s.ttl, s.meta)
	}
	replies, err := storeScript.Run(ctx, r.client, keys, args...).Slice()
	if err == nil && len(replies) != len(batch) {
		err = fmt.Errorf("store script: %d replies to %d results", len(replies), len(batch))
	}
	if err == nil {
		r.obs.roundTrip("store", len(batch), start)
	}
	for i, s := range batch {
		err, kept := err, false
		if err == nil {
			kept, err = stored(replies[i])
		}
		switch {
		case err == nil:
			r.obs.resultStored(s.status, kept)
			s.done(nil)
		case Retryable(err):
			r.obs.disconnected("store", err)
			r.outage.failed(err)
			r.servers.Answered(err)
			again = append(again, s)
		default:
			s.done(opError("store result", err))
		}
	}
	return again
}

// stored reads what store.lua says of one result.
func stored(reply any) (kept bool, err error) {
	switch reply := reply.(type) {
	case int64:
		return reply == 0, nil
	case string:
		return false, replyError(reply)
	default:
		return false, fmt.Errorf("store script: reply of type %T", reply)
	}
}

// Get reads a task's result: ErrNoResult when there is none (state PENDING). A STARTED or RETRY is a result too.
func (r *Results) Get(ctx context.Context, taskID string) (*celeryproto.ResultMeta, error) {
	b, err := r.client.Get(ctx, r.Key(taskID)).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, ErrNoResult
	}
	if err != nil {
		return nil, opError("get result", err)
	}
	return r.decodeMeta(b)
}
