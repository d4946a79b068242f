package listener

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/integration/logbuffer"
)

const patience = 10 * time.Second

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

// writePair writes a certificate for a name, signed by itself. Its serial number tells certificates of one name apart.
func writePair(t *testing.T, pair Pair, name string, serial int64, until time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{pair.Cert: {Type: "CERTIFICATE", Bytes: der}, pair.Key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func pairIn(dir, name string) Pair {
	return Pair{filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")}
}

// shown returns the certificate that a server shows for a name.
func shown(addr, name string, change func(*tls.Config)) (*x509.Certificate, string, error) {
	cfg := &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}
	if change != nil {
		change(cfg)
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", addr, cfg)
	if err != nil {
		return nil, "", err
	}
	defer conn.Close()
	state := conn.ConnectionState()
	return state.PeerCertificates[0], state.NegotiatedProtocol, nil
}

// serveTLS serves with certificates until the test ends.
func serveTLS(t *testing.T, c *Certificates) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{TLSConfig: c.Config(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		_ = server.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	dir, year := t.TempDir(), time.Now().AddDate(1, 0, 0)
	pairs := []Pair{pairIn(dir, "a"), pairIn(dir, "b")}
	writePair(t, pairs[0], "a.example", 1, year)
	writePair(t, pairs[1], "*.b.example", 2, year)
	c, err := LoadCertificates(pairs, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	addr := serveTLS(t, c)
	for name, serial := range map[string]int64{"a.example": 1, "x.b.example": 2, "B.example": 1, "other.example": 1, "": 1} {
		certificate, protocol, err := shown(addr, name, nil)
		if err != nil || certificate.SerialNumber.Int64() != serial || protocol != "h2" {
			t.Errorf("%q: %v %s, %v", name, certificate.SerialNumber, protocol, err)
		}
	}
	if _, protocol, err := shown(addr, "a.example", func(c *tls.Config) { c.NextProtos = []string{"http/1.1"}; c.MaxVersion = tls.VersionTLS12 }); err != nil || protocol != "http/1.1" {
		t.Errorf("TLS 1.2 with HTTP/1.1: %s, %v", protocol, err)
	}
	if _, _, err := shown(addr, "a.example", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Get("https://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "HTTP/2.0" {
		t.Errorf("got %s", body)
	}
}

// TestWatch: changed files are read; while they do not fit, the certificate from before stays.
func TestWatch(t *testing.T) {
	t.Parallel()
	dir, year := t.TempDir(), time.Now().AddDate(1, 0, 0)
	pair, other := pairIn(dir, "a"), pairIn(dir, "other")
	writePair(t, pair, "a.example", 1, year)
	writePair(t, other, "a.example", 2, year)
	var lines logbuffer.Buffer
	c, err := LoadCertificates([]Pair{pair}, slog.New(slog.NewTextHandler(&lines, nil)))
	if err != nil {
		t.Fatal(err)
	}
	addr := serveTLS(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { c.watch(ctx, time.Millisecond) })
	t.Cleanup(func() { cancel(); wg.Wait() })

	if err := os.Rename(other.Cert, pair.Cert); err != nil { // the key is still the old one
		t.Fatal(err)
	}
	eventually(t, "the misfit is logged", func() bool { return strings.Contains(lines.String(), "those from before stay") })
	if certificate, _, err := shown(addr, "a.example", nil); err != nil || certificate.SerialNumber.Int64() != 1 {
		t.Fatalf("%v, %v", certificate, err)
	}
	if err := os.Rename(other.Key, pair.Key); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new certificate", func() bool {
		certificate, _, err := shown(addr, "a.example", nil)
		return err == nil && certificate.SerialNumber.Int64() == 2
	})
	if err := os.Remove(pair.Cert); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the loss is logged", func() bool { return strings.Count(lines.String(), "those from before stay") == 2 })
	if certificate, _, err := shown(addr, "a.example", nil); err != nil || certificate.SerialNumber.Int64() != 2 {
		t.Fatalf("%v, %v", certificate, err)
	}
}

func TestLoadFaults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	if _, err := LoadCertificates(nil, log); err == nil {
		t.Error("no pair: no error")
	}
	if _, err := LoadCertificates([]Pair{pairIn(dir, "none")}, log); err == nil || !strings.Contains(err.Error(), "none.crt") {
		t.Errorf("no file: %v", err)
	}
	var lines logbuffer.Buffer
	pair := pairIn(dir, "old")
	writePair(t, pair, "a.example", 1, time.Now().Add(24*time.Hour))
	if err := os.Chmod(pair.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadCertificates([]Pair{pair}, slog.New(slog.NewTextHandler(&lines, nil))); err != nil {
		t.Fatal(err)
	}
	if text := lines.String(); !strings.Contains(text, "ends soon") || !strings.Contains(text, "read by everybody") {
		t.Errorf("not warned of: %s", text)
	}
}
