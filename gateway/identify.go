package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/dispatch"
	"github.com/dfws/dfws/compat/djangostate"
)

const (
	// windowKeyCookie is the cookie of df_websockets that holds the window key (df_websockets 1.2.6, middleware.py).
	windowKeyCookie = "dfwskey"
	// maxWindowKey bounds the key: df_websockets makes 32 characters.
	maxWindowKey = 128
)

// identity says who sits behind a window, once for its whole life.
type identity struct {
	// raw is the encoded window info. It is decoded at the first signal: a window that only listens pays for the bytes alone.
	raw  []byte
	info *compat.WindowInfo // nil until then; reader goroutine only

	window  string // hash of the window key, for logs
	session string // hash of the session that the identity hangs on, "" if none
	user    string // user that it hangs on, "" if none
	stamp   string
	made    int64 // Unix nanoseconds at which Django wrote the ticket, for sessions that live in their cookie; else 0

	known *djangostate.Known // what can be checked again; nil unless the identity is native, and a user's
}

// windowInfo returns the decoded window info.
func (id *identity) windowInfo() (*compat.WindowInfo, error) {
	if id.info == nil {
		info, err := compat.DecodeWindowInfo(celeryproto.Raw(id.raw))
		if err != nil {
			return nil, err
		}
		id.info, id.raw = info, nil
	}
	return id.info, nil
}

// maxUserAgent bounds the bytes of a User-Agent that a window keeps and each of its tasks carries; browsers' have a few hundred.
const maxUserAgent = 2048

func bounded(s string, limit int) string {
	if len(s) > limit {
		s = strings.Clone(s[:limit]) // the rest is not kept either
	}
	return s
}

// handshake is what a request tells about its window.
type handshake struct {
	windowKey  string
	csrfCookie string
	userAgent  string
	session    string // text of the session cookie, "" if there is none
	language   string // text of the language cookie, "" if there is none

	acceptLanguage string

	request *http.Request
}

// readHandshake reads the request as df_websockets' consumer sees it: cookies of the first Cookie header, repeated headers
// joined with a comma, bytes as Latin-1.
func readHandshake(r *http.Request, settings *compat.Settings) handshake {
	site := &settings.Site
	h := handshake{userAgent: compat.Latin1(bounded(strings.Join(r.Header["User-Agent"], ","), maxUserAgent)), request: r}
	if headers := r.Header["Cookie"]; len(headers) > 0 {
		cookies := compat.ParseCookies(headers[0])
		h.csrfCookie = cookies[site.CSRFCookieName]
		h.session = cookies[site.SessionCookieName]
		h.windowKey = cookies[windowKeyCookie]
		if settings.Native != nil {
			h.language = bounded(cookies[settings.Native.Language.Cookie], maxUserAgent)
		}
	}
	h.acceptLanguage = compat.Latin1(bounded(strings.Join(r.Header["Accept-Language"], ","), maxUserAgent))
	if settings.Native != nil && settings.Native.Topics.Redis != "" {
		if key := r.URL.Query().Get(windowKeyCookie); key != "" { // df_websockets before 1.0
			h.windowKey = key
		}
	}
	if len(h.windowKey) > maxWindowKey {
		h.windowKey = ""
	}
	return h
}

// strategy is one way to find out who sits behind a handshake.
type strategy interface {
	// identify returns what it found. If that is not decided, the next strategy is asked, and what was found here counts when nobody
	// decides. An error means that whoever had to be asked did not answer.
	identify(ctx context.Context, h handshake) (identified, error)
}

// identified is the result of a strategy.
type identified struct {
	identity identity
	groups   []string
	outcome  string   // one of the Identified constants
	decided  bool     // no other strategy need be asked
	fault    error    // why the ticket is bad, for the log
	cookies  []string // Set-Cookie headers for the answer to the handshake
}

// identifier finds out who sits behind a handshake: it asks its strategies, one after the other.
type identifier struct {
	strategies []strategy
	// failed is called for each strategy that gave no answer although it should have.
	failed func(*identifyError)
}

// identify returns an error when no strategy decided and one of them could not be asked. Otherwise there is an answer, if only an
// anonymous one.
func (id *identifier) identify(ctx context.Context, h handshake) (identified, error) {
	var best identified
	var errs []error
	for _, s := range id.strategies {
		found, err := s.identify(ctx, h)
		switch {
		case err != nil:
			errs = append(errs, err)
			if failure, ok := errors.AsType[*identifyError](err); ok && id.failed != nil {
				id.failed(failure)
			}
		case found.decided:
			return found, nil
		case best.outcome == "":
			best = found
		}
	}
	return best, errors.Join(errs...)
}

