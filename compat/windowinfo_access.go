package compat

import "github.com/dfws/dfws/celeryproto"

// WindowKey returns the key of the window; false when there is none. It is a secret: log its hash.
func (w *WindowInfo) WindowKey() (string, bool) {
	if w == nil {
		return "", false
	}
	return w.windowKey.value, w.windowKey.set
}

// UserPK returns the primary key as it was sent (an integer, a text, or a typed value such as a UUID); nil when there is none.
func (w *WindowInfo) UserPK() celeryproto.Raw {
	if w == nil {
		return nil
	}
	return w.userPK
}

// UserPKText returns the primary key as Python prints it; "None" when there is none.
func (w *WindowInfo) UserPKText() string {
	if w == nil || w.userPK == nil {
		return pythonNone
	}
	return w.userPKText
}

// IsAuthenticated reports whether a user is logged in: bool(user_pk).
func (w *WindowInfo) IsAuthenticated() bool { return w != nil && w.hasUser }

// IsAnonymous is the opposite of IsAuthenticated.
func (w *WindowInfo) IsAnonymous() bool { return !w.IsAuthenticated() }

// UserSet reports whether the user's name and flags are in the window info. When a user is logged in and they are not, Python reads them
// from the database; Go then has no name and no flag is true.
func (w *WindowInfo) UserSet() bool { return w != nil && w.userSet }

// flagsHere reports whether the flags in the message count (WindowInfo.from_dict).
func (w *WindowInfo) flagsHere() bool { return w != nil && (w.userSet || !w.hasUser) }

// IsSuperuser returns the user's flag.
func (w *WindowInfo) IsSuperuser() bool { return w.flagsHere() && w.superuser }

// IsStaff returns the user's flag.
func (w *WindowInfo) IsStaff() bool { return w.flagsHere() && w.staff }

// IsActive returns the user's flag.
func (w *WindowInfo) IsActive() bool { return w.flagsHere() && w.active }

// Username returns the user's name, "" when it is not known.
func (w *WindowInfo) Username() string {
	if !w.flagsHere() {
		return ""
	}
	return w.username.value
}

// CSRFCookie returns the text of the CSRF cookie.
func (w *WindowInfo) CSRFCookie() string {
	if w == nil {
		return ""
	}
	return w.csrfCookie.value
}

// UserAgent returns the browser's User-Agent header.
func (w *WindowInfo) UserAgent() string {
	if w == nil {
		return ""
	}
	return w.userAgent.value
}

// LanguageCode returns the language of the window, "" when it is not known.
func (w *WindowInfo) LanguageCode() string {
	if w == nil {
		return ""
	}
	return w.languageCode.value
}

// HasPerm reports whether the user has the permission "app.codename", and whether that is known at all: without a list of permissions only
// the database knows, except for visitors (no permission) and superusers (all).
func (w *WindowInfo) HasPerm(perm string) (granted, known bool) {
	switch {
	case !w.IsAuthenticated():
		return false, true
	case w.permsKnown:
		_, granted = w.perms[perm]
		return granted, true
	case w.IsSuperuser():
		return true, true
	default:
		return false, false
	}
}

// WindowTopic returns the topic of this window; "-window.None" without a key, as in Python.
func (w *WindowInfo) WindowTopic() string {
	key, ok := w.WindowKey()
	if !ok {
		key = pythonNone
	}
	return WindowTopic(key)
}

// UserTopic returns the topic of this window's user; "-auth.user.None" without one, as in Python.
func (w *WindowInfo) UserTopic(authUserModel string) string {
	return UserTopic(authUserModel, w.UserPKText())
}

// Member returns one member by its key, for keys of the site's own middlewares.
func (w *WindowInfo) Member(key string) (celeryproto.Raw, bool) {
	members, err := celeryproto.Raw(w.AppendJSON(nil)).Object()
	if err != nil {
		return nil, false
	}
	for _, m := range members {
		if m.Key == key {
			return m.Value, true
		}
	}
	return nil, false
}
