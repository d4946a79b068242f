package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/dfws/dfws/compat/dispatch"
	"github.com/dfws/dfws/compat/djangostate"
)

// Native looks up who sits behind a window in Django's own state: compat/djangonative. It is an interface, because programs that need none
// are spared its drivers.
type Native interface {
	// Identify answers a question about a window. An error means that something did not answer, or holds what only Django can read.
	Identify(ctx context.Context, q djangostate.Question) (*djangostate.Answer, error)
	// Recheck tells which identities are not valid any more.
	Recheck(ctx context.Context, known []djangostate.Known) (stale []bool, err error)
}

// nativeStrategy believes Django's own state.
type nativeStrategy struct {
	native  Native
	topics  topicRules
	signed  bool // sessions live in their cookie
	breaker *breaker
	now     func() time.Time
}

// identify implements strategy.
func (s *nativeStrategy) identify(ctx context.Context, h handshake) (identified, error) {
	if err := s.breaker.allow(); err != nil {
		return identified{}, &identifyError{strategy: StrategyNative, reason: IdentifyOpen, err: err}
	}
	answer, err := s.native.Identify(ctx, djangostate.Question{
		WindowKey: h.windowKey, SessionCookie: h.session, CSRFCookie: h.csrfCookie, UserAgent: h.userAgent,
		LanguageCookie: h.language, AcceptLanguage: h.acceptLanguage,
	})
	if err != nil {
		return identified{}, s.failed(ctx, h, err)
	}
	s.breaker.done(nil)
	who := identity{raw: answer.WindowInfo.AppendJSON(nil), window: windowHash(h.windowKey)}
	userPK := ""
	if known := answer.Known; known != nil {
		userPK = known.UserID
		who.user, who.stamp, who.known = known.Label, known.Stamp, known
		who.session = dispatch.SessionHash(h.session)
		if s.signed {
			who.session, who.made = dispatch.AuthHash(known.UserID, known.AuthHash), s.now().UnixNano()
		}
	}
	return identified{
		identity: who,
		groups:   s.topics.groups(answer.Topics, h.windowKey, userPK),
		outcome:  IdentifiedNative,
		decided:  true,
	}, nil
}

// failed names why there is no answer. What cannot be read concerns this window alone.
func (s *nativeStrategy) failed(ctx context.Context, h handshake, err error) error {
	failure := &identifyError{strategy: StrategyNative, reason: reasonOf(err), err: err}
	switch {
	case errors.Is(err, djangostate.ErrMalformed), errors.Is(err, djangostate.ErrTooLarge):
		failure.reason = IdentifyAnswer
		s.breaker.done(nil)
	case h.request.Context().Err() != nil:
		s.breaker.skip() // the browser went away
	default:
		if ctx.Err() != nil {
			failure.reason = IdentifyTimeout
		}
		s.breaker.done(failure)
	}
	return failure
}

// runRecheck asks again and again whether the users behind the windows are still who they were, until ctx ends. What Django announces comes
// earlier; this also sees what nobody announces: other programs, SQL, sessions that expire, and sites without the Django app.
func (g *Gateway) runRecheck(ctx context.Context) error {
	if g.native == nil {
		return nil
	}
	ticker := time.NewTicker(g.cfg.RecheckInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			g.recheck(ctx)
		}
	}
}

// recheck closes the windows whose identity has ended.
func (g *Gateway) recheck(ctx context.Context) {
	var windows []*window
	var known []djangostate.Known
	for _, w := range g.windows.all() {
		if w.identity.known != nil && !w.closing() {
			windows, known = append(windows, w), append(known, *w.identity.known)
		}
	}
	if len(known) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, g.cfg.ConnectTimeout)
	defer cancel()
	stale, err := g.native.native.Recheck(ctx, known)
	if err != nil {
		if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
			g.samples.recheck.warn(g.log, "open windows cannot be checked", "windows", len(known), "err", err)
			g.observer.identifyFailed(StrategyNative, reasonOf(err))
		}
		return
	}
	closed := 0
	for i, w := range windows {
		if stale[i] && !w.closing() {
			w.close(CloseRevoked)
			closed++
		}
	}
	if closed > 0 {
		g.observer.revoked(closed)
		g.log.Info("identity ended", "windows", closed)
	}
}
