package worker

import (
	"errors"
)

// Rule decides whether a browser may call a signal's handler. It is asked only for calls that come from a browser;
// calls from Django, Celery tasks and Go programs are never checked, as in df_websockets. The zero Rule is ServerSide.
type Rule struct {
	name  string // as the registry has it
	allow func(*Call) (bool, error)
}

// The rules of df_websockets, with the same outcome for anonymous, inactive, staff and superusers.
var (
	// ServerSide refuses every browser: the handler serves triggers from servers only. It is the default.
	ServerSide = Rule{}
	// Everyone lets every window in.
	Everyone = Rule{name: "everyone", allow: func(*Call) (bool, error) { return true, nil }}
	// Authenticated lets logged-in users in, inactive ones as well: the user was active when the window connected.
	Authenticated = Rule{name: "is_authenticated", allow: func(c *Call) (bool, error) { return c.Window.IsAuthenticated(), nil }}
	// Anonymous lets windows without a user in.
	Anonymous = Rule{name: "is_anonymous", allow: func(c *Call) (bool, error) { return !c.Window.IsAuthenticated(), nil }}
	// Staff lets users with is_staff in; a superuser without it stays out.
	Staff = Rule{name: "is_staff", allow: func(c *Call) (bool, error) { return c.Window.IsStaff(), nil }}
	// Superuser lets superusers in.
	Superuser = Rule{name: "is_superuser", allow: func(c *Call) (bool, error) { return c.Window.IsSuperuser(), nil }}
)

// errNoPermissions refuses a call under HasPerm when its window info was made without the user's permissions.
var errNoPermissions = errors.New("the window info carries no permissions: set DFWS_TICKET_PERMISSIONS = True in Django, so that tickets carry them")

// HasPerm lets users in that have a permission, given as "app_label.codename"; superusers have all of them. Go has no
// access to the user's row: a window info without permissions is refused, with a warning that says so.
func HasPerm(perm string) Rule {
	return Rule{name: "has_perm:" + perm, allow: func(c *Call) (bool, error) {
		ok, known := c.Window.HasPerm(perm)
		if ok || known {
			return ok, nil
		}
		if c.Window.IsSuperuser() {
			return true, nil
		}
		return false, errNoPermissions
	}}
}

// RuleFunc makes a rule of a function. It may read the call's window info and options and must not change them.
func RuleFunc(allow func(*Call) bool) Rule {
	if allow == nil {
		return ServerSide
	}
	return Rule{name: "custom", allow: func(c *Call) (bool, error) { return allow(c), nil }}
}

// String returns the rule's name in the registry.
func (r Rule) String() string {
	if r.name == "" {
		return "server_side"
	}
	return r.name
}

// check tells whether the call may go on, and why the answer is no where that is worth a warning.
func (r Rule) check(c *Call) (bool, error) {
	if !c.FromClient {
		return true, nil
	}
	if r.allow == nil {
		return false, nil
	}
	return r.allow(c)
}
