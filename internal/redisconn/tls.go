package redisconn

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ErrUnsupported is wrapped around the name of what this package does not do.
var ErrUnsupported = errors.New("not supported")

// TLSOptions are the ssl_* keys of redis-py (6.4 to 8.1, connection.py, SSLConnection), as they stand in Celery's settings
// broker_use_ssl and redis_backend_use_ssl and in the hosts of a channel layer. The zero value is redis-py's default: the certificate of Redis must be good for its
// name by the certificates that the system trusts.
//
// The files are read for every connection, so that a renewed certificate is used without a restart. What CACerts, CAData and
// CAPath name is trusted instead of the system's certificates; in Python, beside them.
type TLSOptions struct {
	// CertReqs is ssl_cert_reqs: CertRequired (also when empty), CertOptional (for a client the same), CertNone.
	CertReqs string
	// CACerts is ssl_ca_certs, a file of certificates in PEM; CAData is ssl_ca_data, their text; CAPath is ssl_ca_path, a
	// directory of such files.
	CACerts, CAData, CAPath string
	// CertFile and KeyFile are ssl_certfile and ssl_keyfile: our own certificate and its key, in PEM. Without KeyFile the key is
	// in CertFile.
	CertFile, KeyFile string
	// AnyHostname is ssl_check_hostname false: the certificate may be for another name.
	AnyHostname bool
	// MinVersion is ssl_min_version, such as tls.VersionTLS13; TLS 1.2 when 0.
	MinVersion uint16
}

// Values of TLSOptions.CertReqs (Python's ssl module).
const (
	CertNone     = "none"
	CertOptional = "optional"
	CertRequired = "required"
)

var certNames = map[string]string{
	"required": CertRequired, "CERT_REQUIRED": CertRequired, "2": CertRequired,
	"optional": CertOptional, "CERT_OPTIONAL": CertOptional, "1": CertOptional,
	"none": CertNone, "CERT_NONE": CertNone, "0": CertNone,
}

// ParseTLSOptions reads an object of ssl_* keys from JSON, in which ssl_cert_reqs may be a name or the number of Python's constant.
// null, false and {} are no TLS: nil. true is refused, since with it Python connects to Redis without TLS.
func ParseTLSOptions(b []byte) (*TLSOptions, error) {
	switch strings.TrimSpace(string(b)) {
	case "", "null", "false":
		return nil, nil
	case "true":
		return nil, errors.New("true says nothing to Redis, it must be an object of ssl_* keys")
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return nil, errors.New("must be an object of ssl_* keys")
	}
	if len(fields) == 0 {
		return nil, nil
	}
	t := &TLSOptions{}
	return t, t.SetAll(fields)
}

