package compat

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/dfws/dfws/celeryproto"
)

// Keys of a window info, in the order of df_websockets' four default middlewares (ws_middleware.py).
const (
	keyWindowKey    = "window_key"
	keyUserPK       = "user_pk"
	keyUsername     = "username"
	keyIsSuperuser  = "is_superuser"
	keyIsStaff      = "is_staff"
	keyIsActive     = "is_active"
	keyCSRFCookie   = "csrf_cookie"
	keyPerms        = "perms"
	keyUserAgent    = "user_agent"
	keyUserSet      = "user_set"
	keyLanguageCode = "language_code"
)

// blankWindowInfo is json.dumps(WindowInfo().to_dict()).
const blankWindowInfo = `{"window_key": null, "user_pk": null, "username": null, "is_superuser": false, "is_staff": false, ` +
	`"is_active": false, "csrf_cookie": "", "perms": null, "user_agent": "", "user_set": false, "language_code": null}`

// ErrNoWindowInfo is returned by DecodeWindowInfo for null: df_websockets' own middlewares fail on it, so nobody may send it.
var ErrNoWindowInfo = errors.New("compat: window info: null")

// WindowInfo says who sits behind a window: df_websockets.window_info.WindowInfo. It is immutable and safe for concurrent use. The zero
// value (and a nil pointer) is a blank WindowInfo(). Keys that only the site's own middlewares know are kept in their order and written
// again byte for byte.
type WindowInfo struct {
	raw celeryproto.Raw // the encoded object; nil is the blank one

	windowKey    text
	username     text
	csrfCookie   text
	userAgent    text
	languageCode text
	userPK       celeryproto.Raw // nil is null
	userPKText   string          // as Python prints it
	perms        map[string]struct{}
	permsKnown   bool
	hasUser      bool // bool(user_pk)
	userSet      bool
	superuser    bool
	staff        bool
	active       bool
}

// text is a member that is a text, or something else (null mostly).
type text struct {
	value string
	set   bool
}

// Handshake holds what a window without a ticket tells about itself. Header values are as Latin1 returns them.
type Handshake struct {
	WindowKey    string
	CSRFCookie   string
	UserAgent    string
	LanguageCode string
}

// AnonymousWindowInfo is the window info of a visitor who is not logged in, as df_websockets makes it from a request.
func AnonymousWindowInfo(h Handshake) *WindowInfo {
	dst := append(make([]byte, 0, 256+len(h.UserAgent)), `{"window_key": `...)
	dst = celeryproto.AppendString(dst, h.WindowKey)
	dst = append(dst, `, "user_pk": null, "username": null, "is_superuser": false, "is_staff": false, "is_active": false, "csrf_cookie": `...)
	dst = celeryproto.AppendString(dst, h.CSRFCookie)
	dst = append(dst, `, "perms": null, "user_agent": `...)
	dst = celeryproto.AppendString(dst, h.UserAgent)
	dst = append(dst, `, "user_set": false, "language_code": `...)
	dst = celeryproto.AppendString(dst, h.LanguageCode)
	return &WindowInfo{
		raw:          append(dst, '}'),
		windowKey:    text{h.WindowKey, true},
		csrfCookie:   text{h.CSRFCookie, true},
		userAgent:    text{h.UserAgent, true},
		languageCode: text{h.LanguageCode, true},
	}
}

// WindowUser is a logged-in user in a window info.
type WindowUser struct {
	// PK is the primary key as kombu's JSON has it; required.
	PK       celeryproto.Raw
	Username string

	IsSuperuser, IsStaff, IsActive bool
}

// UserWindowInfo is the window info of a logged-in user, as df_websockets makes it from a request. The error says that PK is no JSON.
func UserWindowInfo(h Handshake, u WindowUser) (*WindowInfo, error) {
	if err := celeryproto.CheckJSON(u.PK, celeryproto.JSONLimits{}); err != nil {
		return nil, fmt.Errorf("compat: window info: user_pk: %w", err)
	}
	flag := func(set bool) celeryproto.Raw { return celeryproto.Raw(strconv.FormatBool(set)) }
	text := func(s string) celeryproto.Raw { return celeryproto.AppendString(nil, s) }
	return newWindowInfo(celeryproto.Members{
		{Key: keyWindowKey, Value: text(h.WindowKey)},
		{Key: keyUserPK, Value: u.PK},
		{Key: keyUsername, Value: text(u.Username)},
		{Key: keyIsSuperuser, Value: flag(u.IsSuperuser)},
		{Key: keyIsStaff, Value: flag(u.IsStaff)},
		{Key: keyIsActive, Value: flag(u.IsActive)},
		{Key: keyCSRFCookie, Value: text(h.CSRFCookie)},
		{Key: keyPerms, Value: celeryproto.Raw("null")},
		{Key: keyUserAgent, Value: text(h.UserAgent)},
		{Key: keyUserSet, Value: flag(true)},
		{Key: keyLanguageCode, Value: text(h.LanguageCode)},
	}), nil
}

