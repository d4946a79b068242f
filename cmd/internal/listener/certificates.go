package listener

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// watchInterval is how often the files of certificates are looked at.
	watchInterval = 5 * time.Second
	// expiryWarning is how long before its end a certificate is warned of.
	expiryWarning = 14 * 24 * time.Hour
)

// Pair names the files of one certificate: PEM, the certificate with its chain, and its key.
type Pair struct{ Cert, Key string }

// Certificates are the certificates of the listener. They can be read anew while connections are made.
type Certificates struct {
	pairs   []Pair
	log     *slog.Logger
	current atomic.Pointer[[]tls.Certificate]

	mu   sync.Mutex // one Reload at a time
	seen []fs.FileInfo
}

// LoadCertificates reads the pairs. The first is the one for clients that name no server, or one that no certificate is for.
func LoadCertificates(pairs []Pair, log *slog.Logger) (*Certificates, error) {
	if len(pairs) == 0 {
		return nil, errors.New("listener: certificates: none")
	}
	c := &Certificates{pairs: pairs, log: log}
	if err := c.Reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// Config is the configuration for http.Server.ServeTLS: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1. Browsers open websockets over HTTP/1.1: those
// over HTTP/2 (RFC 8441) are not offered.
func (c *Certificates) Config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: c.find,
	}
}

// find chooses the certificate for a client.
func (c *Certificates) find(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	certificates := *c.current.Load()
	for i := range certificates {
		if hello.SupportsCertificate(&certificates[i]) == nil {
			return &certificates[i], nil
		}
	}
	return &certificates[0], nil
}

// Reload reads all pairs anew. After an error those from before stay.
func (c *Certificates) Reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = c.stat()
	certificates := make([]tls.Certificate, len(c.pairs))
	for i, pair := range c.pairs {
		var err error
		if certificates[i], err = tls.LoadX509KeyPair(pair.Cert, pair.Key); err != nil {
			return fmt.Errorf("listener: certificate %s with key %s: %w", pair.Cert, pair.Key, err)
		}
	}
	c.current.Store(&certificates)
	for i := range certificates {
		c.report(c.pairs[i], &certificates[i])
	}
	return nil
}

// report logs what a certificate is for, and what an operator should know of it.
func (c *Certificates) report(pair Pair, certificate *tls.Certificate) {
	leaf := certificate.Leaf
	c.log.Info("certificate read", "file", pair.Cert, "names", leaf.DNSNames, "until", leaf.NotAfter)
	if left := time.Until(leaf.NotAfter); left < expiryWarning {
		c.log.Warn("certificate ends soon, or has ended", "file", pair.Cert, "until", leaf.NotAfter)
	}
	if info, err := os.Stat(pair.Key); err == nil && info.Mode().Perm()&0o007 != 0 {
		c.log.Warn("the key of a certificate can be read by everybody", "file", pair.Key, "mode", info.Mode().Perm().String())
	}
}

// stat describes the files as they are now; nil for one that cannot be seen.
func (c *Certificates) stat() []fs.FileInfo {
	infos := make([]fs.FileInfo, 0, 2*len(c.pairs))
	for _, pair := range c.pairs {
		for _, name := range []string{pair.Cert, pair.Key} {
			info, _ := os.Stat(name) // what is wrong with it, Reload says
			infos = append(infos, info)
		}
	}
	return infos
}

// changed says whether a file is another than at the last Reload.
func (c *Certificates) changed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, now := range c.stat() {
		before := c.seen[i]
		if (now == nil) != (before == nil) {
			return true
		}
		if now != nil && (!os.SameFile(now, before) || now.Size() != before.Size() || !now.ModTime().Equal(before.ModTime())) {
			return true
		}
	}
	return false
}

// Watch reloads the certificates when their files change, until ctx ends. An error (the key is not written yet) is logged once for each
// change of the files.
func (c *Certificates) Watch(ctx context.Context) { c.watch(ctx, watchInterval) }

func (c *Certificates) watch(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !c.changed() {
			continue
		}
		if err := c.Reload(); err != nil {
			c.log.Error("certificates have changed and cannot be read; those from before stay", "err", err)
		}
	}
}
