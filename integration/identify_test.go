//go:build integration

package integration

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/integration/harness"
)

// visitorKind is somebody who opened a page, and what happened to him then.
type visitorKind struct {
	name    string
	login   bool
	action  string            // of manage.py identity
	cookies map[string]string // of the browser, from the start
	headers []string          // likewise
	leaves  string            // a cookie that the browser loses after the page
	// other: somebody else has logged in since, or nobody is any more; then the page's topics are for the window alone.
	other bool
}

var visitorKinds = []visitorKind{
	{name: "anonymous"},
	{name: "user", login: true},
	{name: "staff", login: true},
	{name: "root", login: true},
	{name: "inactive", login: true, action: "deactivate", other: true},
	{name: "loggedout", login: true, action: "flush", other: true},
	{name: "expired", login: true, action: "expire", other: true},
	{name: "changed", login: true, action: "set-password", other: true},
	{name: "deleted", login: true, action: "delete", other: true},
	{name: "rotated", login: true, action: "rotate"},
	{name: "language", login: true, cookies: map[string]string{"django_language": "pt-br"}},
	{name: "accept", login: true, headers: []string{"Accept-Language", "de;q=0.5, es-AR"}},
	{name: "foreign", login: true, leaves: "sessionid", other: true},
}

// seen is what a server made of a handshake.
type seen struct {
	Info   map[string]any
	Groups []string
}

// arrival is one visitor of one server.
type arrival struct {
	kind   *visitorKind
	user   string
	client *harness.Client
	topics map[string]string // group → what it is for
}

// identifyRig is a site whose tasks nobody takes: they tell what a server knows about a window.
type identifyRig struct {
	*harness.Site
	t       *testing.T
	django  *harness.Server
	servers []string // names, daphne last: it deletes sessions
	urls    map[string]*url.URL
}

func newIdentifyRig(t *testing.T, ctx context.Context, strategies map[string]string, order ...string) *identifyRig {
	t.Helper()
	site := must1(lab(t).NewSite(ctx, harness.SiteOptions{}))(t)
	r := &identifyRig{Site: site, t: t, servers: order, urls: map[string]*url.URL{}}
	settings := must1(site.ExportSettings(ctx))(t)
	r.django = must1(site.Gunicorn(ctx))(t)
	for name, strategy := range strategies {
		gateway := must1(site.Gateway(ctx, harness.GatewayOptions{
			Name: "identify-" + name, Upstream: r.django.URL, Settings: settings, Args: []string{"--identify", strategy},
		}))(t)
		r.urls[name] = gateway.URL
	}
	return r
}

// arrive renders a page for a visitor, and gives the cookies to a client of a server.
func (r *identifyRig) arrive(ctx context.Context, kind *visitorKind, server string) *arrival {
	r.t.Helper()
	a := &arrival{kind: kind, client: harness.NewClient(r.urls[server])}
	browser := harness.NewClient(r.django.URL)
	for name, value := range kind.cookies {
		browser.SetCookie(name, value)
		a.client.SetCookie(name, value)
	}
	if kind.login {
		a.user = kind.name + "-" + server
		must(r.t, browser.Login(ctx, a.user))
	}
	topic := "news of " + kind.name + " and " + server
	response := must1(browser.Get(ctx, "/page/?"+url.Values{"topic": {topic}}.Encode(), kind.headers...))(r.t)
	var page struct {
		Key  string `json:"window_key"`
		User *int   `json:"user"`
	}
	must(r.t, json.Unmarshal([]byte(response.Body), &page))
	a.topics = map[string]string{
		compat.GroupName(compat.WindowTopic(page.Key)): "window", compat.GroupName(compat.StringTopic(topic)): "news",
	}
	if page.User != nil {
		a.topics[compat.GroupName(compat.UserTopic("auth.user", strconv.Itoa(*page.User)))] = "user"
	}
	for _, name := range []string{"dfwskey", "sessionid", "csrftoken"} {
		if name != kind.leaves {
			a.client.SetCookie(name, browser.Cookie(name))
		}
	}
	return a
}

// act lets another process do something to visitors; it returns when that was done.
func (r *identifyRig) act(ctx context.Context, action string, arrivals ...*arrival) time.Time {
	r.t.Helper()
	var users, sessions []string
	for _, a := range arrivals {
		users, sessions = append(users, a.user), append(sessions, a.client.Cookie("sessionid"))
	}
	return r.manage(ctx, action, strings.Join(users, ","), strings.Join(sessions, ","))
}