// anonymousIdentity is the window info of a visitor who is not logged in.
func anonymousIdentity(site *compat.Site, h handshake) identity {
	info := compat.AnonymousWindowInfo(compat.Handshake{
		WindowKey: h.windowKey, CSRFCookie: h.csrfCookie, UserAgent: h.userAgent, LanguageCode: site.LanguageCode,
	})
	return identity{raw: info.AppendJSON(nil), window: windowHash(h.windowKey)}
}

// ticketStrategy reads the ticket that Django wrote when it rendered the page.
type ticketStrategy struct {
	tickets  tickets
	revoked  *revocations
	site     *compat.Site
	sessions *djangostate.SessionReader // nil unless sessions live in their cookie
	now      func() time.Time
}

func newTicketStrategy(t tickets, revoked *revocations, site *compat.Site) (*ticketStrategy, error) {
	id := &ticketStrategy{tickets: t, revoked: revoked, site: site, now: time.Now}
	if site.SessionEngine == djangostate.SignedCookiesEngine {
		reader := &djangostate.SessionReader{MaxAge: site.SessionCookieAge.Duration()}
		for i, text := range site.SessionSigningKeys {
			key, err := djangostate.ParseKey(text.Reveal())
			if err != nil {
				return nil, fmt.Errorf("gateway: config: Settings.Site.SessionSigningKeys[%d]: %w", i, err)
			}
			reader.Keys = append(reader.Keys, key)
		}
		id.sessions = reader
	}
	return id, nil
}

// identify implements strategy. It returns an error only when Redis does not answer.
func (id *ticketStrategy) identify(ctx context.Context, h handshake) (identified, error) {
	anonymous := identified{identity: anonymousIdentity(id.site, h)}
	if h.windowKey == "" {
		anonymous.outcome = IdentifiedNoKey
		return anonymous, nil
	}
	t, err := id.tickets.Ticket(ctx, h.windowKey)
	var bad *dispatch.TicketError
	switch {
	case errors.Is(err, dispatch.ErrNoTicket):
		anonymous.outcome = IdentifiedNoTicket
		return anonymous, nil
	case errors.As(err, &bad):
		anonymous.outcome, anonymous.fault = IdentifiedBadTicket, err
		return anonymous, nil
	case err != nil:
		return identified{}, &identifyError{strategy: StrategyTicket, reason: IdentifyAway, err: err}
	}
	return id.judge(t, h, anonymous), nil
}

// judge decides what the ticket is worth to this handshake.
func (id *ticketStrategy) judge(t *dispatch.Ticket, h handshake, anonymous identified) identified {
	public := anonymous
	public.groups, public.outcome = uniqueGroups(t.PublicGroups), IdentifiedOther
	if !id.bound(t, h) {
		return public
	}
	who := hangsOn(t, anonymous.identity.window)
	if id.revoked.covers(&who) {
		public.outcome = IdentifiedRevoked
		return public
	}
	info, err := t.WindowInfo.WithHandshake(h.csrfCookie, h.userAgent)
	if err != nil {
		anonymous.outcome, anonymous.fault = IdentifiedBadTicket, err
		return anonymous
	}
	who.raw = info.AppendJSON(nil)
	return identified{
		identity: who,
		groups:   uniqueGroups(t.Groups),
		outcome:  IdentifiedTicket,
		decided:  true,
	}
}

// hangsOn is the identity of a ticket, without its window info: what a revocation must hit to end it.
func hangsOn(t *dispatch.Ticket, window string) identity {
	who := identity{window: window, session: t.Session, user: t.User, stamp: t.Stamp}
	if t.Binding == dispatch.BindAuth {
		who.made = t.Created.UnixNano()
	}
	return who
}

// bound says whether the handshake has the session that the ticket was made for.
func (id *ticketStrategy) bound(t *dispatch.Ticket, h handshake) bool {
	c := dispatch.Credentials{SessionCookie: h.session}
	if t.Binding == dispatch.BindAuth && id.sessions != nil && h.session != "" {
		// A session that Django would not accept either serves nothing. A visitor's session has neither user nor hash.
		if session, err := id.sessions.Read(h.session, id.now()); err == nil {
			c.SessionRead, c.UserID, c.AuthHash = true, session.UserID, session.AuthHash
		}
	}
	return t.Serves(c)
}

// uniqueGroups drops repeated names.
func uniqueGroups(names []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

// windowHash is how a window is named in logs: enough of the hash to find its ticket, nothing of the key.
func windowHash(key string) string {
	if key == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:8])
}
