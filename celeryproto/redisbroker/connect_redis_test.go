package redisbroker_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/integration/redistest"
)

// mustWork takes a message, a fanout message and a result through Redis.
func mustWork(t testing.TB, opts redisbroker.Options, results redisbroker.ResultOptions) {
	t.Helper()
	opts.GlobalKeyPrefix, results.KeyPrefix = ownPrefix(t), ownPrefix(t)
	b, err := redisbroker.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	r, err := redisbroker.OpenResults(results)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	mustPublish(t, b, "q", 1)
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 2})
	mustAck(t, consumer.next(t))
	mustPublish(t, b, "q", 2) // wakes a waiter, which has connections of its own
	mustAck(t, consumer.next(t))
	consumer.mustStop(t)
	sub := mustSubscribe(t, b, redisbroker.SubscriberConfig{Queues: []redisbroker.FanoutQueue{{Exchange: "e"}}})
	mustPublishFanout(t, b, "e", "", 1)
	sub.mustGet(t, "1")
	if err := sub.stop(); err != nil {
		t.Error(err)
	}
	mustStoreAndWait(t, r, "id")
}

func mustStoreAndWait(t testing.TB, r *redisbroker.Results, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	got := make(chan error, 1)
	go func() { // ends with the context at the latest
		_, err := r.Wait(ctx, id)
		got <- err
	}()
	if err := r.Store(ctx, &celeryproto.ResultMeta{Status: celeryproto.StatusSuccess, TaskID: id}); err != nil {
		t.Errorf("store: %v", err)
	}
	if err := await(t, "result", got); err != nil {
		t.Errorf("wait: %v", err)
	}
}

// Every way of saying where Redis is and how it is reached.
func TestConnect(t *testing.T) {
	t.Parallel()
	s := redistest.StartWith(t, redistest.Options{TLS: true, Socket: true, Args: []string{"--unixsocketperm", "700"}})
	c := s.Client(t)
	if err := c.Do(t.Context(), "ACL", "SETUSER", "app", "on", ">p@ss/1", "~*", "&*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	const user = "app:p%40ss%2F1@"
	_, tlsPort, _ := net.SplitHostPort(s.TLSAddr)
	verified := "ssl_cert_reqs=required&ssl_ca_certs=" + s.Certs.CA
	client := "&ssl_certfile=" + s.Certs.Client + "&ssl_keyfile=" + s.Certs.ClientKey
	useTLS := &redisbroker.TLSOptions{CertReqs: redisbroker.CertRequired, CACerts: s.Certs.CA}
	for name, w := range map[string]struct {
		broker  redisbroker.Options
		results redisbroker.ResultOptions
	}{
		"database": {redisbroker.Options{URL: s.URLFor(3)}, redisbroker.ResultOptions{URL: s.URLFor(4)}},
		"user":     {redisbroker.Options{URL: "redis://" + user + s.Addr + "/1"}, redisbroker.ResultOptions{URL: "redis://" + user + s.Addr}},
		"socket": {
			redisbroker.Options{URL: "redis+socket://" + user + s.Socket + "?virtual_host=2"},
			redisbroker.ResultOptions{URL: "unix://" + s.Socket + "?db=2"},
		},
		"tls": {
			redisbroker.Options{URL: "rediss://" + s.TLSAddr + "/1?" + verified},
			redisbroker.ResultOptions{URL: "rediss://localhost:" + tlsPort + "?" + verified},
		},
		"tls with user and certificate": {
			redisbroker.Options{URL: "rediss://" + user + s.TLSAddr + "?" + verified + client},
			redisbroker.ResultOptions{URL: "rediss://" + user + s.TLSAddr + "/3?" + verified + client},
		},
		"tls not verified": {
			redisbroker.Options{URL: "rediss://" + s.TLSAddr}, redisbroker.ResultOptions{URL: "rediss://" + s.TLSAddr + "?ssl_cert_reqs=none"},
		},
		"tls by settings": {
			redisbroker.Options{URL: "redis://" + s.TLSAddr, UseTLS: useTLS}, redisbroker.ResultOptions{URL: "redis://" + s.TLSAddr, UseTLS: useTLS},
		},
		"by settings": {
			redisbroker.Options{URL: s.URL, TransportOptions: redisbroker.TransportOptions{
				ClientName: "broker", MaxConnections: 4, SocketKeepalive: redisbroker.Keepalive{Idle: time.Minute, Interval: time.Second, Count: 2},
			}},
			redisbroker.ResultOptions{URL: "redis", Host: "127.0.0.1", Port: mustPort(t, s.Addr), DB: 5, Username: "app", Password: "p@ss/1", MaxConnections: 2},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mustWork(t, w.broker, w.results)
		})
	}
}