func (r *identifyRig) manage(ctx context.Context, args ...string) time.Time {
	r.t.Helper()
	out := must1(r.Manage(ctx, append([]string{"identity"}, args...)...))(r.t)
	seconds := must1(strconv.ParseFloat(strings.TrimSpace(out), 64))(r.t)
	return time.UnixMicro(int64(seconds * 1e6))
}

// look opens the visitor's window and returns what the server made of the handshake.
func (r *identifyRig) look(ctx context.Context, a *arrival) seen {
	r.t.Helper()
	w := must1(a.client.Open(ctx, append([]string{"User-Agent", "Parity/1"}, a.kind.headers...)...))(r.t)
	defer w.Close()
	must(r.t, w.Call("rule.fence", map[string]any{"mark": a.kind.name}))
	found := seen{Info: r.task(ctx)}
	for _, name := range []string{"window_key", "csrf_cookie", "user_pk", "username"} { // each visitor has others
		if text, ok := found.Info[name].(string); ok {
			found.Info[name] = strings.NewReplacer(a.client.Cookie("dfwskey"), "KEY", a.client.Cookie("csrftoken"), "CSRF", a.user, "USER").Replace(text)
		} else if found.Info[name] != nil {
			found.Info[name] = "a number"
		}
	}
	layer := r.Database(harness.LayerDB)
	defer layer.Close()
	for group, label := range a.topics {
		if must1(layer.Exists(ctx, "asgi:group:"+group).Result())(r.t) > 0 {
			found.Groups = append(found.Groups, label)
		}
	}
	slices.Sort(found.Groups)
	return found
}

// task takes the next task and returns its window info.
func (r *identifyRig) task(ctx context.Context) map[string]any {
	r.t.Helper()
	broker := r.Database(harness.BrokerDB)
	defer broker.Close()
	popped, err := broker.BRPop(ctx, patience, "celery").Result()
	if errors.Is(err, redis.Nil) {
		r.t.Fatal("no task arrived")
	}
	must(r.t, err)
	var envelope struct {
		Body string `json:"body"`
	}
	must(r.t, json.Unmarshal([]byte(popped[1]), &envelope))
	var body []json.RawMessage
	must(r.t, json.Unmarshal(must1(base64.StdEncoding.DecodeString(envelope.Body))(r.t), &body))
	var args []json.RawMessage
	must(r.t, json.Unmarshal(body[0], &args))
	var info map[string]any
	must(r.t, json.Unmarshal(args[1], &info))
	return info
}

// TestIdentifyParity: for each kind of visitor, every strategy gives the window info that df_websockets' consumer computes, and its topics; but
// those that were bound for a user who is not there any more.
func TestIdentifyParity(t *testing.T) {
	ctx := deadline(t)
	order := []string{"ticket", "native", "callback", "auto", "daphne"}
	r := newIdentifyRig(t, ctx, map[string]string{"ticket": "ticket", "native": "native", "callback": "callback", "auto": "auto"}, order...)
	r.urls["daphne"] = must1(r.Daphne(ctx))(t).URL
	var users []string
	for i := range visitorKinds {
		for _, server := range order {
			users = append(users, visitorKinds[i].name+"-"+server)
		}
	}
	r.manage(ctx, "create", strings.Join(users, ","))
	for i := range visitorKinds {
		kind := &visitorKinds[i]
		t.Run(kind.name, func(t *testing.T) {
			r.t = t
			var arrivals []*arrival
			for _, server := range order {
				arrivals = append(arrivals, r.arrive(ctx, kind, server))
			}
			if kind.action != "" {
				r.act(ctx, kind.action, arrivals...)
			}
			found := map[string]seen{}
			for j, server := range order {
				found[server] = r.look(ctx, arrivals[j])
			}
			comparePlaces(t, kind, found)
		})
	}
}

