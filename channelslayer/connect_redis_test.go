package channelslayer

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dfws/dfws/integration/redistest"
)

// openLayer opens the layer that cfg names, closed by Cleanup.
func openLayer(t testing.TB, cfg Config) RedisLayer {
	t.Helper()
	if cfg.Prefix == "" {
		cfg.Prefix = prefixOf(t)
	}
	l, err := OpenLayer(cfg)
	must(t, err)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// mustWork takes messages through every kind of connection that a layer has.
func mustWork(t *testing.T, cfg Config) {
	t.Helper()
	for _, backend := range []string{BackendCore, BackendPubSub} {
		cfg.Backend = backend
		l := openLayer(t, cfg)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		must(t, l.Ping(ctx))
		channel, err := l.NewChannel(ctx, "")
		must(t, err)
		must(t, l.GroupAdd(ctx, "g", channel))
		r := startGroupReceiver(t, l)
		must(t, r.Join(ctx, "g", "h"))
		must(t, l.GroupSend(ctx, "g", text("1")))
		if m, err := l.Receive(ctx, channel); err != nil || m["message"] != "1" {
			t.Errorf("%s: received %v, %v", backend, m, err)
		}
		must(t, l.GroupSend(ctx, "h", text("2")))
		eventually(t, "both messages", func() bool { return r.has("g:1") && r.has("h:2") })
		must(t, l.Flush(ctx))
		if err := r.stop(); err != nil {
			t.Errorf("%s: Run: %v", backend, err)
		}
	}
}

// groupReceiver is a GroupReceiver whose Run was started.
type groupReceiver struct {
	GroupReceiver
	inbasket
	stop func() error
}

func startGroupReceiver(t testing.TB, l RedisLayer) *groupReceiver {
	t.Helper()
	cfg := fastUpkeep()
	cfg.KeyPrefix = "own:" + prefixOf(t)
	r, err := l.NewGroupReceiver(cfg)
	must(t, err)
	run := &groupReceiver{GroupReceiver: r}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var g errgroup.Group
	g.Go(func() error { return r.Run(ctx, run.deliver) })
	run.stop = func() error {
		cancel()
		return g.Wait()
	}
	t.Cleanup(func() {
		if err := run.stop(); err != nil {
			t.Logf("Run: %v", err)
		}
	})
	return run
}

// Every way of saying where Redis is and how it is reached. The hosts of one layer may be of different kinds.
func TestConnect(t *testing.T) {
	t.Parallel()
	s := redistest.StartWith(t, redistest.Options{TLS: true, Socket: true, Args: []string{"--unixsocketperm", "700"}})
	c := s.Client(t)
	must(t, c.Do(t.Context(), "ACL", "SETUSER", "app", "on", ">p@ss/1", "~*", "&*", "+@all").Err())
	verified := "?ssl_cert_reqs=required&ssl_ca_certs=" + s.Certs.CA
	client := "&ssl_certfile=" + s.Certs.Client + "&ssl_keyfile=" + s.Certs.ClientKey
	for name, hosts := range map[string][]Host{
		"database":          {{URL: s.URLFor(3)}},
		"user":              {{URL: "redis://app:p%40ss%2F1@" + s.Addr + "/1"}},
		"user in the query": {{URL: "redis://" + s.Addr + "?username=app&password=p%40ss%2F1"}},
		"socket":            {{URL: "unix://app:p%40ss%2F1@" + s.Socket + "?db=2"}},
		"tls":               {{URL: "rediss://" + s.TLSAddr + "/1" + verified}},
		"tls by options":    {{URL: "rediss://" + s.TLSAddr, TLS: &TLSOptions{CACerts: s.Certs.CA}}},
		"tls, certificate":  {{URL: "rediss://app:p%40ss%2F1@" + s.TLSAddr + verified + client}},
		"tls, unverified":   {{URL: "rediss://" + s.TLSAddr + "?ssl_cert_reqs=none"}},
		"mixed":             {{URL: s.URLFor(4)}, {URL: "unix://" + s.Socket + "?db=5"}, {URL: "rediss://" + s.TLSAddr + "/6" + verified}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mustWork(t, Config{Hosts: hosts})
		})
	}
}

