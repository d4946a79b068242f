package gateway

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/dispatch"
)

// What the gateway and the Django app "dfws" (callback.py) agree on.
const (
	// callbackHeader is "v1 <Unix seconds> <nonce> <signature>" in a question.
	callbackHeader = "X-Dfws-Identify"
	// callbackSignature is the signature of an answer.
	callbackSignature = "X-Dfws-Signature"
	// ownHeaders start the headers of ours, which no client may send through us.
	ownHeaders = "X-Dfws-"

	callbackVersion = "v1"
	callbackSchema  = 1
	questionPurpose = "dfws.callback.question"
	answerPurpose   = "dfws.callback.answer"

	// maxCallbackAnswer bounds an answer; DecodeAnswer refuses what is as long.
	maxCallbackAnswer = 1<<20 + 1
	// callbackAttempts is how often a question is asked whose answer was broken off or that was not taken.
	callbackAttempts = 2
)

// Why a strategy gave no answer: the labels that [Observer.IdentifyFailed] gets.
const (
	IdentifyAway    = "away"    // connection refused or broken, or 502 to 504
	IdentifyTimeout = "timeout" // no answer in time
	IdentifyBusy    = "busy"    // Config.CallbackConcurrency others were waiting
	IdentifyOpen    = "open"    // not asked, because it failed before
	IdentifyRefused = "refused" // Django refused our signature, or somebody else answered
	IdentifyAnswer  = "answer"  // an answer that cannot be read
	IdentifySite    = "site"    // the site's own code raised an exception
)

// identifyError is why a strategy gave no answer.
type identifyError struct {
	strategy string
	reason   string // one of the Identify constants
	err      error
}

func (e *identifyError) Error() string {
	return "gateway: " + e.strategy + ": " + e.reason + ": " + e.err.Error()
}

func (e *identifyError) Unwrap() error { return e.err }

// ours says whether it is about this handshake, and says nothing about those to come.
func (e *identifyError) ours() bool { return e.reason == IdentifySite || e.reason == IdentifyBusy }

// callback asks Django who sits behind a handshake. Django runs the site's middlewares and WINDOW_INFO_MIDDLEWARES on it, as
// df_websockets' consumer does.
//
// Question and answer are signed with a key that derives from SECRET_KEY, so that neither can be forged by who reaches Django or stands
// in for it. A question that was overheard can be repeated for a minute, by somebody who has the cookies in it anyway.
type callback struct {
	client  *http.Client
	find    func() *url.URL // Django's address at this moment; nil when no server is ready
	path    string          // WEBSOCKET_URL
	headers headerRules
	key     []byte
	slotC   chan struct{} // a token per question under way
	breaker *breaker
	now     func() time.Time
}

// newCallback takes a configuration with a key and an address.
func newCallback(cfg *Config) (*callback, error) {
	key, err := hex.DecodeString(cfg.Settings.DFWS.CallbackKeys[0].Reveal())
	if err != nil {
		return nil, errors.New("gateway: config: Settings.DFWS.CallbackKeys: not hex")
	}
	return &callback{
		client: &http.Client{
			Transport:     callbackTransport(cfg),
			Timeout:       cfg.CallbackTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		find:    cfg.callbackURL(),
		path:    cfg.Settings.WebSocket.URL,
		headers: newHeaderRules(cfg),
		key:     key,
		slotC:   make(chan struct{}, cfg.CallbackConcurrency),
		breaker: &breaker{log: cfg.Logger, subject: "Django's callback", now: time.Now},
		now:     time.Now,
	}, nil
}

// callbackTransport keeps one connection per question that may be under way.
func callbackTransport(cfg *Config) *http.Transport {
	t := upstreamTransport(cfg)
	t.MaxIdleConns, t.MaxIdleConnsPerHost = cfg.CallbackConcurrency, cfg.CallbackConcurrency
	t.ResponseHeaderTimeout = 0 // the client's timeout covers it
	return t
}

// ask returns Django's answer about a handshake. The error is an *identifyError.
func (c *callback) ask(ctx context.Context, r *http.Request) (*dispatch.Answer, error) {
	if err := c.breaker.allow(); err != nil {
		return nil, callbackError(IdentifyOpen, err)
	}
	select {
	case c.slotC <- struct{}{}:
		defer func() { <-c.slotC }()
	case <-ctx.Done():
		c.breaker.skip()
		return nil, callbackError(IdentifyBusy, context.Cause(ctx))
	}
	question, err := c.question(r)
	if err != nil {
		c.breaker.skip()
		return nil, callbackError(IdentifyAnswer, err)
	}
	var answer *dispatch.Answer
	for attempt := 1; ; attempt++ {
		var failure *identifyError
		if answer, failure = c.exchange(ctx, r, question); failure == nil {
			c.breaker.done(nil)
			return answer, nil
		}
		switch {
		case failure.ours():
			c.breaker.done(nil) // Django is there and knows our key
			return nil, failure
		case r.Context().Err() != nil:
			c.breaker.skip() // the browser went away
			return nil, failure
		case failure.reason != IdentifyAway || attempt == callbackAttempts || ctx.Err() != nil:
			c.breaker.done(failure)
			return nil, failure
		}
	}
}

// scope is a handshake as ASGI describes it; texts of headers are Latin-1.
type scope struct {
	Schema  int         `json:"schema"`
	Path    string      `json:"path"`
	Query   string      `json:"query"`
	Headers [][2]string `json:"headers"`
	Client  []any       `json:"client"`
	Server  []any       `json:"server"`
}

// question is the body that describes a handshake, as if it had come through the proxy.
func (c *callback) question(r *http.Request) ([]byte, error) {
	out := r.Clone(r.Context())
	c.headers.apply(&httputil.ProxyRequest{In: r, Out: out})
	s := scope{Schema: callbackSchema, Path: r.URL.Path, Query: r.URL.RawQuery, Headers: [][2]string{{"host", compat.Latin1(r.Host)}}}
	for _, name := range slices.Sorted(maps.Keys(out.Header)) {
		for _, value := range out.Header[name] {
			s.Headers = append(s.Headers, [2]string{compat.Latin1(strings.ToLower(name)), compat.Latin1(value)})
		}
	}
	s.Client = addressOf(r.RemoteAddr)
	if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		s.Server = addressOf(addr.String())
	}
	return json.Marshal(s)
}

