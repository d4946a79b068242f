package channelslayer_test

import (
	"context"
	"fmt"
	"log"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dfws/dfws/channelslayer"
	"github.com/dfws/dfws/integration/redistest"
)

// redisURL is the layer's Redis: the one of CHANNEL_LAYERS["default"]["CONFIG"]["hosts"].
var redisURL = "redis://localhost:6379/1"

// Any Go program sends to a group of Django Channels.
func ExampleOpenLayer() {
	layer, err := channelslayer.OpenLayer(channelslayer.Config{Hosts: []channelslayer.Host{{URL: redisURL}}})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = layer.Close() }()
	message := channelslayer.Message{"type": "chat.message", "text": "Hello from Go"}
	if err := layer.GroupSend(context.Background(), "chat", message); err != nil {
		log.Print(err)
	}
}

// A site with two encrypted hosts, the second one behind Sentinels, whose keys are being exchanged.
func ExampleConfig() {
	config := channelslayer.Config{
		Hosts: []channelslayer.Host{
			{URL: "rediss://layer:secret@redis-1.example.org/0", TLS: &channelslayer.TLSOptions{CACerts: "/etc/ssl/redis-ca.pem"}},
			{URL: "redis://:secret@/0", Sentinels: []string{"s1.example.org:26379", "s2.example.org:26379"}, MasterName: "layer"},
		},
		SymmetricEncryptionKeys: []channelslayer.Secret{"the new one", "the one before"},
		SerializerFormat:        channelslayer.SerializerJSON,
	}
	fmt.Println(config.Hosts[1])
	fmt.Println(config.SymmetricEncryptionKeys)
	// Output:
	// sentinel:layer@s1.example.org:26379,s2.example.org:26379
	// [[redacted] [redacted]]
}

// A Go program serves a channel, as `manage.py runworker thumbnails` does in Python. Django sends with
// channel_layer.send("thumbnails", {"type": "generate", "id": 5, "reply_to": …}).
func ExampleServer() {
	layer, err := channelslayer.OpenLayer(channelslayer.Config{Hosts: []channelslayer.Host{{URL: redisURL}}})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = layer.Close() }()
	server := channelslayer.Server{Layer: layer, Channels: []string{"thumbnails"}, Handle: func(ctx context.Context, _ string, m channelslayer.Message) {
		if to, ok := m["reply_to"].(string); ok {
			answer := channelslayer.Message{"type": "thumbnail.done", "id": m["id"]}
			if err := layer.Send(ctx, to, answer); err != nil {
				log.Print(err)
			}
		}
	}}
	ctx, stop := signal.NotifyContext(exampleContext, syscall.SIGTERM)
	defer stop()
	if err := server.Run(ctx); err != nil { // it waits for Redis as long as it takes
		log.Print(err)
	}
}

// exampleContext ends ExampleServer in the test.
var exampleContext = context.Background()

// The examples do what they say. It runs alone, since it gives them another Redis.
func TestExamples(t *testing.T) {
	redisURL = redistest.Shared(t).URLFor(7)
	layer, err := channelslayer.OpenLayer(channelslayer.Config{Hosts: []channelslayer.Host{{URL: redisURL}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = layer.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	channel, err := layer.NewChannel(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := layer.GroupAdd(ctx, "chat", channel); err != nil {
		t.Fatal(err)
	}
	ExampleOpenLayer()
	if m, err := layer.Receive(ctx, channel); err != nil || m["text"] != "Hello from Go" {
		t.Errorf("ExampleOpenLayer sent %v, %v", m, err)
	}
	var stop context.CancelFunc
	exampleContext, stop = context.WithCancel(ctx)
	var serving sync.WaitGroup
	serving.Go(ExampleServer)
	if err := layer.Send(ctx, "thumbnails", channelslayer.Message{"type": "generate", "id": 5, "reply_to": channel}); err != nil {
		t.Error(err)
	}
	if m, err := layer.Receive(ctx, channel); err != nil || m["id"] != int64(5) || !strings.HasPrefix(m["type"].(string), "thumbnail") {
		t.Errorf("ExampleServer answered %v, %v", m, err)
	}
	stop()
	serving.Wait()
}