// DecodeWindowInfo reads the second argument of a task, or the window info of a ticket. raw must be checked JSON. Members of an unexpected
// type are no error: as in Python they count as absent or by their truth value.
func DecodeWindowInfo(raw celeryproto.Raw) (*WindowInfo, error) {
	if raw.Kind() == celeryproto.KindNull {
		return nil, ErrNoWindowInfo
	}
	members, err := raw.Object()
	if err != nil {
		return nil, fmt.Errorf("compat: window info: %w", err)
	}
	return newWindowInfo(mergeDuplicates(members)), nil
}

// newWindowInfo takes members without duplicates.
func newWindowInfo(members celeryproto.Members) *WindowInfo {
	w := &WindowInfo{raw: members.Append(nil)}
	for _, m := range members {
		switch m.Key {
		case keyWindowKey:
			w.windowKey = textOf(m.Value)
		case keyUsername:
			w.username = textOf(m.Value)
		case keyCSRFCookie:
			w.csrfCookie = textOf(m.Value)
		case keyUserAgent:
			w.userAgent = textOf(m.Value)
		case keyLanguageCode:
			w.languageCode = textOf(m.Value)
		case keyUserPK:
			w.setUserPK(m.Value)
		case keyPerms:
			w.setPerms(m.Value)
		case keyUserSet:
			w.userSet = truth(m.Value)
		case keyIsSuperuser:
			w.superuser = truth(m.Value)
		case keyIsStaff:
			w.staff = truth(m.Value)
		case keyIsActive:
			w.active = truth(m.Value)
		}
	}
	return w
}

// setUserPK keeps the primary key as it came: an integer, a text, or a typed value such as a UUID.
func (w *WindowInfo) setUserPK(raw celeryproto.Raw) {
	if raw.Kind() == celeryproto.KindNull {
		return
	}
	w.userPK = append(celeryproto.Raw(nil), raw...)
	w.hasUser = truth(raw)
	w.userPKText = printed(raw)
}

// setPerms reads the list of permissions; anything else than a list leaves them unknown.
func (w *WindowInfo) setPerms(raw celeryproto.Raw) {
	elements, err := raw.Array()
	if err != nil {
		return
	}
	w.permsKnown = true
	w.perms = make(map[string]struct{}, len(elements))
	for _, element := range elements {
		if perm, err := element.Text(); err == nil {
			w.perms[perm] = struct{}{}
		}
	}
}

// AppendJSON appends the window info as a JSON object. It is never null.
func (w *WindowInfo) AppendJSON(dst []byte) []byte {
	if w == nil || w.raw == nil {
		return append(dst, blankWindowInfo...)
	}
	return append(dst, w.raw...)
}

// With returns a copy in which the member key has this value, which must be valid JSON; a new key goes to the end.
func (w *WindowInfo) With(key string, value celeryproto.Raw) (*WindowInfo, error) {
	members, err := celeryproto.Raw(w.AppendJSON(nil)).Object()
	if err != nil {
		return nil, fmt.Errorf("compat: window info: %w", err)
	}
	return newWindowInfo(mergeDuplicates(append(members, celeryproto.Member{Key: key, Value: value}))), nil
}

// WithHandshake returns a copy with the CSRF cookie and the user agent of the handshake that uses it.
func (w *WindowInfo) WithHandshake(csrfCookie, userAgent string) (*WindowInfo, error) {
	changed, err := w.With(keyCSRFCookie, celeryproto.AppendString(nil, csrfCookie))
	if err != nil {
		return nil, err
	}
	return changed.With(keyUserAgent, celeryproto.AppendString(nil, userAgent))
}
