package redisconn

import (
	"strings"
	"testing"
)

func TestTLSConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		opts             TLSOptions
		insecure, custom bool
	}{
		{TLSOptions{}, false, false},
		{TLSOptions{CertReqs: CertOptional}, false, false},
		{TLSOptions{CertReqs: CertNone}, true, false},
		{TLSOptions{AnyHostname: true}, true, true},
	} {
		cfg, err := c.opts.Config("h")
		if err != nil {
			t.Errorf("%+v: %v", c.opts, err)
			continue
		}
		if cfg.InsecureSkipVerify != c.insecure || (cfg.VerifyConnection != nil) != c.custom || cfg.ServerName != "h" ||
			(c.opts.warning() != "") != (c.insecure && !c.custom) {
			t.Errorf("%+v: %+v", c.opts, cfg)
		}
	}
	for name, o := range map[string]TLSOptions{
		"ssl_ca_certs": {CACerts: "/nonexistent"}, "ssl_ca_data": {CAData: "x"}, "ssl_ca_path": {CAPath: "/nonexistent"},
		"ssl_certfile": {CertFile: "/nonexistent"}, "ssl_keyfile": {KeyFile: "/nonexistent"},
	} {
		if _, err := o.Config("h"); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