// SetAll sets keys from JSON; null stands for the default. The error names every key at fault, never its value.
func (t *TLSOptions) SetAll(fields map[string]json.RawMessage) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		var value any
		err := json.Unmarshal(fields[name], &value)
		switch v := value.(type) {
		case nil:
			if name == "ssl_cert_reqs" && err == nil {
				t.CertReqs = CertNone // redis-py reads None so
			}
		case string:
			err = t.Set(name, v)
		case bool:
			err = t.Set(name, strconv.FormatBool(v))
		case float64:
			err = t.Set(name, strconv.FormatFloat(v, 'f', -1, 64))
		default:
			err = errors.New("must be a text, a number or true or false")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// Set sets one key from a text. ErrUnsupported is wrapped for what redis-py has and this package has not.
func (t *TLSOptions) Set(name, value string) error {
	switch name {
	case "ssl_cert_reqs":
		reqs, ok := certNames[value]
		if !ok {
			return errors.New("must be required, optional or none")
		}
		t.CertReqs = reqs
	case "ssl_ca_certs":
		t.CACerts = value
	case "ssl_ca_data":
		t.CAData = value
	case "ssl_ca_path":
		t.CAPath = value
	case "ssl_certfile":
		t.CertFile = value
	case "ssl_keyfile":
		t.KeyFile = value
	case "ssl_check_hostname":
		t.AnyHostname = isFalse(value)
	case "ssl_min_version":
		n, err := strconv.ParseUint(value, 10, 16) // Python's ssl.TLSVersion has the numbers of the protocol
		if err != nil || n < tls.VersionTLS10 || n > tls.VersionTLS13 {
			return errors.New("must be a number of ssl.TLSVersion")
		}
		t.MinVersion = uint16(n)
	case "ssl_validate_ocsp", "ssl_validate_ocsp_stapled":
		if !isFalse(value) {
			return ErrUnsupported
		}
	default: // ssl_password, ssl_ciphers, …
		return ErrUnsupported
	}
	return nil
}

// Validate names what Set would refuse. nil is good.
func (t *TLSOptions) Validate() error {
	if t == nil || t.CertReqs == "" {
		return nil
	}
	if err := new(TLSOptions).Set("ssl_cert_reqs", t.CertReqs); err != nil {
		return fmt.Errorf("ssl_cert_reqs: %w", err)
	}
	return nil
}

// isFalse is redis-py's to_bool, turned round; kombu only knows "false".
func isFalse(value string) bool {
	switch strings.ToUpper(value) {
	case "0", "F", "FALSE", "N", "NO":
		return true
	default:
		return false
	}
}

// warning is what an operator should know, "" for nothing.
func (t *TLSOptions) warning() string {
	if t != nil && t.CertReqs == CertNone {
		return "the certificate of Redis is not verified: ssl_cert_reqs is none"
	}
	return ""
}

// Config reads the certificate files and builds what Python's ssl module would do with these settings.
func (t *TLSOptions) Config(serverName string) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: serverName}
	if t.MinVersion != 0 {
		cfg.MinVersion = t.MinVersion
	}
	var err error
	if cfg.RootCAs, err = t.roots(); err != nil {
		return nil, err
	}
	if t.CertFile == "" && t.KeyFile != "" {
		return nil, errors.New("ssl_keyfile: needs ssl_certfile")
	}
	if t.CertFile != "" {
		keyFile := t.KeyFile
		if keyFile == "" {
			keyFile = t.CertFile // Python reads the key from the certificate's file then
		}
		cert, err := tls.LoadX509KeyPair(t.CertFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("ssl_certfile: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	switch {
	case t.CertReqs == CertNone:
		cfg.InsecureSkipVerify = true
	case t.AnyHostname:
		cfg.InsecureSkipVerify = true // replaced by verifyChain: everything but the name
		cfg.VerifyConnection = verifyChain(cfg.RootCAs)
	}
	return cfg, nil
}

// roots are the certificates to trust, nil for the system's.
func (t *TLSOptions) roots() (*x509.CertPool, error) {
	if t.CACerts == "" && t.CAData == "" && t.CAPath == "" {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if t.CACerts != "" {
		pem, err := os.ReadFile(t.CACerts)
		if err != nil {
			return nil, fmt.Errorf("ssl_ca_certs: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, errors.New("ssl_ca_certs: no certificate in the file")
		}
	}
	if t.CAData != "" && !pool.AppendCertsFromPEM([]byte(t.CAData)) {
		return nil, errors.New("ssl_ca_data: no certificate in it")
	}
	if t.CAPath == "" {
		return pool, nil
	}
	files, err := os.ReadDir(t.CAPath)
	if err != nil {
		return nil, fmt.Errorf("ssl_ca_path: %w", err)
	}
	for _, file := range files {
		pem, err := os.ReadFile(filepath.Join(t.CAPath, file.Name()))
		if err == nil { // a directory may have other things in it; OpenSSL looks for hashed names only
			pool.AppendCertsFromPEM(pem)
		}
	}
	return pool, nil
}

// verifyChain checks the server's certificate without its host name (ssl_check_hostname=false).
func verifyChain(roots *x509.CertPool) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errors.New("no server certificate")
		}
		opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
		for _, cert := range state.PeerCertificates[1:] {
			opts.Intermediates.AddCert(cert)
		}
		_, err := state.PeerCertificates[0].Verify(opts)
		return err
	}
}
