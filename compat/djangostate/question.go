package djangostate

import "github.com/dfws/dfws/compat"

// Question is what a handshake tells about its window, for who looks up the rest. Texts of headers are as compat.Latin1 returns them.
type Question struct {
	WindowKey      string
	SessionCookie  string
	CSRFCookie     string
	UserAgent      string
	LanguageCookie string
	AcceptLanguage string
}

// Answer is who sits behind a window, by Django's own state.
type Answer struct {
	// Topics are the texts of the page's topics, as df_websockets stored them.
	Topics []string
	// WindowInfo is what df_websockets would make of the handshake.
	WindowInfo *compat.WindowInfo
	// Known is what the identity hangs on; nil for a visitor.
	Known *Known
}

// Known is a logged-in user with the session that says so.
type Known struct {
	// Session is the value of the session cookie. It is a secret.
	Session string
	// UserID is the primary key as text, Label the user as "auth.user.1".
	UserID string
	Label  string
	// Stamp changes with the user's password and flags: see Stamp.
	Stamp string
	// AuthHash is the hash in the session.
	AuthHash string
}