func mustPort(t testing.TB, addr string) (port int) {
	t.Helper()
	if _, err := fmt.Sscanf(addr[strings.LastIndex(addr, ":")+1:], "%d", &port); err != nil {
		t.Fatal(err)
	}
	return port
}

// What cannot work is said at once, and is not worth a retry; passwords are not in the error.
func TestConnectRefused(t *testing.T) {
	t.Parallel()
	s := redistest.StartWith(t, redistest.Options{TLS: true, Args: []string{"--requirepass", "s3cret"}})
	for name, w := range map[string]struct{ url, words string }{
		"password":           {"redis://:wr0ng@" + s.Addr, "WRONGPASS"},
		"no password":        {"redis://" + s.Addr, "NOAUTH"},
		"stranger":           {"rediss://:wr0ng@" + s.TLSAddr + "?ssl_cert_reqs=required&ssl_ca_certs=" + s.Certs.Stranger, "unknown authority"},
		"password in a list": {"redis://:wr0ng@" + s.Addr + ";redis://:wr0ng@" + s.Addr + "/1", "WRONGPASS"},
	} {
		b := mustOpen(t, s, redisbroker.Options{URL: w.url})
		err := b.Ping(t.Context())
		if err == nil || !strings.Contains(err.Error(), w.words) || strings.Contains(err.Error(), "wr0ng") || redisbroker.Retryable(err) {
			t.Errorf("%s: %v, retryable %v", name, err, redisbroker.Retryable(err))
		}
	}
	if _, err := redisbroker.Open(redisbroker.Options{URL: "rediss://h?ssl_ca_certs=/nonexistent"}); err == nil || !strings.Contains(err.Error(), "ssl_ca_certs") {
		t.Errorf("missing file: %v", err)
	}
	b := mustOpen(t, s, redisbroker.Options{URL: "rediss://:s3cret@" + s.TLSAddr + "?ssl_cert_reqs=required&ssl_check_hostname=false&ssl_ca_certs=" + s.Certs.Stranger})
	if _, ok := errors.AsType[x509.UnknownAuthorityError](b.Ping(t.Context())); !ok {
		t.Errorf("any host name, but not any authority: %v", b.Ping(t.Context()))
	}
}

// Two servers in a list: work moves to the other one with everything that belongs to it, and stays there.
func TestFailoverList(t *testing.T) {
	t.Parallel()
	first, second := redistest.Start(t), redistest.Start(t)
	switched := make(chan string, 100)
	b := mustOpen(t, first, redisbroker.Options{
		URL:      first.URLFor(1) + ";" + second.URLFor(2),
		Observer: redisbroker.Observer{Switched: func(addr string) { switched <- addr }},
	})
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 5})
	sub := mustSubscribe(t, b, redisbroker.SubscriberConfig{Queues: []redisbroker.FanoutQueue{{Exchange: "e"}}})
	n := 0
	work := func(s *redistest.Server, db int) {
		t.Helper()
		n++
		if err := b.Publish(t.Context(), redisbroker.Message{Queue: "q", Envelope: envelope("q", n, 0)}); err != nil {
			t.Fatal(err)
		}
		if d := consumer.next(t); body(d) != fmt.Sprint(n) {
			t.Errorf("got %s, want %d", body(d), n)
		} else {
			mustAck(t, d)
		}
		// The channel has the number of the database.
		c := s.Client(t)
		eventually(t, "the subscription is there", func() bool {
			return c.PubSubNumPat(t.Context()).Val() == 1 && c.Publish(t.Context(), fmt.Sprintf("/%d.e", db), busEnvelope("e", "", n)).Val() == 1
		})
		sub.mustGet(t, fmt.Sprint(n))
	}
	work(first, 1)
	first.Stop()
	work(second, 2)
	if addr := await(t, "switch", switched); addr != second.Addr {
		t.Errorf("switched to %s", addr)
	}
	if g := await(t, "gap", sub.gapC); g.Err == nil {
		t.Errorf("%+v", g)
	}
	first.StartAgain()
	work(second, 2) // no way back while it answers
	second.Stop()
	work(first, 1)
	if addr := await(t, "switch", switched); addr != first.Addr {
		t.Errorf("switched to %s", addr)
	}
}

