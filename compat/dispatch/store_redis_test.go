package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/integration/logbuffer"
	"github.com/dfws/dfws/integration/redistest"
)

// patience is how long a test waits for what happens elsewhere.
const patience = 20 * time.Second

// mustStore opens a store with the test's own key prefix.
func mustStore(tb testing.TB, server *redistest.Server) *Store {
	tb.Helper()
	store, err := OpenStore(StoreConfig{URL: compat.Secret(server.URL), KeyPrefix: tb.Name() + ":", Timeout: time.Second})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := store.Close(); err != nil {
			tb.Error(err)
		}
	})
	return store
}

// inBackground runs f until the test ends.
func inBackground(tb testing.TB, f func(context.Context) error) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := f(ctx); err != nil {
			tb.Errorf("background: %v", err)
		}
	})
	tb.Cleanup(func() { cancel(); wait.Wait() })
}

// eventually waits until ok is true.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			tb.Fatalf("not in %s: %s", patience, what)
		case <-tick.C:
		}
	}
}

func TestStoreTicket(t *testing.T) {
	t.Parallel()
	server := redistest.Shared(t)
	store, client, ctx := mustStore(t, server), server.Client(t), t.Context()
	if _, err := store.Ticket(ctx, "k"); !errors.Is(err, ErrNoTicket) {
		t.Errorf("no ticket: %v", err)
	}
	set := func(text string) {
		if err := client.Set(ctx, store.keys.ticket("k"), text, time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
	}
	set(goldenTicket())
	ticket, err := store.Ticket(ctx, "k")
	if err != nil || !ticket.Serves(Credentials{SessionCookie: "cookie"}) {
		t.Errorf("%+v, %v", ticket, err)
	}
	set("{")
	_, err = store.Ticket(ctx, "k")
	if _, ok := errors.AsType[*TicketError](err); !ok {
		t.Errorf("corrupt: %v", err)
	}
	set(strings.Repeat(" ", maxTicketBytes+2))
	_, err = store.Ticket(ctx, "k")
	if _, ok := errors.AsType[*TicketError](err); !ok {
		t.Errorf("too large: %v", err)
	}
	if err := client.SAdd(ctx, store.keys.ticket("set"), "x").Err(); err != nil {
		t.Fatal(err)
	}
	_, err = store.Ticket(ctx, "set")
	if _, ok := errors.AsType[*TicketError](err); !ok {
		t.Errorf("another type: %v", err)
	}
}

func TestStoreRegistry(t *testing.T) {
	t.Parallel()
	server := redistest.Shared(t)
	store, client, ctx := mustStore(t, server), server.Client(t), t.Context()
	if entries, faults, err := store.LoadRegistry(ctx); len(entries) != 0 || len(faults) != 0 || err != nil {
		t.Errorf("empty: %v, %v, %v", entries, faults, err)
	}
	e := golang("demo", map[string][]Handler{"s": {on("go")}})
	if err := store.PublishRegistry(ctx, e); err != nil {
		t.Fatal(err)
	}
	if err := client.HSet(ctx, store.keys.registry(), "python", "{", "go:bad", goldenEntry).Err(); err != nil {
		t.Fatal(err)
	}
	entries, faults, err := store.LoadRegistry(ctx)
	if err != nil || len(entries) != 1 || entries[0].Signals["s"][0].Publisher != "go:demo" || len(faults) != 2 {
		t.Errorf("%v, %v, %v", entries, faults, err)
	}
	if err := store.PublishRegistry(ctx, &Entry{Publisher: "go:x", Language: LanguagePython}); err == nil {
		t.Error("a wrong entry was published")
	}
}

// TestRegistryRun: changes by others arrive, bad entries keep their last good version, a restart of Redis is survived.
func TestRegistryRun(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	store, client, ctx := mustStore(t, server), server.Client(t), t.Context()
	var log logbuffer.Buffer
	registry := NewRegistry(RegistryConfig{Store: store, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	inBackground(t, registry.Run)
	eventually(t, "ready", registry.Ready)

	if err := client.HSet(ctx, store.keys.registry(), "python", goldenEntry).Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.Publish(ctx, store.keys.registryChanged(), "python").Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the Python handlers", func() bool { return len(registry.Lookup("s")) == 1 && registry.HasPython() })

	if err := client.HSet(ctx, store.keys.registry(), "python", "{").Err(); err != nil {
		t.Fatal(err)
	}
	if err := store.PublishRegistry(ctx, golang("demo", map[string][]Handler{"s": {on("go")}})); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the Go handler beside the old Python one", func() bool { return len(registry.Lookup("s")) == 2 })
	if !strings.Contains(log.String(), `entry \"python\"`) {
		t.Errorf("the bad entry is not in the log:\n%s", log.String())
	}

	server.Stop()
	eventually(t, "Redis is away", func() bool { return registry.Refresh(ctx) != nil })
	if len(registry.Lookup("s")) != 2 {
		t.Error("the registry was forgotten while Redis was away")
	}
	server.StartAgain()
	eventually(t, "the Go handler of the new Redis", func() bool {
		err := store.PublishRegistry(ctx, golang("later", map[string][]Handler{"later": {on("go")}}))
		return err == nil
	})
	eventually(t, "the change after the restart", func() bool { return len(registry.Lookup("later")) == 1 })
	if registry.Lookup("s") != nil {
		t.Error("handlers that are in Redis no more")
	}
}

func TestWatchRevocations(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, ctx := server.Client(t), t.Context()
	bad := make(chan struct{}, 10)
	store := mustStore(t, server)
	store.observer.BadRevocation = func() { bad <- struct{}{} }
	got := make(chan Revocation, 100)
	inBackground(t, func(ctx context.Context) error {
		return store.WatchRevocations(ctx, func(r Revocation) { got <- r })
	})
	receive := func() Revocation {
		t.Helper()
		select {
		case r := <-got:
			return r
		case <-time.After(patience):
			t.Fatal("no revocation")
			return Revocation{}
		}
	}
	publish := func(text string) {
		t.Helper()
		if err := client.Publish(ctx, store.keys.revoked(), text).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if r := receive(); r != (Revocation{Gap: true}) {
		t.Errorf("at the start: %+v", r)
	}
	publish("{")
	publish(`{"schema": 1, "session": "h"}`)
	if r := receive(); r != (Revocation{Session: "h"}) {
		t.Errorf("%+v", r)
	}
	<-bad
	server.Restart()
	if r := receive(); r != (Revocation{Gap: true}) {
		t.Errorf("after a restart: %+v", r)
	}
	publish(`{"schema": 1, "user": "auth.user.1", "stamp": "s"}`)
	if r := receive(); r != (Revocation{User: "auth.user.1", Stamp: "s"}) {
		t.Errorf("%+v", r)
	}
}

func TestStoreWithoutRedis(t *testing.T) {
	t.Parallel()
	store, err := OpenStore(StoreConfig{URL: "redis://:topsecret@127.0.0.1:1/0", KeyPrefix: "x:", Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	_, ticketErr := store.Ticket(t.Context(), "k")
	_, _, loadErr := store.LoadRegistry(t.Context())
	for name, err := range map[string]error{
		"ticket": ticketErr, "load": loadErr, "ping": store.Ping(t.Context()), "publish": store.PublishRegistry(t.Context(), golang("x", nil)),
	} {
		if err == nil || errors.Is(err, ErrNoTicket) || strings.Contains(fmt.Sprint(err), "topsecret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What forms there are is redisbroker's, with its own tests; here, that they arrive, and that faults name the setting.
func TestStoreURL(t *testing.T) {
	t.Parallel()
	for url, w := range map[string]struct {
		network, addr, user, password string
		db                            int
		tls                           bool
	}{
		"redis://":                                {network: "tcp", addr: "127.0.0.1:6379"},
		"redis://u:p%40@h:1/3":                    {network: "tcp", addr: "h:1", user: "u", password: "p@", db: 3},
		"redis://h//2":                            {network: "tcp", addr: "h:6379", db: 2},
		"redis://[::1]:7/":                        {network: "tcp", addr: "[::1]:7"},
		"rediss://h/1":                            {network: "tcp", addr: "h:6379", db: 1, tls: true},
		"rediss://h?ssl_cert_reqs=required":       {network: "tcp", addr: "h:6379", tls: true},
		"redis+socket:///a/b.sock?virtual_host=5": {network: "unix", addr: "/a/b.sock", db: 5},
		"unix://:p@/a/b.sock?db=2":                {network: "unix", addr: "/a/b.sock", password: "p", db: 2},
		"sentinel://h/2":                          {network: "tcp", addr: "sentinel:m/2@h:26379"},
		"redis://a;redis://b":                     {network: "tcp", addr: "FailoverClient"},
	} {
		store, err := OpenStore(StoreConfig{URL: compat.Secret(url), KeyPrefix: "x:", Transport: redisbroker.TransportOptions{MasterName: "m"}})
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		got := w
		o := store.client.Options()
		got.network, got.addr, got.user, got.password, got.db, got.tls = o.Network, o.Addr, o.Username, o.Password, o.DB, o.TLSConfig != nil
		if got != w {
			t.Errorf("%s: %+v, want %+v", url, got, w)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
	for url, part := range map[string]string{
		"sentinel://topsecret@h": "master_name", "redis://h/topsecret": "database", "redis://h?x=topsecret": "query x", "://topsecret": "scheme",
		"redis://a;topsecret": "scheme", "rediss://h?ssl_cert_reqs=maybe": "ssl_cert_reqs", "unix://host/topsecret": "socket",
		"rediss://h?ssl_ca_certs=/nowhere": "ssl_ca_certs", "redis://topsecret:x y@h:port/": "port", "": "missing",
	} {
		_, err := OpenStore(StoreConfig{URL: compat.Secret(url), KeyPrefix: "x:"})
		if err == nil || !strings.Contains(err.Error(), part) || !strings.Contains(err.Error(), "redis_url") || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("%s: %v, want %q in it", url, err, part)
		}
	}
	if _, err := OpenStore(StoreConfig{URL: "redis://h"}); err == nil {
		t.Error("a store without key prefix")
	}
}
