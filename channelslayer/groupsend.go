package channelslayer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"
)

const (
	// maxDeliver bounds the keys that one script writes to: Redis serves others in between.
	maxDeliver = 1000
	// maxMemberName is the longest channel name in a group that is sent to; Python's own are below a hundred characters.
	maxMemberName = 1<<16 - 1
)

// GroupSend implements Layer. A process that is over its capacity does not get the message: as in Python that is no error, but
// it is logged and counted (Observer.GroupSent).
//
// It is one round trip where Redis can do it alone: with one host, msgpack, and neither encryption nor regular expressions in
// channel_capacity. Otherwise it is two, one to the server of the group and one to each of its members', which work side by
// side; when some of them fail the others have delivered.
func (c *Core) GroupSend(ctx context.Context, group string, m Message) error {
	if err := CheckGroupName(group); err != nil {
		return err
	}
	send := c.groupSendInSteps
	if len(c.ring) == 1 && c.codec.isOpen() && !c.capacities.local {
		send = c.groupSendAtOnce
	}
	sent, err := send(ctx, group, m)
	if err != nil {
		return err
	}
	c.cfg.Observer.groupSent(sent)
	if sent.OverCapacity > 0 || sent.Rejected > 0 {
		c.cfg.Logger.InfoContext(ctx, "channels over capacity", slog.String("group", group), slog.Int("over_capacity", sent.OverCapacity),
			slog.Int("rejected", sent.Rejected), slog.Int("members", sent.Members))
	}
	return nil
}

func (c *Core) groupSendAtOnce(ctx context.Context, group string, m Message) (GroupSent, error) {
	head, err := c.codec.encodeOpen(m)
	if err != nil {
		return GroupSent{}, err
	}
	reply, err := groupSendScript.Run(ctx, c.ring[0].client, []string{c.keys.group(group)}, c.groupSendArgs(head)...).Int64Slice()
	if err != nil {
		return GroupSent{}, wrap("group send", err)
	}
	if len(reply) != 4 {
		return GroupSent{}, fmt.Errorf("channelslayer: group send: reply has %d elements, want 4", len(reply))
	}
	return GroupSent{Members: int(reply[0]), Keys: int(reply[1]), OverCapacity: int(reply[2]), Rejected: int(reply[3])}, nil
}

func (c *Core) groupSendArgs(head string) []any {
	now := c.now()
	args := make([]any, 0, 7+2*len(c.capacities.rules))
	args = append(args, scoreText(now), now.Unix()-wholeSeconds(c.cfg.GroupExpiry), now.Unix()-wholeSeconds(c.cfg.Expiry),
		wholeSeconds(c.cfg.Expiry), c.cfg.Prefix, head, c.capacities.fallback)
	for _, rule := range c.capacities.rules {
		args = append(args, rule.lua, rule.capacity)
	}
	return args
}

// keyMessage is what one receiving process gets.
type keyMessage struct {
	key   string
	names []string // of the group's members there
	bytes string
}

// groupSendInSteps is group_send of channels_redis in two round trips.
func (c *Core) groupSendInSteps(ctx context.Context, group string, m Message) (GroupSent, error) {
	now := c.now()
	var members *redis.StringSliceCmd
	_, err := c.ring.at(group).client.Pipelined(ctx, func(p redis.Pipeliner) error {
		key := c.keys.group(group)
		p.ZRemRangeByScore(ctx, key, "0", strconv.FormatInt(now.Unix()-wholeSeconds(c.cfg.GroupExpiry), 10))
		members = p.ZRange(ctx, key, 0, -1)
		return nil
	})
	if err != nil {
		return GroupSent{}, wrap("group send", err)
	}
	sent := GroupSent{Members: len(members.Val())}
	shares, err := c.share(members.Val(), m, &sent)
	if err != nil {
		return sent, err
	}
	var mu sync.Mutex // guards sent
	err = c.ring.each(ctx, func(ctx context.Context, s *shard) error {
		for chunk := range slices.Chunk(shares[s], maxDeliver) {
			over, rejected, err := c.deliver(ctx, s, chunk, scoreText(now), now.Unix()-wholeSeconds(c.cfg.Expiry))
			if err != nil {
				return wrap("group send", err)
			}
			mu.Lock()
			sent.OverCapacity += over
			sent.Rejected += rejected
			mu.Unlock()
		}
		return nil
	})
	return sent, err
}

// share puts the members of a group together by key, and the keys by server, with the message for each (core.py,
// _map_channel_keys_to_connection). Names that are no text, or absurdly long, are rejected: they would spoil the message for the
// others.
func (c *Core) share(members []string, m Message, sent *GroupSent) (map[*shard][]keyMessage, error) {
	index := make(map[string]int, len(members))
	var all []keyMessage
	for _, name := range members {
		if len(name) > maxMemberName || !utf8.ValidString(name) {
			sent.Rejected++
			continue
		}
		key := nonLocalName(name)
		i, ok := index[key]
		if !ok {
			i = len(all)
			index[key] = i
			all = append(all, keyMessage{key: key})
		}
		all[i].names = append(all[i].names, name)
	}
	sent.Keys = len(all)
	if len(all) == 0 {
		_, err := c.codec.encodeList(m, nil) // a value that cannot be sent is an error for nobody, too
		return nil, err
	}
	shares := make(map[*shard][]keyMessage, len(c.ring))
	for _, k := range all {
		var err error
		if k.bytes, err = c.codec.encodeList(m, k.names); err != nil {
			return nil, err
		}
		s := c.ring.at(k.key)
		shares[s] = append(shares[s], k)
	}
	return shares, nil
}

// deliver writes messages to their keys on one server.
func (c *Core) deliver(ctx context.Context, s *shard, messages []keyMessage, score string, expired int64) (over, rejected int, err error) {
	keys := make([]string, len(messages))
	args := make([]any, 0, 3+2*len(messages))
	args = append(args, score, expired, wholeSeconds(c.cfg.Expiry))
	for i, k := range messages {
		keys[i] = c.cfg.Prefix + k.key
		args = append(args, c.capacities.of(k.names[0]), k.bytes)
	}
	reply, err := deliverScript.Run(ctx, s.client, keys, args...).Int64Slice()
	if err != nil {
		return 0, 0, err
	}
	if len(reply) != 2 {
		return 0, 0, errors.New("reply of deliver is not two numbers")
	}
	return int(reply[0]), int(reply[1]), nil
}
