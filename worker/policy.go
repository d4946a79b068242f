package worker

import (
	"sync/atomic"
	"time"
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
	p.timeLimit.Store(int64(orDefault(o.TimeLimit, site.timeLimit)))
	p.softTimeLimit.Store(int64(orDefault(o.SoftTimeLimit, site.softTimeLimit)))
}
