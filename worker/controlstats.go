package worker

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

// poolName is what stats names as the pool: jobs run in goroutines.
const poolName = "dfws.worker:Goroutines"

// stats is WorkController.stats (celery 5.7, worker/worker.py) with the parts of its steps.
func (r *remote) stats(context.Context, *arguments) (celeryproto.Raw, error) {
	e := r.engine
	o := new(object).raw("total", e.handlers.totals()).int("pid", int64(r.node.pid)).
		text("clock", strconv.FormatInt(r.node.clock.Value(), 10)).int("uptime", int64(time.Since(r.node.began)/time.Second)).
		raw("pool", r.pool())
	if e.scaler != nil {
		least, most := e.scaler.bounds()
		size, _, waiting := e.slots.counts()
		o.raw("autoscaler", new(object).int("max", int64(most)).int("min", int64(least)).int("current", int64(size)).
			int("qty", int64(waiting)).json())
	}
	return o.raw("broker", brokerInfo(e.cfg.Settings.Celery.BrokerURL.Reveal(), celeryproto.Raw(e.cfg.Settings.Celery.BrokerTransportOptions))).
		int("prefetch_count", int64(e.source.prefetch())).raw("rusage", rusage()).json(), nil
}

// pool is what celery 5.7, concurrency/prefork.py, tells of itself.
func (r *remote) pool() celeryproto.Raw {
	size, _, _ := r.engine.slots.counts()
	site := &r.engine.handlers.site
	timeouts := rawList(secondsOrZero(site.softTimeLimit), secondsOrZero(cmp.Or(site.timeLimit, r.engine.cfg.HandlerTimeout)))
	return new(object).text("implementation", poolName).int("max-concurrency", int64(size)).
		raw("processes", rawList(rawInt(int64(r.node.pid)))).text("max-tasks-per-child", "N/A").
		raw("put-guarded-by-semaphore", rawBool(false)).raw("timeouts", timeouts).text("writes", "N/A").json()
}

func secondsOrZero(d time.Duration) celeryproto.Raw {
	if d%time.Second == 0 {
		return rawInt(int64(d / time.Second))
	}
	return rawFloat(d.Seconds())
}

// secondsText is a limit as str() shows it in Python; "" for none.
func secondsText(d int64) string {
	if d == 0 {
		return ""
	}
	return string(secondsOrZero(time.Duration(d)))
}

// totals are how many jobs of each task have begun.
func (h *handlers) totals() celeryproto.Raw {
	var o object
	for _, name := range h.names() {
		policy := &h.signalPolicy
		if t := h.tasks[name]; t != nil {
			policy = &t.policy
		}
		if n := policy.accepted.Load(); n > 0 {
			o.int(name, n)
		}
	}
	return o.json()
}

// accepted is how many jobs have begun.
func (h *handlers) accepted() int {
	n := h.signalPolicy.accepted.Load()
	for _, t := range h.tasks {
		n += t.policy.accepted.Load()
	}
	return int(n)
}

// brokerInfo is Connection.info of kombu 5.7, connection.py, without the password.
func brokerInfo(raw string, options celeryproto.Raw) celeryproto.Raw {
	urls := splitURLs(maskURL(raw))
	first, err := url.Parse(urls[0])
	if err != nil {
		first = &url.URL{Scheme: "redis"}
	}
	host, database := rawText(first.Hostname()), strings.TrimPrefix(first.Path, "/")
	port := rawNull
	if n, err := strconv.Atoi(first.Port()); err == nil {
		port = rawInt(int64(n))
	}
	if first.Host == "" && first.Path != "" { // a socket
		host, database = rawText(first.Path), first.Query().Get("virtual_host")
	}
	user := rawNull
	if name := first.User.Username(); name != "" {
		user = rawText(name)
	}
	alternates := []celeryproto.Raw{}
	if len(urls) > 1 {
		for _, u := range urls {
			alternates = append(alternates, rawText(u))
		}
	}
	if options = hideSecrets(options); len(options) == 0 {
		options = celeryproto.Raw("{}")
	}
	if database == "" {
		database = "0"
	}
	const connectTimeout, heartbeat = 4, 120.0 // broker_connection_timeout and broker_heartbeat, which Redis has no use for
	return new(object).raw("hostname", host).raw("userid", user).text("virtual_host", database).raw("port", port).
		raw("insist", rawBool(false)).raw("ssl", rawBool(first.Scheme == "rediss")).text("transport", first.Scheme).
		int("connect_timeout", connectTimeout).raw("transport_options", options).raw("login_method", rawNull).raw("uri_prefix", rawNull).
		raw("heartbeat", rawFloat(heartbeat)).text("failover_strategy", "round-robin").raw("alternates", rawList(alternates...)).
		raw("credential_provider", rawNull).json()
}

