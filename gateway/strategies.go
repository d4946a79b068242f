package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/dispatch"
	"github.com/dfws/dfws/compat/djangostate"
)

// How windows are identified: the words of [Config.Identify].
const (
	// StrategyAuto stands for every strategy that the site's settings allow, in the order of the others here; StrategyAnonymous
	// only when there is no other.
	StrategyAuto = "auto"
	// StrategyTicket reads what the Django app "dfws" wrote when it rendered the page: one read of Redis.
	StrategyTicket = "ticket"
	// StrategyCallback asks the Django app "dfws", which runs the site's middlewares as df_websockets does.
	StrategyCallback = "callback"
	// StrategyNative reads topics, session and user where Django keeps them: Config.Native.
	StrategyNative = "native"
	// StrategyAnonymous gives a window the topics of its page; nobody is logged in.
	StrategyAnonymous = "anonymous"
)

// strategyNames are the words of Config.Identify.
var strategyNames = []string{StrategyAuto, StrategyTicket, StrategyCallback, StrategyNative, StrategyAnonymous}

// errNeedsApp is why a site without the Django app has neither tickets nor callbacks.
var errNeedsApp = errors.New(`the app "dfws" is not in INSTALLED_APPS`)

// chooseStrategies fills the identifier, and says in the log what it has chosen.
func (g *Gateway) chooseStrategies() error {
	g.identifier = &identifier{failed: func(e *identifyError) {
		g.observer.identifyFailed(e.strategy, e.reason)
		g.samples.handshakes.warn(g.log, "no answer about a window", "strategy", e.strategy, "reason", e.reason, "err", e.err)
	}}
	names, auto := g.cfg.Identify, slices.Contains(g.cfg.Identify, StrategyAuto)
	if auto {
		names = []string{StrategyTicket, StrategyCallback, StrategyNative, StrategyAnonymous}
	}
	var chosen []string
	var faults, missing []error
	for _, name := range names {
		if auto && name == StrategyAnonymous && len(chosen) > 0 {
			continue
		}
		s, err := g.newStrategy(name)
		switch {
		case err == nil:
			g.identifier.strategies = append(g.identifier.strategies, s)
			chosen = append(chosen, name)
		case auto:
			missing = append(missing, fmt.Errorf("%s: %w", name, err))
		default:
			faults = append(faults, fmt.Errorf("gateway: config: Identify: %s: %w", name, err))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	if len(chosen) == 0 {
		return fmt.Errorf("gateway: config: Identify: no strategy works: %w", errors.Join(missing...))
	}
	args := []any{"by", strings.Join(chosen, ", ")}
	for _, err := range missing {
		args = append(args, "not", err.Error())
	}
	g.log.Info("windows are identified", args...)
	return nil
}

// newStrategy returns an error that says why this site cannot have it.
func (g *Gateway) newStrategy(name string) (strategy, error) {
	settings := g.cfg.Settings
	topics := topicRules{userModel: settings.Site.AuthUserModel, ofOthers: g.cfg.TopicsOfOthers || settings.WebSocket.CustomTopics}
	switch name {
	case StrategyTicket:
		if !settings.DFWS.Installed {
			return nil, errNeedsApp
		}
		return newTicketStrategy(g.ports.tickets, g.revoked, &settings.Site)
	case StrategyCallback:
		if g.ports.answers == nil {
			return nil, g.cfg.noCallback()
		}
		return &callbackStrategy{answers: g.ports.answers, topics: topics}, nil
	case StrategyNative:
		if g.cfg.Native == nil {
			return nil, cmp.Or(g.cfg.NoNative, errors.New("Config.Native is missing"))
		}
		if n := settings.Native; n != nil {
			topics.prefix = n.Topics.ItemPrefix()
			for _, notice := range n.Notices {
				g.log.Warn("native identification: " + notice)
			}
		}
		g.native = &nativeStrategy{
			native: g.cfg.Native, topics: topics, now: time.Now, signed: settings.Site.SessionEngine == djangostate.SignedCookiesEngine,
			breaker: &breaker{log: g.cfg.Logger, subject: "Django's state", now: time.Now},
		}
		return g.native, nil
	case StrategyAnonymous:
		if !settings.DFWS.Installed {
			return nil, errNeedsApp
		}
		return &anonymousStrategy{tickets: g.ports.tickets, site: &settings.Site}, nil
	default:
		return nil, errors.New("unknown")
	}
}

// callbackURL finds where Django is asked; nil without an address.
func (c *Config) callbackURL() func() *url.URL {
	fixed := c.CallbackURL
	if fixed == nil {
		fixed = c.Upstream
	}
	switch {
	case fixed != nil:
		return func() *url.URL { return fixed }
	default:
		return c.FindUpstream
	}
}

// noCallback is why Django cannot be asked, nil if it can.
func (c *Config) noCallback() error {
	switch {
	case !c.Settings.DFWS.Installed:
		return errNeedsApp
	case len(c.Settings.DFWS.CallbackKeys) == 0:
		return errors.New("the settings have no dfws.callback_keys: export them again")
	case c.callbackURL() == nil:
		return errors.New("neither a callback's address nor an upstream is configured")
	default:
		return nil
	}
}

// callbackStrategy believes what Django says about a handshake.
type callbackStrategy struct {
	answers answers
	topics  topicRules
}

// identify implements strategy.
func (s *callbackStrategy) identify(ctx context.Context, h handshake) (identified, error) {
	answer, err := s.answers.ask(ctx, h.request)
	if err != nil {
		return identified{}, err
	}
	who := hangsOn(&answer.Ticket, windowHash(h.windowKey))
	who.raw = answer.WindowInfo.AppendJSON(nil)
	key, _ := answer.WindowInfo.WindowKey()
	userPK := ""
	if answer.WindowInfo.IsAuthenticated() {
		userPK = answer.WindowInfo.UserPKText()
	}
	return identified{
		identity: who,
		groups:   s.topics.groups(answer.Topics, key, userPK),
		outcome:  IdentifiedCallback,
		decided:  true,
		cookies:  answer.Cookies,
	}, nil
}

// anonymousStrategy is for sites on which nobody is logged in: a window gets the topics that carry no identity, and no user.
type anonymousStrategy struct {
	tickets tickets
	site    *compat.Site
}

// identify implements strategy.
func (s *anonymousStrategy) identify(ctx context.Context, h handshake) (identified, error) {
	found := identified{identity: anonymousIdentity(s.site, h), outcome: IdentifiedAnonymous, decided: true}
	if h.windowKey == "" {
		return found, nil
	}
	t, err := s.tickets.Ticket(ctx, h.windowKey)
	var bad *dispatch.TicketError
	switch {
	case errors.Is(err, dispatch.ErrNoTicket):
	case errors.As(err, &bad):
		found.fault = err
	case err != nil:
		return identified{}, &identifyError{strategy: StrategyAnonymous, reason: IdentifyAway, err: err}
	case t.User == "":
		found.groups = uniqueGroups(t.Groups)
	default:
		found.groups = uniqueGroups(t.PublicGroups)
	}
	return found, nil
}