// A server that takes no writes is none.
func TestFailoverListSkipsReplica(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	replica := redistest.StartWith(t, redistest.Options{ReplicaOf: master})
	b := mustOpen(t, master, redisbroker.Options{URL: replica.URL + ";" + master.URL})
	mustPublish(t, b, "q", 1)
	if got := listOf(t, master.Client(t), "q"); len(got) != 1 {
		t.Errorf("%q", got)
	}
	only := mustOpen(t, master, redisbroker.Options{URL: replica.URL + ";" + replica.URLFor(1)})
	if err := only.Ping(t.Context()); err == nil || !redisbroker.Retryable(err) || !strings.Contains(err.Error(), "not a master") {
		t.Errorf("no master at all: %v", err)
	}
}

// A master that became a replica is left, although its connections stay and scripts hide the error.
func TestReadOnlyIsLeft(t *testing.T) {
	t.Parallel()
	first, second := redistest.Start(t), redistest.Start(t)
	b := mustOpen(t, first, redisbroker.Options{URL: first.URL + ";" + second.URL})
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 5})
	mustPublish(t, b, "q", 1)
	d := consumer.next(t)
	host, port, _ := net.SplitHostPort(second.Addr)
	if err := first.Client(t).Do(t.Context(), "REPLICAOF", host, port).Err(); err != nil {
		t.Fatal(err)
	}
	// What it held is not on the other server. Where the connection was closed in between, it cannot be told what became of it.
	if err := d.Requeue(t.Context(), nil, redisbroker.RequeueOptions{}); err != nil && !errors.Is(err, redisbroker.ErrLost) {
		t.Errorf("requeue: %v", err)
	}
	mustPublish(t, b, "q", 2)
	if d := consumer.next(t); body(d) != "2" {
		t.Errorf("got %s", body(d))
	}
	first.Kill() // a master waits for its replicas before it ends
}

// sentinelled are a master with replicas, and the Sentinel that watches them.
type sentinelled struct {
	master, sentinel *redistest.Server
	replicas         []*redistest.Server
}

const masterName = "m"

func mustSentinel(t testing.TB, replicas int, opts redistest.Options) *sentinelled {
	t.Helper()
	s := &sentinelled{master: redistest.Start(t)}
	for range replicas {
		s.replicas = append(s.replicas, redistest.StartWith(t, redistest.Options{ReplicaOf: s.master}))
	}
	opts.Sentinel = &redistest.Sentinel{MasterName: masterName, Master: s.master}
	s.sentinel = redistest.StartWith(t, opts)
	t.Cleanup(func() { // a master waits for its replicas before it ends
		s.master.Kill()
		for _, replica := range s.replicas {
			replica.Kill()
		}
	})
	return s
}

// url names a Sentinel that is not there, and the one that is.
func (s *sentinelled) url(userAndPassword string, db int) string {
	return fmt.Sprintf("sentinel://%[1]s127.0.0.1:1/%[3]d;sentinel://%[1]s%[2]s/%[3]d", userAndPassword, s.sentinel.Addr, db)
}

