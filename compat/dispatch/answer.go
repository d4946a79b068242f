package dispatch

import (
	"errors"
	"fmt"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
)

// Answer is what Django says about one handshake when it is asked: the topics that the window's page was bound to, the window info, and
// what the identity hangs on. It is a ticket for nobody but this handshake.
type Answer struct {
	// Ticket has everything but Groups and PublicGroups, which follow from Topics.
	Ticket
	// Topics are the texts in df_websockets' cache.
	Topics []string
	// Cookies are Set-Cookie headers for the browser: Django may have given its session another key (SECRET_KEY_FALLBACKS).
	Cookies []string
}

// maxAnswerCookies bounds Answer.Cookies.
const maxAnswerCookies = 50

// DecodeAnswer reads an answer. The error is a *TicketError.
func DecodeAnswer(b []byte) (*Answer, error) {
	d, err := newTicketDecoder(b)
	if err != nil {
		return nil, err
	}
	a := &Answer{}
	if t := d.identity(); t != nil {
		a.Ticket = *t
	}
	a.Topics = d.texts("topics", maxTicketGroups)
	a.Cookies = d.texts("cookies", maxAnswerCookies)
	if d.err != nil {
		return nil, d.err
	}
	return a, nil
}

// texts reads a list of texts.
func (d *ticketDecoder) texts(field string, limit int) []string {
	raw, _ := d.members.Get(field)
	texts, err := TextList(raw, limit)
	if err != nil {
		d.fail(field, err)
	}
	return texts
}

// TextList reads a JSON list of texts, of which there may be so many.
func TextList(raw celeryproto.Raw, limit int) ([]string, error) {
	elements, err := raw.Array()
	if err != nil {
		return nil, err
	}
	if len(elements) > limit {
		return nil, fmt.Errorf("more than %d", limit)
	}
	texts := make([]string, len(elements))
	for i, element := range elements {
		if texts[i], err = element.Text(); err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
	}
	return texts, nil
}

// identity reads what tickets and answers have in common; nil after a fault.
func (d *ticketDecoder) identity() *Ticket {
	if schema, _ := d.members.Get("schema"); schema.String() != ticketSchema {
		d.fail("schema", fmt.Errorf("not supported, only %s is", ticketSchema))
		return nil
	}
	t := &Ticket{
		Created: d.time("created"),
		Binding: Binding(d.text("binding")),
		Session: d.text("session"),
		User:    d.text("user"),
		Stamp:   d.text("stamp"),
	}
	switch t.Binding {
	case BindNone:
	case BindSession, BindAuth:
		if t.Session == "" {
			d.fail("session", errors.New("missing"))
		}
	default:
		d.fail("binding", errors.New("not known"))
	}
	info, ok := d.members.Get("window_info")
	if !ok {
		d.fail("window_info", errors.New("missing"))
		return nil
	}
	var err error
	if t.WindowInfo, err = compat.DecodeWindowInfo(info); err != nil {
		d.fail("window_info", err)
	}
	return t
}
