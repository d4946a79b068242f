package layertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/dfws/dfws/channelslayer"
)

// pubSubTests are what a pub/sub layer promises.
var pubSubTests = map[string]func(*testing.T, *pair){
	"values arrive as they were":              testValues,
	"specific channels are told apart":        testSpecific,
	"concurrent receivers":                    testConcurrent,
	"new channels":                            testNewPubSubChannel,
	"a general channel is for all":            testGeneralForAll,
	"a group reaches its members":             testPubSubGroup,
	"members of several processes":            testGroupOfTwo,
	"only its own process adds a channel":     testForeignMember,
	"joining twice is joining once":           testPubSubAddTwice,
	"empty groups and missing members":        testEmptyGroup,
	"close ends a receive":                    testClosePubSub,
	"the message belongs to its sender again": testPubSubNotModified,
}

func testNewPubSubChannel(t *testing.T, p *pair) {
	seen := map[string]bool{}
	for range 10 {
		name := newChannel(t, p.receiver, "")
		if seen[name] || strings.Contains(name, "!") || !strings.Contains(name, "specific.") {
			t.Errorf("NewChannel: %q", name)
		}
		seen[name] = true
	}
	if name := newChannel(t, p.receiver, "http.response"); !strings.Contains(name, "http.response") {
		t.Errorf("NewChannel(http.response): %q", name)
	}
}

func testGeneralForAll(t *testing.T, p *pair) {
	channel := "tasks." + newChannel(t, p.receiver, "") // names have no prefix of the test's own
	ctx := within(t)
	receivers := []channelslayer.Layer{p.sender, p.receiver}
	var g errgroup.Group
	for _, l := range receivers {
		g.Go(func() error {
			m, err := l.Receive(ctx, channel)
			if err == nil && m["type"] != "t" {
				err = fmt.Errorf("received %v", m)
			}
			return err
		})
	}
	done := make(chan struct{})
	var sending errgroup.Group
	sending.Go(func() error { // until both listen
		for ctx.Err() == nil {
			select {
			case <-done:
				return nil
			default:
			}
			if err := p.sender.Send(ctx, channel, channelslayer.Message{"type": "t"}); err != nil {
				return err
			}
		}
		return context.Cause(ctx)
	})
	must(t, g.Wait())
	close(done)
	must(t, sending.Wait())
}

func testPubSubGroup(t *testing.T, p *pair) {
	a, b := newChannel(t, p.receiver, ""), newChannel(t, p.receiver, "")
	group := "g" + a
	must(t, p.receiver.GroupAdd(within(t), group, a))
	must(t, p.receiver.GroupAdd(within(t), group, b))
	first := channelslayer.Message{"type": "ws_message", "message": "1"}
	must(t, p.sender.GroupSend(within(t), group, first))
	mustReceive(t, p.receiver, a, first)
	mustReceive(t, p.receiver, b, first)
	must(t, p.receiver.GroupDiscard(within(t), group, a))
	second := channelslayer.Message{"type": "ws_message", "message": "2"}
	must(t, p.sender.GroupSend(within(t), group, second))
	mustReceive(t, p.receiver, b, second)
	mustBeNext(t, p, a)
}

func testForeignMember(t *testing.T, p *pair) {
	if err := p.sender.GroupAdd(within(t), "g", newChannel(t, p.receiver, "")); !errors.Is(err, channelslayer.ErrUnknownChannel) {
		t.Errorf("GroupAdd of a channel of another process: %v, want ErrUnknownChannel", err)
	}
}

func testPubSubAddTwice(t *testing.T, p *pair) {
	channel := newChannel(t, p.receiver, "")
	must(t, p.receiver.GroupAdd(within(t), "g", channel))
	must(t, p.receiver.GroupAdd(within(t), "g", channel))
	m := channelslayer.Message{"type": "ws_message", "message": "once"}
	must(t, p.sender.GroupSend(within(t), "g", m))
	mustReceive(t, p.receiver, channel, m)
	mustBeNext(t, p, channel)
}

func testClosePubSub(t *testing.T, p *pair) {
	closeWhileReceiving(t, p, newChannel(t, p.receiver, ""))
}

func testPubSubNotModified(t *testing.T, p *pair) {
	m := channelslayer.Message{"type": "t"}
	must(t, p.sender.Send(within(t), newChannel(t, p.receiver, ""), m))
	must(t, p.sender.GroupSend(within(t), "g", m))
	if len(m) != 1 {
		t.Errorf("the sender's message was changed: %v", m)
	}
}