func TestSentinel(t *testing.T) {
	t.Parallel()
	s := mustSentinel(t, 0, redistest.Options{})
	mustWork(t, redisbroker.Options{URL: s.url("", 2), TransportOptions: redisbroker.TransportOptions{MasterName: masterName}},
		redisbroker.ResultOptions{URL: s.url("", 0), MasterName: masterName})
	for name, o := range map[string]redisbroker.TransportOptions{
		"No such master": {MasterName: "other"}, "it sees 0 other Sentinels": {MasterName: masterName, MinOtherSentinels: 1},
	} {
		b := mustOpen(t, s.master, redisbroker.Options{URL: s.url("", 0), TransportOptions: o})
		if err := b.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), name) || !redisbroker.Retryable(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Sentinels behind TLS and a password, and a Redis behind another one.
func TestSentinelCredentials(t *testing.T) {
	t.Parallel()
	s := mustSentinel(t, 0, redistest.Options{TLS: true, Args: []string{"--requirepass", "sent1nel"}})
	c := s.master.Client(t)
	if err := c.Do(t.Context(), "ACL", "SETUSER", "app", "on", ">s3cret", "~*", "&*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	kwargs := redisbroker.SentinelOptions{
		Password: "sent1nel", TLS: &redisbroker.TLSOptions{CACerts: s.sentinel.Certs.CA}, SocketTimeout: time.Second,
	}
	url := "sentinel://app:s3cret@" + s.sentinel.TLSAddr
	mustWork(t, redisbroker.Options{URL: url, TransportOptions: redisbroker.TransportOptions{MasterName: masterName, Sentinel: kwargs}},
		redisbroker.ResultOptions{URL: url, MasterName: masterName, Sentinel: kwargs})
	for words, o := range map[string]redisbroker.SentinelOptions{
		"NOAUTH": {TLS: kwargs.TLS}, "WRONGPASS": {TLS: kwargs.TLS, Password: "x"}, "unknown authority": {TLS: &redisbroker.TLSOptions{CACerts: s.sentinel.Certs.Stranger}},
	} {
		b := mustOpen(t, s.master, redisbroker.Options{URL: url, TransportOptions: redisbroker.TransportOptions{MasterName: masterName, Sentinel: o}})
		if err := b.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", words, err)
		}
	}
}

// The master dies, later it is demoted by hand: publishing, consuming, refreshing, results and subscriptions go on by themselves,
// and what Redis had copied is not lost.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	s := mustSentinel(t, 2, redistest.Options{})
	s.sentinel.AwaitReplica(masterName)
	switched := make(chan string, 100)
	b := mustOpen(t, s.master, redisbroker.Options{
		URL: s.url("", 0), Observer: redisbroker.Observer{Switched: func(addr string) { switched <- addr }},
		TransportOptions: redisbroker.TransportOptions{
			MasterName: masterName, SentinelFanoutCompat: true, VisibilityTimeout: 6 * time.Second, UnackedRestoreInterval: 100 * time.Millisecond,
		},
	})
	r, err := redisbroker.OpenResults(redisbroker.ResultOptions{URL: s.url("", 0), MasterName: masterName})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 5})
	sub := mustSubscribe(t, b, redisbroker.SubscriberConfig{Queues: []redisbroker.FanoutQueue{{Exchange: "e", Queue: "n.e", Expires: time.Second}}})
	p, stopPublisher := mustRunPublisher(t, b, redisbroker.PublisherConfig{Deadline: time.Minute})
	for round, failOver := range []func(){
		s.master.Kill,
		func() { // what is written to the old master until it obeys is not on the new one
			s.demote(t)
			await(t, "switch", switched)
		},
	} {
		first := round * 100
		mustPublish(t, b, "q", numbers(first, first+20)...)
		held := []*redisbroker.Delivery{consumer.next(t), consumer.next(t), consumer.next(t), consumer.next(t), consumer.next(t)}
		waiting := make(chan error, 1)
		id := fmt.Sprintf("id-%d", round)
		go func() { // ends with the test's context at the latest
			_, err := r.Wait(t.Context(), id)
			waiting <- err
		}()
		eventually(t, "the replica has it all", func() bool { return s.copied(t) })
		failOver()
		done := make(chan error, 1)
		if err := p.Enqueue([]redisbroker.Message{{Queue: "q", Envelope: envelope("q", first+20, 0)}}, func(err error) { done <- err }); err != nil {
			t.Fatal(err)
		}
		if err := r.Store(t.Context(), meta(id, celeryproto.StatusSuccess, "1")); err != nil {
			t.Errorf("store: %v", err)
		}
		if err := await(t, "result", waiting); err != nil {
			t.Errorf("wait: %v", err)
		}
		if err := await(t, "published", done); err != nil {
			t.Errorf("publish: %v", err)
		}
		seen := make(map[string]bool)
		for i := range 21 {
			d := (*redisbroker.Delivery)(nil)
			if i < len(held) {
				d = held[i]
			} else {
				d = consumer.next(t)
			}
			if seen[body(d)] {
				t.Errorf("round %d: %s came twice", round, body(d))
			}
			seen[body(d)] = true
			mustAck(t, d)
		}
		for _, n := range numbers(first, first+21) {
			if !seen[fmt.Sprint(n)] {
				t.Errorf("round %d: %d is lost", round, n)
			}
		}
		if g := awaitGap(t, b, sub); g.Err == nil {
			t.Errorf("%+v", g)
		}
		mustGetAfterGap(t, b, sub, first+50)
		if round == 0 {
			await(t, "switch", switched)
			s.sentinel.AwaitReplica(masterName)
		}
	}
	if err := stopPublisher(); err != nil {
		t.Error(err)
	}
	consumer.mustStop(t)
}

