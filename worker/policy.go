package worker

import (
	"cmp"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
)

// policy is what TaskOptions come to on a site. What remote control changes is atomic.
type policy struct {
	options TaskOptions

	acksLate, acksOnFailure, acksOnTimeout, requeueLost bool
	ignoreResult, storeErrors, trackStarted, sendEvents bool

	timeLimit, softTimeLimit atomic.Int64 // time.Duration, 0 for none
	accepted                 atomic.Int64 // how many of the task's jobs began
}

// sitePolicy is what a site's settings say of tasks that say nothing themselves.
type sitePolicy struct {
	ackEarly                                bool // Config.AckEarly
	ignoreResult, storeErrors, trackStarted bool
	acksOnFailure, acksOnTimeout            bool
	requeueLost                             bool
	timeLimit, softTimeLimit                time.Duration
	rateLimit                               string
	noRateLimits                            bool // worker_disable_rate_limits
}

// resolve fills a policy in.
func (p *policy) resolve(o TaskOptions, site *sitePolicy) {
	p.options = o
	p.acksLate = o.AcksLate.or(!site.ackEarly)
	p.acksOnFailure = o.AcksOnFailure.or(site.acksOnFailure)
	p.acksOnTimeout = o.AcksOnTimeout.or(site.acksOnTimeout)
	p.requeueLost = o.RejectOnWorkerLost.or(site.requeueLost)
	p.ignoreResult = o.IgnoreResult.or(site.ignoreResult)
	p.storeErrors = o.StoreErrorsEvenIfIgnored.or(site.storeErrors)
	p.trackStarted = o.TrackStarted.or(site.trackStarted)
	p.sendEvents = o.SendEvents.or(true)
	p.timeLimit.Store(int64(cmp.Or(o.TimeLimit, site.timeLimit)))
	p.softTimeLimit.Store(int64(cmp.Or(o.SoftTimeLimit, site.softTimeLimit)))
}

// annotated are the options of a task with those of task_annotations over them, which win in Celery too. What an annotation says that a
// Go task has not, Python's methods and classes among it, is named in the log.
func (c *Config) annotated(task string, o TaskOptions) (TaskOptions, error) {
	attributes, err := c.Settings.Celery.Annotation(task)
	if err != nil {
		c.Logger.Warn("annotations that only Python can apply", "task", task, "err", err)
	}
	var faults []error
	if both, found := attributes[bothAcks]; found { // one of the two by itself comes before it
		delete(attributes, bothAcks)
		for _, name := range []string{"acks_on_failure", "acks_on_timeout"} {
			if _, found := attributes[name]; !found {
				attributes[name] = both
			}
		}
	}
	for name, value := range attributes {
		known, err := o.annotate(name, value)
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("task_annotations: %s: %w", name, err))
		case !known:
			c.Logger.Warn("annotation without effect on a Go task", "task", task, "attribute", name)
		}
	}
	return o, errors.Join(faults...)
}

// bothAcks is the attribute for acks_on_failure and acks_on_timeout, which are of Celery 5.7.
const bothAcks = "acks_on_failure_or_timeout"

// annotate sets one attribute by its name in Python.
func (o *TaskOptions) annotate(name string, value celeryproto.Raw) (known bool, err error) {
	choices := map[string]*Choice{
		"acks_late": &o.AcksLate, "acks_on_failure": &o.AcksOnFailure, "acks_on_timeout": &o.AcksOnTimeout,
		"reject_on_worker_lost": &o.RejectOnWorkerLost, "ignore_result": &o.IgnoreResult, "track_started": &o.TrackStarted,
		"store_errors_even_if_ignored": &o.StoreErrorsEvenIfIgnored, "send_events": &o.SendEvents,
	}
	durations := map[string]*time.Duration{
		"time_limit": &o.TimeLimit, "soft_time_limit": &o.SoftTimeLimit, "default_retry_delay": &o.RetryDelay,
	}
	if choice := choices[name]; choice != nil {
		if value.IsNull() { // as if the task said nothing
			*choice = SiteDefault
			return true, nil
		}
		yes, err := value.Bool()
		if err != nil {
			return true, err
		}
		*choice = No
		if yes {
			*choice = Yes
		}
		return true, nil
	}
	if d := durations[name]; d != nil {
		seconds, err := secondsOf(value)
		*d = seconds
		return true, err
	}
	switch name {
	case "rate_limit":
		o.RateLimit, err = rateText(value)
	case "max_retries":
		o.MaxRetries, err = retriesOf(value)
	default:
		return false, nil
	}
	return true, err
}

func secondsOf(value celeryproto.Raw) (time.Duration, error) {
	if value.IsNull() {
		return 0, nil
	}
	n, err := value.Number()
	if err != nil {
		return 0, err
	}
	switch n := n.(type) {
	case int64:
		return compat.Seconds(n).Duration(), nil
	case float64:
		return compat.Seconds(n).Duration(), nil
	}
	return 0, errors.New("out of range")
}

// rateText is a rate limit, which may be a number or none.
func rateText(value celeryproto.Raw) (string, error) {
	text := value.String()
	switch value.Kind() {
	case celeryproto.KindNull:
		return "0", nil // none, whatever the site's default is
	case celeryproto.KindString:
		var err error
		if text, err = value.Text(); err != nil {
			return "", err
		}
	}
	_, err := ParseRate(text)
	return text, err
}

// retriesOf is max_retries as TaskOptions has it.
func retriesOf(value celeryproto.Raw) (int, error) {
	if value.IsNull() {
		return UnlimitedRetries, nil
	}
	n, err := value.Number()
	if err != nil {
		return 0, err
	}
	switch n, isInt := n.(int64); {
	case !isInt || n < 0 || n > 1<<31:
		return 0, errors.New("out of range")
	case n == 0:
		return NoRetries, nil
	default:
		return int(n), nil
	}
}
