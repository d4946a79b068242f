package compat

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// The values of WEBSOCKET_WORKERS that other processes can serve (df_websockets/constants.py).
const (
	// WorkersCelery puts the calls of signals on Celery's broker.
	WorkersCelery = "celery"
	// WorkersChannels puts them on channels of the channel layer, named like the queues, for Channels' runworker and its like.
	WorkersChannels = "channels"
)

// signingKeySize is the size of a derived key: SHA-256.
const signingKeySize = 32

// faults collects every fault of the settings.
type faults []error

// addf notes one fault of one setting.
func (f *faults) addf(setting, format string, args ...any) {
	*f = append(*f, fmt.Errorf("compat: settings: %s: %s", setting, fmt.Sprintf(format, args...)))
}

// validate joins all faults, each naming the setting as the file has it.
func (s *Settings) validate() error {
	var f faults
	s.Site.check(&f)
	s.WebSocket.check(&f)
	s.Celery.check(&f)
	s.ChannelLayer.check(&f)
	s.DFWS.check(&f, s)
	s.checkDatabases(&f)
	return errors.Join(f...)
}

func (s *Site) check(f *faults) {
	required(f, "site.session_cookie_name", s.SessionCookieName)
	required(f, "site.csrf_cookie_name", s.CSRFCookieName)
	if app, model, found := strings.Cut(s.AuthUserModel, "."); !found || app == "" || model == "" {
		f.addf("site.auth_user_model", "%q is not app.model", s.AuthUserModel)
	}
	if n := len(s.SecureProxySSLHeader); n != 0 && n != 2 {
		f.addf("site.secure_proxy_ssl_header", "has %d elements instead of name and value", n)
	}
	if s.SessionCookieAge <= 0 {
		f.addf("site.session_cookie_age", "is not positive")
	}
	checkKeys(f, "site.session_signing_keys", s.SessionSigningKeys)
}

// checkKeys notes what is no derived key.
func checkKeys(f *faults, setting string, keys []Secret) {
	for i, key := range keys {
		if b, err := hex.DecodeString(key.Reveal()); err != nil || len(b) != signingKeySize {
			f.addf(setting, "number %d is not %d bytes in hex", i+1, signingKeySize)
		}
	}
}

func (w *WebSocket) check(f *faults) {
	if !strings.HasPrefix(w.URL, "/") {
		f.addf("websocket.url", "%q does not start with a slash", w.URL)
	}
	required(f, "websocket.default_queue", w.DefaultQueue)
	if w.CacheExpire <= 0 {
		f.addf("websocket.cache_expire", "is not positive")
	}
	if w.Workers != WorkersCelery && w.Workers != WorkersChannels {
		f.addf("websocket.workers", "%q keeps the signals inside the Django processes: set WEBSOCKET_WORKERS = %q or %q", w.Workers, WorkersCelery, WorkersChannels)
	}
}

func (c *ChannelLayer) check(f *faults) {
	if c.Backend != CoreLayerBackend && c.Backend != PubSubLayerBackend {
		f.addf("channel_layer.backend", "%q is not supported, only %q and %q are", c.Backend, CoreLayerBackend, PubSubLayerBackend)
	}
	if len(c.Hosts) == 0 {
		f.addf("channel_layer.hosts", "missing")
	}
	for i, host := range c.Hosts {
		switch {
		case host.Unsupported != "":
			f.addf("channel_layer.hosts", "host %d is not supported: %s", i+1, host.Unsupported)
		case host.URL == "" && len(host.Sentinels) == 0:
			f.addf("channel_layer.hosts", "host %d has no url", i+1)
		}
	}
	if c.Expiry <= 0 {
		f.addf("channel_layer.expiry", "is not positive")
	}
	if c.GroupExpiry <= 0 {
		f.addf("channel_layer.group_expiry", "is not positive")
	}
	if c.Capacity <= 0 {
		f.addf("channel_layer.capacity", "is not positive")
	}
	if c.RandomPrefixLength < 0 {
		f.addf("channel_layer.random_prefix_length", "is negative")
	}
}

func (d *DFWS) check(f *faults, s *Settings) {
	switch layer := s.ChannelLayer.Prefix; {
	case d.KeyPrefix == "":
		f.addf("dfws.key_prefix", "missing")
	case layer == "":
		f.addf("channel_layer.prefix", "is empty: the layer's flush() would delete every key of its Redis")
	case strings.HasPrefix(d.KeyPrefix, layer):
		f.addf("dfws.key_prefix", "%q starts with the channel layer's prefix %q, whose flush() would delete the keys", d.KeyPrefix, layer)
	}
	required(f, "dfws.go_queue", d.GoQueue)
	checkKeys(f, "dfws.callback_keys", d.CallbackKeys)
	if d.GoQueue != "" && d.GoQueue == s.WebSocket.DefaultQueue {
		f.addf("dfws.go_queue", "%q is also websocket.default_queue: Python workers take the Go handlers' signals from it and drop them", d.GoQueue)
	}
}

// required notes a text that is empty.
func required(f *faults, setting, value string) {
	if value == "" {
		f.addf(setting, "missing")
	}
}

// object notes options that are no JSON object, and returns none for null.
func object[T ~[]byte](f *faults, setting string, options T) T {
	switch text := string(options); {
	case text == "" || text == "null":
		return nil
	case text[0] != '{':
		f.addf(setting, "not an object")
	}
	return options
}
