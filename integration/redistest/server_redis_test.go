package redistest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/integration/redistest"
)

func TestMain(m *testing.M) { os.Exit(redistest.Main(m)) }

func TestRestartKeepsData(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := s.Client(t)
	if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	pid := s.PID()
	s.Restart()
	if s.PID() == pid {
		t.Error("the process is the same after Restart")
	}
	if v, err := c.Get(t.Context(), "k").Result(); v != "v" || err != nil {
		t.Errorf("after Restart: %q, %v", v, err)
	}
	s.RestartEmpty()
	if n, err := c.DBSize(t.Context()).Result(); n != 0 || err != nil {
		t.Errorf("after RestartEmpty: %d keys, %v", n, err)
	}
}

func TestAppendOnlySurvivesKill(t *testing.T) {
	t.Parallel()
	s := redistest.StartWith(t, redistest.Options{AppendOnly: true, Args: []string{"--appendfsync", "always"}})
	c := s.Client(t)
	if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	s.StartAgain()
	if v, err := c.Get(t.Context(), "k").Result(); v != "v" || err != nil {
		t.Errorf("after Kill: %q, %v", v, err)
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	s := redistest.StartWith(t, redistest.Options{MaxMemory: "32mb"})
	c := s.Client(t)
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.WithTimeout(50 * time.Millisecond).Ping(ctx).Err(); err == nil {
		t.Error("a paused server answered")
	}
	s.Resume()
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Errorf("after Resume: %v", err)
	}
	s.Pause() // Cleanup must end a paused server too
}

func TestTLSAndSocket(t *testing.T) {
	t.Parallel()
	s := redistest.StartWith(t, redistest.Options{TLS: true, Socket: true})
	pem, err := os.ReadFile(s.Certs.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	for _, o := range []*redis.Options{
		{Network: "unix", Addr: s.Socket, Protocol: 2},
		{Addr: s.TLSAddr, Protocol: 2, TLSConfig: &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}},
	} {
		c := redis.NewClient(o)
		if err := c.Ping(t.Context()).Err(); err != nil {
			t.Errorf("%s: %v", o.Addr, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestSentinelFailsOver(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	replica := redistest.StartWith(t, redistest.Options{ReplicaOf: master})
	sentinel := redistest.StartWith(t, redistest.Options{Sentinel: &redistest.Sentinel{MasterName: "m", Master: master}})
	sentinel.AwaitReplica("m")
	master.Kill()
	deadline := time.Now().Add(10 * time.Second)
	c := replica.Client(t)
	for role := ""; role != "master"; {
		if time.Now().After(deadline) {
			t.Fatal("the replica was not promoted")
		}
		if answer, err := c.Do(t.Context(), "ROLE").Slice(); err == nil {
			role, _ = answer[0].(string)
		}
	}
}

func TestShared(t *testing.T) {
	t.Parallel()
	if first, second := redistest.Shared(t), redistest.Shared(t); first != second {
		t.Error("two calls, two servers")
	}
}
