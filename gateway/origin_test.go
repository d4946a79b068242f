package gateway

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestOrigin(t *testing.T) {
	t.Parallel()
	trusted := []string{"https://trusted.example", "https://*.wild.example", "https://port.example:8443", "HTTPS://Upper.example:443",
		"*", "https://*", "https://*star.example"}
	for name, tc := range map[string]struct {
		origins   []string // of the request
		host      string
		forwarded string // X-Forwarded-Host
		useXFH    bool   // USE_X_FORWARDED_HOST
		any       bool   // "*" is allowed
		want      bool
	}{
		"absent":                      {host: "site.example", want: true},
		"same":                        {origins: []string{"https://site.example"}, host: "site.example", want: true},
		"same, plain http":            {origins: []string{"http://site.example"}, host: "site.example", want: true},
		"same, port":                  {origins: []string{"http://site.example:8000"}, host: "site.example:8000", want: true},
		"same, default port in Host":  {origins: []string{"https://site.example"}, host: "site.example:443", want: true},
		"same, default port, http":    {origins: []string{"http://site.example:80"}, host: "site.example", want: true},
		"same, other case":            {origins: []string{"https://Site.Example"}, host: "sITE.example", want: true},
		"same, IPv6":                  {origins: []string{"http://[::1]:8000"}, host: "[::1]:8000", want: true},
		"same, IPv6 default port":     {origins: []string{"http://[::1]"}, host: "[::1]:80", want: true},
		"other port":                  {origins: []string{"http://site.example:8001"}, host: "site.example:8000"},
		"port only in origin":         {origins: []string{"http://site.example:8000"}, host: "site.example"},
		"https port over http":        {origins: []string{"http://site.example"}, host: "site.example:443"},
		"other site":                  {origins: []string{"https://evil.example"}, host: "site.example"},
		"subdomain":                   {origins: []string{"https://a.site.example"}, host: "site.example"},
		"suffix":                      {origins: []string{"https://evilsite.example"}, host: "site.example"},
		"null":                        {origins: []string{"null"}, host: "site.example"},
		"empty":                       {origins: []string{""}, host: "site.example"},
		"no scheme":                   {origins: []string{"site.example"}, host: "site.example"},
		"file":                        {origins: []string{"file://"}, host: ""},
		"extension":                   {origins: []string{"chrome-extension://site.example"}, host: "site.example"},
		"with path":                   {origins: []string{"https://site.example/x"}, host: "site.example"},
		"with user":                   {origins: []string{"https://site.example@evil.example"}, host: "site.example"},
		"two":                         {origins: []string{"https://site.example", "https://site.example"}, host: "site.example"},
		"trusted":                     {origins: []string{"https://trusted.example"}, host: "site.example", want: true},
		"trusted, default port":       {origins: []string{"https://trusted.example:443"}, host: "site.example", want: true},
		"trusted, other scheme":       {origins: []string{"http://trusted.example"}, host: "site.example"},
		"trusted, upper case":         {origins: []string{"https://upper.example"}, host: "site.example", want: true},
		"trusted, port":               {origins: []string{"https://port.example:8443"}, host: "site.example", want: true},
		"trusted, port missing":       {origins: []string{"https://port.example"}, host: "site.example"},
		"wildcard":                    {origins: []string{"https://a.b.wild.example"}, host: "site.example", want: true},
		"wildcard, domain itself":     {origins: []string{"https://wild.example"}, host: "site.example", want: true},
		"wildcard, suffix":            {origins: []string{"https://evilwild.example"}, host: "site.example"},
		"wildcard, scheme":            {origins: []string{"http://a.wild.example"}, host: "site.example"},
		"star without dot":            {origins: []string{"https://star.example"}, host: "site.example", want: true},
		"star without dot, suffix":    {origins: []string{"https://evilstar.example"}, host: "site.example"},
		"forwarded host":              {origins: []string{"https://site.example"}, host: "10.0.0.1", forwarded: "site.example", useXFH: true, want: true},
		"forwarded host, not used":    {origins: []string{"https://site.example"}, host: "10.0.0.1", forwarded: "site.example"},
		"forwarded host hides Host":   {origins: []string{"https://site.example"}, host: "site.example", forwarded: "other.example", useXFH: true},
		"forwarded host absent":       {origins: []string{"https://site.example"}, host: "site.example", useXFH: true, want: true},
		"any":                         {origins: []string{"https://evil.example"}, host: "site.example", any: true, want: true},
		"any, null":                   {origins: []string{"null"}, host: "site.example", any: true, want: true},
		"control characters in it":    {origins: []string{"https://site.example\x00"}, host: "site.example"},
		"wildcard is no Origin value": {origins: []string{"https://*.wild.example"}, host: "site.example", want: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var further []string
			if tc.any {
				further = []string{"*"}
			}
			rules := newOriginRules(trusted, further, tc.useXFH)
			r := httptest.NewRequest(http.MethodGet, "/ws/", nil)
			r.Host = tc.host
			if tc.origins != nil {
				r.Header["Origin"] = tc.origins
			}
			if tc.forwarded != "" {
				r.Header.Set("X-Forwarded-Host", tc.forwarded)
			}
			if got := rules.allow(r); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestHandshakeChecks(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*http.Request)
		status int
		reason string
	}{
		"good":         {func(*http.Request) {}, 0, ""},
		"good, tokens": {func(r *http.Request) { r.Header.Set("Connection", "keep-alive, Upgrade") }, 0, ""},
		"method":       {func(r *http.Request) { r.Method = http.MethodPost }, 405, RefusedMethod},
		"connection":   {func(r *http.Request) { r.Header.Del("Connection") }, 400, RefusedHandshake},
		"version":      {func(r *http.Request) { r.Header.Set("Sec-Websocket-Version", "8") }, 426, RefusedVersion},
		"no version":   {func(r *http.Request) { r.Header.Del("Sec-Websocket-Version") }, 426, RefusedVersion},
		"no key":       {func(r *http.Request) { r.Header.Del("Sec-Websocket-Key") }, 400, RefusedHandshake},
		"short key":    {func(r *http.Request) { r.Header.Set("Sec-Websocket-Key", "AAAA") }, 400, RefusedHandshake},
		"origin":       {func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, 403, RefusedOrigin},
		"origin null":  {func(r *http.Request) { r.Header.Set("Origin", "null") }, 403, RefusedOrigin},
		"tls":          {func(r *http.Request) { r.TLS = &tls.ConnectionState{} }, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "/ws/", nil)
			for k, v := range map[string]string{
				"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Version": "13", "Sec-Websocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
			} {
				r.Header.Set(k, v)
			}
			tc.change(r)
			rules := newOriginRules(nil, nil, false)
			no := checkHandshake(r, &rules)
			switch {
			case no == nil && tc.status != 0:
				t.Fatalf("let through, want %d", tc.status)
			case no != nil && (no.status != tc.status || no.reason != tc.reason):
				t.Errorf("got %d %s, want %d %s", no.status, no.reason, tc.status, tc.reason)
			}
		})
	}
}

// FuzzOrigin: no panic, and what is allowed without trust names the host of the request.
func FuzzOrigin(f *testing.F) {
	f.Add("https://site.example", "site.example")
	f.Add("http://[::1]:80", "[::1]")
	f.Add("null", "null")
	f.Fuzz(func(t *testing.T, origin, host string) {
		rules := newOriginRules(nil, nil, false)
		r := &http.Request{Header: http.Header{"Origin": {origin}}, Host: host}
		if rules.allow(r) && host == "" {
			t.Errorf("origin %q was allowed for no host", origin)
		}
	})
}
