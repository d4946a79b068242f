package dispatch

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/compat"
)

var (
	windowGroup    = compat.GroupName("-window.k")
	broadcastGroup = compat.GroupName(compat.BroadcastTopic)
)

// goldenTicket is a ticket as the Django app writes it.
func goldenTicket() string {
	return `{"schema": 1, "created": 1764000000.25, "binding": "session", "session": "` + SessionHash("cookie") + `", "user": "auth.user.1", "stamp": "ab", ` +
		`"groups": ["` + windowGroup + `", "` + broadcastGroup + `"], "public_groups": ["` + windowGroup + `"], ` +
		`"window_info": {"window_key": "k", "user_pk": {"__type__": "uuid", "__value__": {"hex": "00000000000000000000000000000005"}}, "n": NaN, "user_set": true}}`
}

func TestDecodeTicket(t *testing.T) {
	t.Parallel()
	ticket, err := DecodeTicket([]byte(goldenTicket()))
	if err != nil {
		t.Fatal(err)
	}
	want := &Ticket{
		Created: time.UnixMilli(1764000000250).UTC(), Binding: BindSession, Session: SessionHash("cookie"), User: "auth.user.1", Stamp: "ab",
		Groups: []string{windowGroup, broadcastGroup}, PublicGroups: []string{windowGroup}, WindowInfo: ticket.WindowInfo,
	}
	if diff := cmp.Diff(want, ticket, cmp.Comparer(func(a, b *compat.WindowInfo) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if ticket.WindowInfo.UserTopic("auth.user") != "-auth.user.00000000-0000-0000-0000-000000000005" {
		t.Errorf("%s", ticket.WindowInfo.AppendJSON(nil))
	}
}

func TestDecodeTicketRefuses(t *testing.T) {
	t.Parallel()
	good := goldenTicket()
	for name, test := range map[string]struct{ old, text, field string }{
		"schema":          {`"schema": 1`, `"schema": 2`, "schema"},
		"no schema":       {`"schema": 1, `, ``, "schema"},
		"created":         {`1764000000.25`, `"x"`, "created"},
		"created NaN":     {`1764000000.25`, `NaN`, "created"},
		"created huge":    {`1764000000.25`, `1e300`, "created"},
		"binding":         {`"binding": "session"`, `"binding": "trust me"`, "binding"},
		"no binding":      {`"binding": "session", `, ``, "binding"},
		"no session":      {`"session": "` + SessionHash("cookie") + `"`, `"session": null`, "session"},
		"session number":  {`"session": "` + SessionHash("cookie") + `"`, `"session": 5`, "session"},
		"groups":          {`"groups": ["`, `"groups": {"a": "`, ""},
		"groups null":     {`"groups": ["` + windowGroup + `", "` + broadcastGroup + `"]`, `"groups": null`, "groups"},
		"group too short": {`"groups": ["` + windowGroup, `"groups": ["` + windowGroup[1:], "groups"},
		"group with junk": {`"groups": ["` + windowGroup, `"groups": ["` + windowGroup[1:] + `\n`, "groups"},
		"group number":    {`"public_groups": ["` + windowGroup + `"]`, `"public_groups": [5]`, "public_groups"},
		"no window info":  {`"window_info"`, `"window"`, "window_info"},
		"null":            {`"window_info": {`, `"window_info": null, "x": {`, "window_info"},
		"cut":             {`"n": NaN`, `"n": NaN]`, ""},
	} {
		text := strings.Replace(good, test.old, test.text, 1)
		if text == good {
			t.Fatalf("%s: nothing replaced", name)
		}
		ticket, err := DecodeTicket([]byte(text))
		if ticketErr, ok := errors.AsType[*TicketError](err); !ok || ticketErr.Field != test.field || ticket != nil {
			t.Errorf("%s: %v, want field %q", name, err, test.field)
		}
	}
	many := `["` + strings.Repeat(windowGroup+`", "`, maxTicketGroups) + windowGroup + `"]`
	for name, text := range map[string]string{
		"empty": "", "list": "[]", "too large": good + strings.Repeat(" ", maxTicketBytes),
		"too many groups": strings.Replace(good, `["`+windowGroup+`"]`, many, 1),
	} {
		if _, err := DecodeTicket([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestTicketServes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		ticket Ticket
		shown  Credentials
		want   bool
	}{
		{Ticket{Binding: BindNone}, Credentials{}, true},
		{Ticket{Binding: BindNone}, Credentials{SessionCookie: "x"}, false},
		{Ticket{Binding: BindSession, Session: SessionHash("x")}, Credentials{SessionCookie: "x"}, true},
		{Ticket{Binding: BindSession, Session: SessionHash("x")}, Credentials{SessionCookie: "y"}, false},
		{Ticket{Binding: BindSession, Session: SessionHash("")}, Credentials{}, false},
		{Ticket{Binding: BindAuth, Session: AuthHash("1", "h")}, Credentials{SessionCookie: "x", SessionRead: true, UserID: "1", AuthHash: "h"}, true},
		{Ticket{Binding: BindAuth, Session: AuthHash("1", "h")}, Credentials{SessionCookie: "x", UserID: "1", AuthHash: "h"}, false},
		{Ticket{Binding: BindAuth, Session: AuthHash("1", "h")}, Credentials{SessionCookie: "x", SessionRead: true, UserID: "1", AuthHash: "other"}, false},
		{Ticket{Binding: BindAuth, Session: AuthHash("", "")}, Credentials{SessionCookie: "x"}, false},
		{Ticket{Binding: BindAuth, Session: AuthHash("", "")}, Credentials{SessionCookie: "x", SessionRead: true}, true},
		{Ticket{}, Credentials{}, false},
	} {
		if got := test.ticket.Serves(test.shown); got != test.want {
			t.Errorf("%+v serves %+v: %v", test.ticket, test.shown, got)
		}
	}
}

// TestHashes: the Django app computes the same ones; these are from Python's hashlib.
func TestHashes(t *testing.T) {
	t.Parallel()
	if got := SessionHash("abc"); got != "2e3fd4cc24a805553d7335ebd561bda1538acf135bc57333a66ef20a0105b10f" {
		t.Errorf("SessionHash: %s", got)
	}
	if got := AuthHash("1", "h"); got != "80a14ccc303559a5e72f6edece37d24e4a4403e55f99e09dfc5b04c0d002025f" {
		t.Errorf("AuthHash: %s", got)
	}
	if got, want := (keys{"dfws:"}).ticket("k"), "dfws:ticket:8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a"; got != want {
		t.Errorf("ticket key: %s", got)
	}
}

func TestRevocations(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Revocation{
		`{"schema": 1, "session": "h"}`:                                  {Session: "h"},
		`{"schema": 1, "user": "auth.user.1", "stamp": "s"}`:             {User: "auth.user.1", Stamp: "s"},
		`{"schema": 1, "session": null, "user": "auth.user.1", "x": {}}`: {User: "auth.user.1"},
	} {
		if got, err := DecodeRevocation([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{``, `[]`, `{}`, `{"schema": 2, "session": "h"}`, `{"schema": 1}`, `{"schema": 1, "session": 5}`} {
		if _, err := DecodeRevocation([]byte(text)); err == nil {
			t.Errorf("%q accepted", text)
		}
	}
	ticket := &Ticket{Session: "h", User: "auth.user.1", Stamp: "s"}
	visitor := &Ticket{}
	for _, test := range []struct {
		r      Revocation
		ticket *Ticket
		want   bool
	}{
		{Revocation{Session: "h"}, ticket, true}, {Revocation{Session: "i"}, ticket, false}, {Revocation{Session: "h"}, visitor, false},
		{Revocation{User: "auth.user.1", Stamp: "t"}, ticket, true}, {Revocation{User: "auth.user.1", Stamp: "s"}, ticket, false},
		{Revocation{User: "auth.user.2", Stamp: "t"}, ticket, false}, {Revocation{User: "auth.user.1"}, ticket, true}, {Revocation{Gap: true}, visitor, false},
	} {
		if got := test.r.Hits(test.ticket); got != test.want {
			t.Errorf("%+v hits %+v: %v", test.r, test.ticket, got)
		}
	}
}

func FuzzDecodeTicket(f *testing.F) {
	f.Add([]byte(goldenTicket()))
	f.Fuzz(func(t *testing.T, b []byte) {
		ticket, err := DecodeTicket(b)
		if _, ok := errors.AsType[*TicketError](err); (err != nil) != ok || (ticket == nil) != ok {
			t.Fatalf("%v, %v", ticket, err)
		}
		if ticket != nil && (ticket.WindowInfo == nil || ticket.Binding == "") {
			t.Errorf("%+v", ticket)
		}
	})
}

func FuzzDecodeRevocation(f *testing.F) {
	f.Add([]byte(`{"schema": 1, "user": "auth.user.1", "stamp": "s"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := DecodeRevocation(b); err == nil && r.Session == "" && r.User == "" {
			t.Errorf("%+v", r)
		}
	})
}
