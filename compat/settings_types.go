package compat

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// unsupported is how the export writes what only Python can run.
type unsupported struct {
	Unsupported string `json:"unsupported"`
}

// Choice is a setting that is a name for Celery's own code, or code of the site, which only Python can run.
type Choice struct {
	// Name is the name; empty where the setting is not set.
	Name string
	// Unsupported describes the site's code; empty where there is none.
	Unsupported string
}

// UnmarshalJSON reads a text, or {"unsupported": …}.
func (c *Choice) UnmarshalJSON(b []byte) error {
	*c = Choice{}
	if len(b) > 0 && b[0] == '{' {
		var u unsupported
		if err := json.Unmarshal(b, &u); err != nil {
			return err
		}
		c.Unsupported = u.Unsupported
		return nil
	}
	return json.Unmarshal(b, &c.Name)
}

// MarshalJSON writes what UnmarshalJSON reads.
func (c Choice) MarshalJSON() ([]byte, error) {
	if c.Unsupported != "" {
		return json.Marshal(unsupported{c.Unsupported})
	}
	return json.Marshal(c.Name)
}

// Concurrency is a number of slots; 0 means one for each CPU.
type Concurrency int

// ConcurrencyAuto is worker_concurrency = "auto" of Celery 5.7: as many as the container's quota of CPU allows.
const ConcurrencyAuto Concurrency = -1

// UnmarshalJSON reads a number, "auto" or null.
func (c *Concurrency) UnmarshalJSON(b []byte) error {
	if string(b) == `"auto"` {
		*c = ConcurrencyAuto
		return nil
	}
	var n int
	if err := json.Unmarshal(b, &n); err != nil || n < 0 {
		return errors.New(`celery.worker_concurrency: neither a number of slots nor "auto"`)
	}
	*c = Concurrency(n)
	return nil
}

// MarshalJSON writes what UnmarshalJSON reads.
func (c Concurrency) MarshalJSON() ([]byte, error) {
	if c == ConcurrencyAuto {
		return []byte(`"auto"`), nil
	}
	return strconv.AppendInt(nil, int64(c), 10), nil
}

// RetryPolicy is task_publish_retry_policy. What a site's policy leaves out has the default of kombu's Connection.ensure, not Celery's.
type RetryPolicy struct {
	// MaxRetries is how often to try again; nil is without end.
	MaxRetries *int `json:"max_retries"`
	// IntervalStart is the first pause.
	IntervalStart Seconds `json:"interval_start"`
	// IntervalStep is what each further pause is longer by.
	IntervalStep Seconds `json:"interval_step"`
	// IntervalMax is the longest pause.
	IntervalMax Seconds `json:"interval_max"`
}

// UnmarshalJSON reads a policy, with kombu's defaults (kombu 5.7, connection.py).
func (p *RetryPolicy) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	type plain RetryPolicy // without this method
	policy := plain{IntervalStart: 1, IntervalStep: 1, IntervalMax: 1}
	if err := json.Unmarshal(b, &policy); err != nil {
		return err
	}
	*p = RetryPolicy(policy)
	return nil
}

// ParseRate reads a rate limit as Celery does (celery.utils.time.rate): a number of tasks per second, or with "/s", "/m" or "/h" behind it.
// The result is tasks per second; 0 is no limit, which an empty text is as well.
func ParseRate(text string) (perSecond float64, err error) {
	if text == "" {
		return 0, nil
	}
	number, unit, _ := strings.Cut(text, "/")
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || !(n >= 0 && n <= maxRate) { // NaN too
		return 0, fmt.Errorf("compat: rate limit %q: no number of tasks", text)
	}
	switch unit {
	case "", "s":
		return n, nil
	case "m":
		return n / 60, nil
	case "h":
		return n / 3600, nil
	}
	return 0, fmt.Errorf("compat: rate limit %q: the unit is none of s, m and h", text)
}

// maxRate bounds a rate limit: more tasks a second than any worker runs.
const maxRate = 1e12

// ResultStore is where results are kept.
type ResultStore int

const (
	// NoResults: the site keeps none.
	NoResults ResultStore = iota
	// RedisResults: in Redis; ResultBackend is the URL.
	RedisResults
	// DatabaseResults: in the database ResultDatabase, in the tables of django-celery-results.
	DatabaseResults
)

// Names of the result backends of django-celery-results, whatever the site calls them.
const (
	backendDjangoDatabase = "django-db"
	backendDjangoCache    = "django-cache"
)

// ResultStore says what ResultBackend is. The error names a backend that only Python has.
func (c *Celery) ResultStore() (ResultStore, error) {
	text := c.ResultBackend.Reveal()
	scheme, _, isURL := strings.Cut(text, "://")
	switch {
	case text == "" || text == "disabled":
		return NoResults, nil
	case isURL && isRedisBackend(scheme):
		return RedisResults, nil
	case text == backendDjangoDatabase:
		return DatabaseResults, nil
	case text == backendDjangoCache:
		return NoResults, errors.New("compat: settings: celery.result_backend: django-cache keeps results as pickles in a Django cache, " +
			"which only Python reads: use Redis or django-db")
	}
	if !isURL && strings.ContainsAny(text, "@/ ") {
		scheme = "this one" // a text that may hold a password
	}
	return NoResults, fmt.Errorf("compat: settings: celery.result_backend: %s is not supported: Redis, Sentinel and django-db are", scheme)
}

// isRedisBackend reports whether a scheme is one of celery.backends.redis (celery 5.7, app/backends.py), or another way to write one.
func isRedisBackend(scheme string) bool {
	switch scheme {
	case "redis", "rediss", "sentinel", "redis+socket", "socket", "unix", "redis+sentinel":
		return true
	}
	return false
}

// AcksOnFailure reports whether a failed task with late acknowledgement is acknowledged (celery.app.task.Task.bind).
func (c *Celery) AcksOnFailure() bool {
	return orDefault(c.TaskAcksOnFailure, c.TaskAcksOnFailureOrTimeout)
}

// AcksOnTimeout reports whether a task with late acknowledgement that hit its time limit is acknowledged.
func (c *Celery) AcksOnTimeout() bool {
	return orDefault(c.TaskAcksOnTimeout, c.TaskAcksOnFailureOrTimeout)
}

func orDefault(value *bool, otherwise bool) bool {
	if value == nil {
		return otherwise
	}
	return *value
}