// hideSecrets replaces the values of members whose names say that they are secret, at any depth, and the passwords of URLs.
func hideSecrets(raw celeryproto.Raw) celeryproto.Raw {
	switch raw.Kind() {
	case celeryproto.KindObject:
		members, err := raw.Object()
		if err != nil {
			return rawNull
		}
		for i, m := range members {
			if isHidden(m.Key) && !m.Value.IsNull() {
				members[i].Value = rawText(mask)
			} else {
				members[i].Value = hideSecrets(m.Value)
			}
		}
		return members.Append(nil)
	case celeryproto.KindArray:
		elements, err := raw.Array()
		if err != nil {
			return rawNull
		}
		for i := range elements {
			elements[i] = hideSecrets(elements[i])
		}
		return rawList(elements...)
	case celeryproto.KindString:
		if text, err := raw.Text(); err == nil && strings.Contains(text, "://") {
			return rawText(maskURL(text))
		}
		return raw
	default:
		return raw
	}
}

// memorySamples are what memsample has seen, for memdump (celery 5.7, utils/debug.py).
var memorySamples struct {
	mu    sync.Mutex // guards the other field
	texts []string   // the oldest first, at most maxMemorySamples
}

const maxMemorySamples = 1000

// memsample notes how much memory the process has.
func (r *remote) memsample(context.Context, *arguments) (celeryproto.Raw, error) {
	text := memoryText()
	memorySamples.mu.Lock()
	defer memorySamples.mu.Unlock()
	if len(memorySamples.texts) == maxMemorySamples {
		memorySamples.texts = memorySamples.texts[1:]
	}
	memorySamples.texts = append(memorySamples.texts, text)
	return rawText(text), nil
}

// memdump lists some of the samples, and forgets them.
func (r *remote) memdump(_ context.Context, args *arguments) (celeryproto.Raw, error) {
	const usual = 10
	n := args.count("samples", usual)
	if args.err != nil {
		return nil, args.err
	}
	memorySamples.mu.Lock()
	texts := memorySamples.texts
	memorySamples.texts = nil
	memorySamples.mu.Unlock()
	var b strings.Builder
	if n = min(n, len(texts)); n > 0 {
		b.WriteString("- rss (sample):\n")
		step := len(texts) / n
		for i := range n {
			fmt.Fprintf(&b, "-    > %s,\n", texts[i*step])
		}
	}
	runtime.GC()
	fmt.Fprintf(&b, "- rss (end): %s.\n", memoryText())
	return rawText(b.String()), nil
}

// memoryText is the memory that the process holds, as celery 5.7, utils/debug.py (humanbytes), shows it.
func memoryText() string {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	bytes := float64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
	units := []struct {
		size float64
		name string
	}{{1 << 40, "TB"}, {1 << 30, "GB"}, {1 << 20, "MB"}, {1 << 10, "KB"}}
	for _, u := range units {
		if bytes >= u.size {
			return strconv.FormatFloat(bytes/u.size, 'g', 5, 64) + u.name
		}
	}
	return strconv.FormatFloat(bytes, 'f', 0, 64) + "B"
}
