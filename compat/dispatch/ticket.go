package dispatch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
)

const (
	// ticketSchema is the schema of a ticket.
	ticketSchema = "1"
	// maxTicketBytes and maxTicketGroups bound a ticket: df_websockets sets no limit on topics, a thousand are about 70 KB.
	maxTicketBytes  = 1 << 20
	maxTicketGroups = 10_000
	// groupNameLength is the length of a group name: SHA-256 in hex.
	groupNameLength = 2 * sha256.Size

	// Salts of the hashes that bind a ticket.
	sessionSalt = "dfws.session:"
	authSalt    = "dfws.auth:"
)

// Binding says what a handshake must show to use a ticket's identity.
type Binding string

// The bindings.
const (
	// BindNone: the page was rendered without a session; the ticket serves handshakes without a session cookie.
	BindNone Binding = "none"
	// BindSession: the handshake must have the same session cookie.
	BindSession Binding = "session"
	// BindAuth: with the engine signed_cookies the handshake's session must be of the same user and password.
	BindAuth Binding = "auth"
)

// SessionHash is the hash of a session cookie's value in tickets and revocations.
func SessionHash(cookie string) string { return saltedHash(sessionSalt + cookie) }

// AuthHash is the hash of _auth_user_id and _auth_user_hash of a session in tickets and revocations.
func AuthHash(userID, authHash string) string { return saltedHash(authSalt + userID + ":" + authHash) }

func saltedHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// Ticket is what Django said about a window when it rendered its page.
type Ticket struct {
	Created time.Time
	Binding Binding
	// Session is the hash that Binding compares; empty with BindNone.
	Session string
	// User is the logged-in user, as "auth.user.1"; empty for visitors.
	User string
	// Stamp changes with the user's password and flags; empty for visitors.
	Stamp string
	// Groups are all groups of the window.
	Groups []string
	// PublicGroups are those that anybody with the window key may have: window and broadcast.
	PublicGroups []string
	// WindowInfo is the window info as Django made it.
	WindowInfo *compat.WindowInfo
}

// Credentials are what a handshake shows.
type Credentials struct {
	// SessionCookie is the value of the session cookie; empty when there is none.
	SessionCookie string
	// SessionRead says that the cookie is a session of signed_cookies which Django would accept, too.
	SessionRead bool
	// UserID and AuthHash are those of that session; empty for a visitor's.
	UserID, AuthHash string
}

// Serves reports whether the ticket's identity may be used for a handshake. If not, the window is anonymous and has the public groups.
func (t *Ticket) Serves(c Credentials) bool {
	switch t.Binding {
	case BindNone:
		return c.SessionCookie == ""
	case BindSession:
		return c.SessionCookie != "" && SessionHash(c.SessionCookie) == t.Session
	case BindAuth:
		return c.SessionRead && AuthHash(c.UserID, c.AuthHash) == t.Session
	default:
		return false
	}
}

// DecodeTicket reads a ticket. The error is a *TicketError.
func DecodeTicket(b []byte) (*Ticket, error) {
	d, err := newTicketDecoder(b)
	if err != nil {
		return nil, err
	}
	t := d.identity()
	if t != nil {
		t.Groups, t.PublicGroups = d.groups("groups"), d.groups("public_groups")
	}
	if d.err != nil {
		return nil, d.err
	}
	return t, nil
}

// ticketDecoder keeps the first fault.
type ticketDecoder struct {
	members celeryproto.Members
	err     *TicketError
}

func newTicketDecoder(b []byte) (*ticketDecoder, error) {
	if len(b) > maxTicketBytes {
		return nil, &TicketError{Err: fmt.Errorf("more than %d bytes", maxTicketBytes)}
	}
	if err := celeryproto.CheckJSON(b, celeryproto.JSONLimits{}); err != nil {
		return nil, &TicketError{Err: err}
	}
	members, err := celeryproto.Raw(b).Object()
	if err != nil {
		return nil, &TicketError{Err: err}
	}
	return &ticketDecoder{members: members}, nil
}

func (d *ticketDecoder) fail(field string, err error) {
	if d.err == nil {
		d.err = &TicketError{Field: field, Err: err}
	}
}

// text reads a text; null and absent are "".
func (d *ticketDecoder) text(field string) string {
	raw, _ := d.members.Get(field)
	if raw.IsNull() {
		return ""
	}
	s, err := raw.Text()
	if err != nil {
		d.fail(field, err)
	}
	return s
}

// time reads Unix time.
func (d *ticketDecoder) time(field string) time.Time {
	raw, _ := d.members.Get(field)
	n, err := raw.Number()
	if err != nil {
		d.fail(field, err)
		return time.Time{}
	}
	switch n := n.(type) {
	case int64:
		return time.Unix(n, 0).UTC()
	case float64:
		if n > -1e11 && n < 1e11 {
			return time.UnixMicro(int64(n * 1e6)).UTC()
		}
	}
	d.fail(field, errors.New("out of range"))
	return time.Time{}
}

// groups reads a list of group names: they become parts of keys in Redis.
func (d *ticketDecoder) groups(field string) []string {
	raw, _ := d.members.Get(field)
	elements, err := raw.Array()
	if err != nil {
		d.fail(field, err)
		return nil
	}
	if len(elements) > maxTicketGroups {
		d.fail(field, fmt.Errorf("more than %d", maxTicketGroups))
		return nil
	}
	groups := make([]string, len(elements))
	for i, element := range elements {
		name, err := element.Text()
		if err == nil && !isGroupName(name) {
			err = errors.New("not a SHA-256 in lower-case hex")
		}
		if err != nil {
			d.fail(field, fmt.Errorf("element %d: %w", i, err))
			return nil
		}
		groups[i] = name
	}
	return groups
}

// isGroupName reports whether name is what compat.GroupName makes.
func isGroupName(name string) bool {
	if len(name) != groupNameLength {
		return false
	}
	for i := range len(name) {
		if c := name[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