// These rights suffice: the keys, channels and commands of the layer, and of the receivers beside it.
func TestACL(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := s.Client(t)
	must(t, c.Do(t.Context(), "ACL", "SETUSER", "layer", "on", ">pw", "resetkeys", "~acl*", "~own:*", "resetchannels", "&acl*", "-@all",
		"+@connection", "+@sortedset", "+@set", "+@string", "+@scripting", "+@pubsub", "+expire", "+del", "+exists", "+keys", "+role").Err())
	cfg := Config{Hosts: []Host{{URL: "redis://layer:pw@" + s.Addr}}, Prefix: "acl"}
	mustWork(t, cfg)
	cfg.Prefix = "other"
	l := openLayer(t, cfg)
	if err := l.GroupSend(t.Context(), "g", text("x")); err == nil || !strings.Contains(err.Error(), "NOPERM") || Retryable(err) {
		t.Errorf("a key that the account may not touch: %v", err)
	}
	cfg.Backend = BackendPubSub
	p := openLayer(t, cfg)
	if _, err := p.NewChannel(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("a channel that the account may not subscribe to: %v", err)
	}
}

// What cannot work is said at once, and is not worth a retry; passwords are not in the error.
func TestConnectRefused(t *testing.T) {
	t.Parallel()
	s := redistest.StartWith(t, redistest.Options{TLS: true, Args: []string{"--requirepass", "s3cret"}})
	for name, w := range map[string]struct{ url, words string }{
		"password":    {"redis://:wr0ng@" + s.Addr, "WRONGPASS"},
		"no password": {"redis://" + s.Addr, "NOAUTH"},
		"stranger":    {"rediss://:wr0ng@" + s.TLSAddr + "?ssl_ca_certs=" + s.Certs.Stranger, "unknown authority"},
	} {
		l := openLayer(t, Config{Hosts: []Host{{URL: w.url}}})
		err := l.Ping(t.Context())
		if err == nil || !strings.Contains(err.Error(), w.words) || strings.Contains(err.Error(), "wr0ng") || Retryable(err) {
			t.Errorf("%s: %v, retryable %t", name, err, Retryable(err))
		}
	}
	l := openLayer(t, Config{Hosts: []Host{{URL: "rediss://:s3cret@" + s.TLSAddr + "?ssl_check_hostname=false&ssl_ca_certs=" + s.Certs.Stranger}}})
	if _, ok := errors.AsType[x509.UnknownAuthorityError](l.Ping(t.Context())); !ok {
		t.Errorf("any host name, but not any authority: %v", l.Ping(t.Context()))
	}
}

// A failover by Sentinel: both layers go on with the new master, with everything that was joined.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	replica := redistest.StartWith(t, redistest.Options{ReplicaOf: master})
	sentinel := redistest.StartWith(t, redistest.Options{Sentinel: &redistest.Sentinel{MasterName: "mymaster", Master: master}})
	sentinel.AwaitReplica("mymaster")
	host := Host{Sentinels: []string{"127.0.0.1:1", sentinel.Addr}, MasterName: "mymaster", URL: "redis:///1"}
	var refreshed atomic.Int64
	layers := map[string]RedisLayer{}
	receivers := map[string]*groupReceiver{}
	for name, backend := range map[string]string{"core": BackendCore, "pubsub": BackendPubSub} {
		layers[name] = openLayer(t, Config{Backend: backend, Hosts: []Host{host}, Observer: Observer{Refreshed: func(RefreshCause, int) { refreshed.Add(1) }}})
		receivers[name] = startGroupReceiver(t, layers[name])
		must(t, receivers[name].Join(t.Context(), "g"))
		must(t, layers[name].GroupSend(t.Context(), "g", text("before")))
		eventually(t, name+": the message before", func() bool { return receivers[name].has("g:before") })
	}
	master.Kill()
	for name, l := range layers {
		deadline := time.Now().Add(60 * time.Second)
		for n := 0; !receivers[name].has("g:after"); n++ {
			if time.Now().After(deadline) {
				t.Fatalf("%s: nothing arrives after the failover; the replica is %s", name, replica.Addr)
			}
			if err := l.GroupSend(t.Context(), "g", text("after")); err != nil && !Retryable(err) {
				t.Errorf("%s: %v", name, err)
			}
			<-time.After(50 * time.Millisecond)
		}
	}
	eventually(t, "one refresh at the start, and one after the failover at least", func() bool { return refreshed.Load() >= 2 })
}
