package worker

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Choice is a yes or no that a handler may leave to the site's Celery settings.
type Choice int8

// The choices.
const (
	SiteDefault Choice = iota // what the site's settings say
	Yes
	No
)

// or is the choice, or what the site says.
func (c Choice) or(site bool) bool {
	switch c {
	case Yes:
		return true
	case No:
		return false
	default:
		return site
	}
}

// Values of TaskOptions.MaxRetries beside a number.
const (
	// DefaultMaxRetries is Celery's Task.max_retries (celery/app/task.py).
	DefaultMaxRetries = 3
	// UnlimitedRetries is Celery's max_retries=None.
	UnlimitedRetries = -1
	// NoRetries is Celery's max_retries=0.
	NoRetries = -2
)

// Defaults of retries (celery 5.7, app/task.py and app/autoretry.py).
const (
	DefaultRetryDelay      = 3 * time.Minute
	DefaultRetryBackoffMax = 10 * time.Minute
)

// TaskOptions are the attributes of a Celery task by the same names. The zero value of each field is what the site's settings
// say, or Celery's default.
type TaskOptions struct {
	// AcksLate acks the message after the task ran instead of before it: a task whose worker dies is run again. The default
	// is yes unless Config.AckEarly is set, whatever task_acks_late says: nothing is lost without somebody asking for it.
	AcksLate Choice
	// AcksOnFailure acks a task that failed (task_acks_on_failure, default yes). No: the message is rejected, which drops it
	// from Redis as well; the failure is stored either way. For tasks with AcksLate.
	AcksOnFailure Choice
	// AcksOnTimeout acks a task whose hard time limit was over (task_acks_on_timeout, default yes). No: it goes back to its
	// queue. For tasks with AcksLate.
	AcksOnTimeout Choice
	// RejectOnWorkerLost gives a task back to its queue whose handler ended its goroutine with runtime.Goexit, as Celery does
	// with a task whose process died (task_reject_on_worker_lost, default no: a FAILURE). For tasks with AcksLate. A Go worker
	// that is killed as a whole leaves its tasks with AcksLate in Redis, whatever this says: they are run again.
	RejectOnWorkerLost Choice
	// IgnoreResult stores neither results nor failures, unless the message asks for them (task_ignore_result).
	IgnoreResult Choice
	// StoreErrorsEvenIfIgnored stores failures of tasks whose results are ignored (task_store_errors_even_if_ignored).
	StoreErrorsEvenIfIgnored Choice
	// TrackStarted stores STARTED when the task begins (task_track_started).
	TrackStarted Choice
	// SendEvents publishes the task's events where the worker publishes any; default yes.
	SendEvents Choice
	// TimeLimit is the hard limit: the handler's context ends, the task is a FAILURE (TimeLimitExceeded) and its slot is free for
	// the next, whether or not the handler returns. Zero: task_time_limit. The message's own limit comes first. `celery control
	// time_limit` changes it.
	TimeLimit time.Duration
	// SoftTimeLimit ends the handler's context with a *LimitError as its cause and leaves the handler the time until the hard
	// limit. Zero: task_soft_time_limit.
	SoftTimeLimit time.Duration
	// RateLimit is how often this worker begins the task: "10/s", "2/m", "100/h", or a number per second (task_default_rate_limit).
	// `celery control rate_limit` changes it.
	RateLimit string
	// MaxRetries is how often the task may be retried: 3 when 0; UnlimitedRetries, NoRetries.
	MaxRetries int
	// RetryDelay is the wait before a retry that does not say; 3 minutes when 0.
	RetryDelay time.Duration
	// AutoRetry makes a failure a retry when it returns true for the handler's error (autoretry_for, dont_autoretry_for).
	AutoRetry func(error) bool
	// RetryBackoff is the wait before the first automatic retry, which doubles with each further one up to RetryBackoffMax
	// (10 minutes when 0); zero: RetryDelay each time. RetryJitter takes a random time from zero up to that; default yes.
	RetryBackoff, RetryBackoffMax time.Duration
	RetryJitter                   Choice
	// Throws says which errors are part of the task's work: they are logged without alarm.
	Throws func(error) bool
	// ResultReprMaxSize bounds the text of a result in events; 1,024 when 0.
	ResultReprMaxSize int
}

// check reports faults of a handler's author.
func (o *TaskOptions) check() error {
	var faults []error
	for name, d := range map[string]time.Duration{
		"TimeLimit": o.TimeLimit, "SoftTimeLimit": o.SoftTimeLimit, "RetryDelay": o.RetryDelay,
		"RetryBackoff": o.RetryBackoff, "RetryBackoffMax": o.RetryBackoffMax,
	} {
		if d < 0 {
			faults = append(faults, fmt.Errorf("%s is negative", name))
		}
	}
	if o.SoftTimeLimit > 0 && o.TimeLimit > 0 && o.SoftTimeLimit > o.TimeLimit {
		faults = append(faults, errors.New("SoftTimeLimit is longer than TimeLimit"))
	}
	if o.MaxRetries < NoRetries {
		faults = append(faults, fmt.Errorf("MaxRetries is %d", o.MaxRetries))
	}
	if _, err := ParseRate(o.RateLimit); err != nil {
		faults = append(faults, fmt.Errorf("RateLimit: %w", err))
	}
	return errors.Join(faults...)
}

// maxRetries is the number of retries, -1 for no limit.
func (o *TaskOptions) maxRetries() int {
	switch o.MaxRetries {
	case 0:
		return DefaultMaxRetries
	case NoRetries:
		return 0
	default:
		return o.MaxRetries
	}
}

// backoff is the wait before an automatic retry; retries counts those before it
// (celery 5.7, utils/time.py, get_exponential_backoff_interval).
func (o *TaskOptions) backoff(retries int) time.Duration {
	if o.RetryBackoff == 0 {
		return cmp.Or(o.RetryDelay, DefaultRetryDelay)
	}
	most := cmp.Or(o.RetryBackoffMax, DefaultRetryBackoffMax)
	d := o.RetryBackoff
	for range retries {
		if d >= most {
			break
		}
		d *= 2
	}
	d = min(d, most)
	if o.RetryJitter.or(true) {
		d = rand.N(d + 1)
	}
	return d
}

// ParseRate reads Celery's rate limits (celery 5.7, utils/time.py, rate): "10/s", "2/m", "100/h", a number per second; "" and
// numbers that are not positive are no limit, 0. The result is per second.
func ParseRate(s string) (float64, error) {
	if s == "" {
		return 0, nil
	}
	number, unit, found := strings.Cut(s, "/")
	per := 1.0
	if found {
		switch unit {
		case "", "s":
		case "m":
			per = 60
		case "h":
			per = 60 * 60
		default:
			return 0, fmt.Errorf("%q: want a number, or one with /s, /m or /h", s)
		}
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		return 0, fmt.Errorf("%q: want a number, or one with /s, /m or /h", s)
	}
	return max(n, 0) / per, nil
}