func numbers(from, to int) (all []int) {
	for n := from; n < to; n++ {
		all = append(all, n)
	}
	return all
}

// mustGetAfterGap gets a message once, though it is published on two channels, and skips those of awaitGap.
func mustGetAfterGap(t testing.TB, b *redisbroker.Broker, sub *subscribed, n int) {
	t.Helper()
	mustPublishFanout(t, b, "e", "", n, n+1)
	var got []string
	for len(got) < 2 {
		if text := await(t, "message", sub.C).Envelope.Body; len(text) < len("1000000") {
			got = append(got, text)
		}
	}
	if want := []string{fmt.Sprint(n), fmt.Sprint(n + 1)}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// masterNow is the server that Sentinel names.
func (s *sentinelled) masterNow(t testing.TB) *redistest.Server {
	t.Helper()
	addr, err := s.sentinel.Client(t).Do(t.Context(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", masterName).StringSlice()
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range append(s.replicas, s.master) {
		if server.Addr == net.JoinHostPort(addr[0], addr[1]) {
			return server
		}
	}
	t.Fatalf("unknown master %q", addr)
	return nil
}

// copied reports whether the living replicas have what the master has.
func (s *sentinelled) copied(t testing.TB) bool {
	t.Helper()
	conn := s.masterNow(t).Client(t).Conn() // it is about the writes of one connection
	defer func() { _ = conn.Close() }()
	if err := conn.Set(t.Context(), "copied", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	want := conn.InfoMap(t.Context(), "replication").Item("Replication", "connected_slaves")
	n, err := conn.Wait(t.Context(), len(s.replicas), 100*time.Millisecond).Result()
	return err == nil && n > 0 && fmt.Sprint(n) == want
}

// demote lets Sentinel make another server the master.
func (s *sentinelled) demote(t testing.TB) {
	t.Helper()
	c := s.sentinel.Client(t)
	master := func() string {
		addr, err := c.Do(t.Context(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", masterName).StringSlice()
		if err != nil {
			t.Fatal(err)
		}
		return net.JoinHostPort(addr[0], addr[1])
	}
	old := master()
	eventually(t, "a failover by hand", func() bool {
		if master() != old {
			return true
		}
		// It is refused while one is under way, and not tried again when that is given up.
		_ = c.Do(t.Context(), "SENTINEL", "FAILOVER", masterName).Err()
		return false
	})
}
