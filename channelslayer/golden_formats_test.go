package channelslayer

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// goldenCodec is the codec that a golden's CONFIG asks for, with the clock of the recording.
func goldenCodec(t testing.TB, config json.RawMessage, randomLength int, ttl time.Duration) codec {
	t.Helper()
	var options struct {
		Serializer string   `json:"serializer_format"`
		Keys       []Secret `json:"symmetric_encryption_keys"`
	}
	if err := json.Unmarshal(config, &options); err != nil {
		t.Fatal(err)
	}
	c, err := Config{SerializerFormat: options.Serializer, SymmetricEncryptionKeys: options.Keys}.codec(randomLength, ttl)
	if err != nil {
		t.Fatal(err)
	}
	if c.fernet != nil {
		c.fernet.now = func() time.Time { return time.Unix(1795427130, 0) }
	}
	return c
}

// clearBody opens what the codec would, and returns the bytes inside.
func clearBody(t testing.TB, c codec, member string) string {
	t.Helper()
	r, _, err := c.decode(member, 0)
	if err != nil {
		t.Fatal(err)
	}
	return r.body
}

func TestGoldenFormats(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"core_send_specific_json_plain_shards1", "core_send_specific_json_encrypted_shards1", "core_send_specific_msgpack_encrypted_rotated_shards1",
		"core_send_old_key_json", "core_send_old_key_msgpack",
	} {
		g := mustGolden[golden](t, name)
		c := goldenCodec(t, g.Config, DefaultRandomPrefixLength, DefaultExpiry+fernetGrace)
		member := g.Redis[0].member(t, 0)
		r, names, err := c.decode(member, 0)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		m, err := r.Map()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(Message(fromJSON(t, g.Expect.Message).(map[string]any)), m); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if got := strings.Join(allNames(names), ","); got != g.Expect.Channel {
			t.Errorf("%s: channel %q, want %q", name, got, g.Expect.Channel)
		}
		again, err := c.encode(m, g.Expect.Channel)
		if err != nil {
			t.Errorf("%s: encode: %v", name, err)
		} else if got, want := clearBody(t, c, again), r.body; got != want || len(again) != len(member) {
			t.Errorf("%s: encoded again\n%q\nwant\n%q", name, got, want)
		}
	}
}

func TestGoldenGroupFormats(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"core_group_send_json_plain_shards1", "core_group_send_json_encrypted_rotated_shards3", "core_group_send_msgpack_encrypted_shards1",
		"core_group_send_msgpack_plain_shards3",
	} {
		g := mustGolden[golden](t, name)
		c := goldenCodec(t, g.Config, DefaultRandomPrefixLength, DefaultExpiry+fernetGrace)
		checked := 0
		for _, key := range g.Redis {
			if strings.Contains(key.Key, ":group:") {
				continue
			}
			r, names, err := c.decode(key.member(t, 0), 0)
			if err != nil {
				t.Errorf("%s: %s: %v", name, key.Key, err)
				continue
			}
			checked++
			m, err := r.Map()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(Message(fromJSON(t, g.Expect.Message).(map[string]any)), m); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
			again, err := c.encodeList(m, allNames(names))
			if err != nil {
				t.Errorf("%s: encode: %v", name, err)
			} else if got := clearBody(t, c, again); got != r.body {
				t.Errorf("%s: encoded again\n%q\nwant\n%q", name, got, r.body)
			}
		}
		if checked != 3 {
			t.Errorf("%s: %d keys checked", name, checked)
		}
	}
}

func TestGoldenPubSub(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"pubsub_json_plain", "pubsub_json_encrypted", "pubsub_msgpack_plain", "pubsub_msgpack_encrypted"} {
		g := mustGolden[struct {
			Config    json.RawMessage `json:"config"`
			Published []struct {
				Channel string `json:"channel"`
				Payload string `json:"payload_b64"`
			} `json:"published"`
		}](t, name)
		c := goldenCodec(t, g.Config, 0, 0)
		for _, p := range g.Published {
			payload := unbase64(t, p.Payload)
			r, names, err := c.decode(payload, 0)
			if err != nil || names.present || r.Type() == "" {
				t.Errorf("%s: %s: %q, %v", name, p.Channel, r.Type(), err)
				continue
			}
			m, err := r.Map()
			if err != nil {
				t.Fatal(err)
			}
			again, err := c.encode(m, "")
			if err != nil {
				t.Errorf("%s: encode: %v", name, err)
			} else if got := clearBody(t, c, again); got != r.body || len(again) != len(payload) {
				t.Errorf("%s: encoded again\n%q\nwant\n%q", name, got, r.body)
			}
		}
		if len(g.Published) < 3 {
			t.Errorf("%s: %d messages", name, len(g.Published))
		}
	}
}