// addressOf is an address as ASGI has it, nil for what is none.
func addressOf(text string) []any {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return nil
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil
	}
	return []any{host, n}
}

// exchange asks once.
func (c *callback) exchange(ctx context.Context, r *http.Request, question []byte) (*dispatch.Answer, *identifyError) {
	nonce := newNonce()
	address := c.find()
	if address == nil {
		return nil, callbackError(IdentifyAway, errNoUpstream)
	}
	request, err := c.request(ctx, r, upstreamURL(address).JoinPath(c.path).String(), question, nonce)
	if err != nil {
		return nil, callbackError(IdentifyAnswer, err)
	}
	response, err := c.client.Do(request)
	if err != nil {
		return nil, callbackError(reasonOf(err), withoutURL(err))
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxCallbackAnswer))
	if err != nil {
		return nil, callbackError(reasonOf(err), err)
	}
	want := sign(c.key, answerPurpose, nonce, body)
	if !hmac.Equal([]byte(want), []byte(response.Header.Get(callbackSignature))) {
		return nil, unsigned(response.StatusCode, body)
	}
	if response.StatusCode != http.StatusOK {
		return nil, callbackError(IdentifySite, fmt.Errorf("%.200q, see Django's log", body))
	}
	answer, err := dispatch.DecodeAnswer(body)
	if err != nil {
		return nil, callbackError(IdentifyAnswer, err)
	}
	return answer, nil
}

// request is a question that reaches Django as pages do: same Host, same forwarded headers, no cookies.
func (c *callback) request(ctx context.Context, r *http.Request, target string, question []byte, nonce string) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(question))
	if err != nil {
		return nil, err
	}
	asked := r.Clone(ctx)
	c.headers.apply(&httputil.ProxyRequest{In: r, Out: asked})
	for name, values := range asked.Header {
		if c.headers.says(name) {
			request.Header[name] = values
		}
	}
	request.Host = r.Host
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept-Encoding", "identity")
	request.Header.Set("User-Agent", "dfws")
	at := strconv.FormatInt(c.now().Unix(), 10)
	signature := sign(c.key, questionPurpose+"\n"+at, nonce, question)
	request.Header.Set(callbackHeader, strings.Join([]string{callbackVersion, at, nonce, signature}, " "))
	// Asking twice changes nothing: net/http may ask again on another connection. An empty list is not sent.
	request.Header["X-Idempotency-Key"] = []string{}
	return request, nil
}

// sign is the signature of a question or an answer: hex of HMAC-SHA256.
func sign(key []byte, purpose, nonce string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	_, _ = io.WriteString(mac, purpose+"\n"+nonce+"\n") // a hash takes everything
	_, _ = mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

func newNonce() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	return hex.EncodeToString(b[:])
}

func callbackError(reason string, err error) *identifyError {
	return &identifyError{strategy: StrategyCallback, reason: reason, err: err}
}

// unsigned explains an answer that does not come from who has the key.
func unsigned(status int, body []byte) *identifyError {
	switch status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return callbackError(IdentifyAway, fmt.Errorf("HTTP status %d", status))
	case http.StatusForbidden:
		return callbackError(IdentifyRefused, fmt.Errorf("HTTP status %d: %.200q", status, body))
	default:
		return callbackError(IdentifyRefused, fmt.Errorf("HTTP status %d without our signature: is the app dfws installed, and does a middleware "+
			"before df_websockets' answer or change it?", status))
	}
}

// reasonOf names what happened to a question without an answer.
func reasonOf(err error) string {
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return IdentifyTimeout
	}
	return IdentifyAway
}

// withoutURL is the cause in an error of net/http.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
