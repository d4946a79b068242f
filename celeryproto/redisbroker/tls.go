package redisbroker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// config reads the certificate files and builds what Python's ssl module would do with these settings.
func (t *tlsSettings) config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.serverName}
	if t.caCerts != "" {
		pem, err := os.ReadFile(t.caCerts)
		if err != nil {
			return nil, fmt.Errorf("redisbroker: ssl_ca_certs: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("redisbroker: ssl_ca_certs: no certificate in the file")
		}
	}
	if t.certFile != "" {
		keyFile := t.keyFile
		if keyFile == "" {
			keyFile = t.certFile // Python reads the key from the certificate's file then
		}
		cert, err := tls.LoadX509KeyPair(t.certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("redisbroker: ssl_certfile: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	switch {
	case t.certReqs == certNone:
		cfg.InsecureSkipVerify = true
	case t.skipHostname:
		cfg.InsecureSkipVerify = true // replaced by verifyChain: everything but the name
		cfg.VerifyConnection = verifyChain(cfg.RootCAs)
	}
	return cfg, nil
}

// verifyChain checks the server's certificate without its host name (ssl_check_hostname=false).
func verifyChain(roots *x509.CertPool) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errors.New("redisbroker: no server certificate")
		}
		opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
		for _, cert := range state.PeerCertificates[1:] {
			opts.Intermediates.AddCert(cert)
		}
		_, err := state.PeerCertificates[0].Verify(opts)
		return err
	}
}
