package harness

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// DialTimeout bounds one websocket handshake. A busy machine may need seconds for one through daphne.
const dialTimeout = 20 * time.Second

// Client is a browser without JavaScript: HTTP and websockets with one set of cookies.
type Client struct {
	base *url.URL
	http *http.Client
	jar  *cookiejar.Jar
}

// NewClient returns a client of a server (daphne, gunicorn or a gateway) that has no cookies yet.
func NewClient(base *url.URL) *Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err) // cannot happen: only a public suffix list can fail
	}
	transport := &http.Transport{DisableKeepAlives: true} // leaves no goroutine behind
	return &Client{base: base, jar: jar, http: &http.Client{Jar: jar, Timeout: 60 * time.Second, Transport: transport}}
}

// Response is an answer that was read to its end.
type Response struct {
	Status int
	Header http.Header
	Body   string
}

// Get requests a page, such as "/page/?topic=news", with additional headers in pairs.
func (c *Client) Get(ctx context.Context, page string, headers ...string) (Response, error) {
	return c.Do(ctx, http.MethodGet, page, nil, headers...)
}

// XHR requests a page the way scripts do, so that Django takes the window key of the cookie.
func (c *Client) XHR(ctx context.Context, page string) (Response, error) {
	return c.Get(ctx, page, "X-Requested-With", "XMLHttpRequest")
}

// Do sends any request.
func (c *Client) Do(ctx context.Context, method, page string, body io.Reader, headers ...string) (Response, error) {
	target, err := c.base.Parse(page)
	if err != nil {
		return Response{}, fmt.Errorf("harness: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return Response{}, fmt.Errorf("harness: %w", err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return Response{}, fmt.Errorf("harness: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return Response{}, fmt.Errorf("harness: %s: %w", page, err)
	}
	return Response{Status: resp.StatusCode, Header: resp.Header, Body: string(text)}, nil
}

// Login logs a user of setup_demo in.
func (c *Client) Login(ctx context.Context, user string) error {
	resp, err := c.Get(ctx, "/login/?"+url.Values{"u": {user}, "p": {"pw-" + user}}.Encode())
	if err == nil && resp.Status != http.StatusOK {
		err = fmt.Errorf("harness: login of %s: %d %s", user, resp.Status, resp.Body)
	}
	return err
}

// Page binds the client's next window to topics, as project/demo/targets.py names them.
func (c *Client) Page(ctx context.Context, topics ...string) error {
	resp, err := c.Get(ctx, "/page/?"+url.Values{"topic": topics}.Encode())
	if err == nil && resp.Status != http.StatusOK {
		err = fmt.Errorf("harness: page: %d %s", resp.Status, resp.Body)
	}
	return err
}

// Cookie is the value of a cookie, empty when there is none.
func (c *Client) Cookie(name string) string {
	for _, cookie := range c.jar.Cookies(c.base) {
		if cookie.Name == name {
			return cookie.Value
		}
	}
	return ""
}

// SetCookie sets or replaces a cookie; an empty value removes it.
func (c *Client) SetCookie(name, value string) {
	cookie := &http.Cookie{Name: name, Value: value, Path: "/"}
	if value == "" {
		cookie.MaxAge = -1
	}
	c.jar.SetCookies(c.base, []*http.Cookie{cookie})
}

// HandshakeError is the HTTP answer to a refused websocket.
type HandshakeError struct {
	Response

	Err error
}

func (e *HandshakeError) Error() string {
	return fmt.Sprintf("harness: websocket refused: %d: %v", e.Status, e.Err)
}

func (e *HandshakeError) Unwrap() error { return e.Err }

// Open opens a websocket at /ws/ with the client's cookies and additional headers in pairs. A refusal is a [*HandshakeError].
func (c *Client) Open(ctx context.Context, headers ...string) (*Window, error) {
	return c.OpenAt(ctx, "/ws/", headers...)
}

// OpenAt opens a websocket at another path.
func (c *Client) OpenAt(ctx context.Context, path string, headers ...string) (*Window, error) {
	target, err := c.base.Parse(path)
	if err != nil {
		return nil, fmt.Errorf("harness: %w", err)
	}
	target.Scheme = strings.Replace(target.Scheme, "http", "ws", 1)
	header := http.Header{}
	for i := 0; i+1 < len(headers); i += 2 {
		header.Add(headers[i], headers[i+1])
	}
	dialer := websocket.Dialer{Jar: c.jar, HandshakeTimeout: dialTimeout}
	conn, resp, err := dialer.DialContext(ctx, target.String(), header)
	if err != nil {
		if resp == nil {
			return nil, fmt.Errorf("harness: websocket: %w", err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body) // gorilla keeps the first kilobyte
		return nil, &HandshakeError{Response{resp.StatusCode, resp.Header, string(body)}, err}
	}
	return newWindow(conn), nil
}