func comparePlaces(t *testing.T, kind *visitorKind, found map[string]seen) {
	t.Helper()
	want := found["daphne"]
	if kind.name == "rotated" {
		// channels deletes a session whose hash was made with an older key; Django accepts it.
		if want.Info["user_pk"] != nil {
			t.Error("channels knows fallback keys now: this exception can go")
		}
		want = found["callback"]
		if want.Info["user_pk"] == nil {
			t.Error("the session of an older key is nobody's")
		}
	}
	if kind.other {
		want.Groups = []string{"window"}
	}
	servers := []string{"native", "callback", "auto", "ticket"}
	if kind.name == "expired" {
		servers = servers[:2] // a ticket expires with the session, but nobody told Redis that this one became older
	}
	for _, server := range servers {
		if server == "ticket" && kind.other {
			continue
		}
		if diff := cmp.Diff(want, found[server]); diff != "" {
			t.Errorf("%s: daphne (-) and %s (+):\n%s", kind.name, server, diff)
		}
	}
	// The ticket is gone, or somebody else's: without another strategy the window is nobody's, in the site's own language.
	ticket := found["ticket"]
	if kind.other && kind.name != "expired" && (ticket.Info["user_pk"] != nil || slices.Contains(ticket.Groups, "user") || slices.Contains(ticket.Groups, "news")) {
		t.Errorf("%s: a ticket that is worth nothing gave %+v", kind.name, ticket)
	}
}

// TestRevokedEverywhere: a window closes within a second of whatever ended its identity, in whichever process that was.
func TestRevokedEverywhere(t *testing.T) {
	ctx := deadline(t)
	order := []string{"ticket", "native", "callback"}
	r := newIdentifyRig(t, ctx, map[string]string{"ticket": "ticket", "native": "native", "callback": "callback"}, order...)
	actions := []string{"flush", "clearsessions", "set-password", "admin-form", "changepassword", "deactivate", "delete", "update"}
	var users []string
	for _, action := range actions {
		for _, server := range order {
			users = append(users, action+"-"+server)
		}
	}
	r.manage(ctx, "create", strings.Join(users, ","))
	for _, action := range actions {
		t.Run(action, func(t *testing.T) {
			r.t = t
			var arrivals []*arrival
			for _, server := range order {
				if action != "update" || server == "native" { // nobody announces a query; only who looks sees it
					arrivals = append(arrivals, r.arrive(ctx, &visitorKind{name: action, login: true}, server))
				}
			}
			windows := make([]*harness.Window, len(arrivals))
			for i, a := range arrivals {
				windows[i] = must1(a.client.Open(ctx))(t)
				t.Cleanup(func() { _ = windows[i].Close() })
			}
			type end struct {
				code int
				at   time.Time
				err  error
			}
			ends := make([]chan end, len(windows))
			for i, w := range windows {
				ends[i] = make(chan end, 1) // one value, sent by the goroutine below
				go func() {
					code, _, err := w.CloseCode(soon(t, ctx))
					ends[i] <- end{code, time.Now(), err}
				}()
			}
			done := r.act(ctx, action, arrivals...)
			for i, endC := range ends {
				e := <-endC
				if late := e.at.Sub(done); e.err != nil || e.code != 4403 || late > time.Second {
					t.Errorf("%s: closed with %d (%v), %v after it happened", arrivals[i].user, e.code, e.err, late)
				}
			}
		})
	}
}

// TestCallbackForged: who has not the key learns nothing from Django, directly or through the gateway.
func TestCallbackForged(t *testing.T) {
	ctx := deadline(t)
	site := full(t)
	proof := "v1 " + strconv.FormatInt(time.Now().Unix(), 10) + " " + strings.Repeat("0", 32) + " " + strings.Repeat("0", 64)
	question := `{"schema":1,"path":"/ws/","query":"","headers":[],"client":null,"server":null}`
	direct := harness.NewClient(site.django.URL)
	answer := must1(direct.Do(ctx, "POST", "/ws/", strings.NewReader(question), "X-DFWS-Identify", proof))(t)
	if answer.Status != 403 || answer.Header.Get("X-DFWS-Signature") != "" || strings.Contains(answer.Body, "window_info") {
		t.Errorf("%d %v %s", answer.Status, answer.Header, answer.Body)
	}
	through := harness.NewClient(site.gateway.URL)
	if answer = must1(through.Do(ctx, "POST", "/ws/", strings.NewReader(question), "X-DFWS-Identify", proof))(t); answer.Status == 403 && strings.Contains(answer.Body, "signature") {
		t.Errorf("the gateway passed the header on: %d %s", answer.Status, answer.Body)
	}
}
