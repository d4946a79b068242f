//go:build integration

package integration

import (
	"bytes"
	"context"
	"fmt"
	"image/png"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/dfws/dfws/integration/harness"
)

// screenshotEnv names the file that the demo page's screenshot is written to.
const screenshotEnv = "DFWS_SCREENSHOT"

// demoSite is the shared site with the worker of the demo page.
func demoSite(t *testing.T) *fullSite {
	t.Helper()
	site := full(t)
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if site.demoWorker == nil {
		worker, err := site.GoWorker(t.Context(), harness.GoWorkerOptions{Package: "cmd/demo-worker", App: "demo", Settings: site.settings})
		must(t, err)
		site.demoWorker = worker
	}
	return site
}

func browser(t *testing.T, ctx context.Context) *harness.Browser {
	t.Helper()
	b, err := shared.lab.Browser(ctx)
	harness.Require(t, "chromium", err)
	t.Cleanup(func() { must(t, b.Stop()) })
	return b
}

// shows waits until the demo page shows a line from somebody with this text.
func shows(t *testing.T, ctx context.Context, tab *harness.Tab, from, text string) {
	t.Helper()
	lines := `[...document.querySelectorAll("#log li")]`
	line := fmt.Sprintf(`l.querySelector("b").textContent === %s && l.querySelector("span").textContent === %s`, strconv.Quote(from), strconv.Quote(text))
	if err := tab.Wait(soon(t, ctx), lines+`.some(l => `+line+`)`); err != nil {
		shown, _ := tab.Text(lines + `.map(l => l.textContent).join("; ")`)
		t.Fatalf("%v; the page shows: %s", err, shown)
	}
}

// TestDemoPage uses the demo page as a visitor does: unmodified script, real browser. Two visitors have it open.
func TestDemoPage(t *testing.T) {
	ctx := deadline(t)
	site := demoSite(t)
	b := browser(t, ctx)
	home := site.gateway.URL.String() + "/"

	alice := must1(b.Tab(home + "login/?u=alice&p=pw-alice"))(t)
	must(t, alice.Go(home))
	other := must1(b.Incognito(home))(t)
	for _, tab := range []*harness.Tab{alice, other} {
		must(t, tab.Wait(soon(t, ctx), `document.querySelector("#status").classList.contains("connected")`))
	}

	for _, step := range []struct {
		button string
		lines  [][2]string // in alice's window
		both   bool        // the other visitor sees them as well
	}{
		{button: "#python-hello", lines: [][2]string{{"python", "Hello alice, says a Celery worker"}}},
		{button: "#go-hello", lines: [][2]string{{"go", "Hello alice, says a Go worker"}}},
		{button: "#both", lines: [][2]string{
			{"python", "Hello alice, Python heard the call for both"}, {"go", "Hello alice, Go heard the call for both"},
		}},
		{button: "#view-to-go", lines: [][2]string{{"everyone", "alice made a Django view call Go"}}, both: true},
		{button: "#go-broadcast", lines: [][2]string{{"everyone", "alice asked Go to tell everyone"}}, both: true},
	} {
		must(t, alice.Click(step.button))
		for _, line := range step.lines {
			shows(t, ctx, alice, line[0], line[1])
			if step.both {
				shows(t, ctx, other, line[0], line[1])
			}
		}
	}
	must(t, alice.Type("#form-name", "Grace"))
	must(t, alice.Click("#color-g"))
	must(t, alice.Click("#form button"))
	shows(t, ctx, alice, "python", "The form of Grace came through (green)")

	if n := must1(alice.Text(`document.querySelectorAll("#log li").length`))(t); n != "7" {
		t.Errorf("alice's window shows %s lines, want 7", n)
	}
	if n := must1(other.Text(`document.querySelectorAll("#log li").length`))(t); n != "2" {
		t.Errorf("the other window shows %s lines, want 2", n)
	}
	saveScreenshot(t, alice)
}

func saveScreenshot(t *testing.T, tab *harness.Tab) {
	t.Helper()
	path := os.Getenv(screenshotEnv)
	if path == "" {
		path = filepath.Join(t.TempDir(), "demo.png")
	}
	content := must1(tab.Screenshot())(t)
	picture := must1(png.Decode(bytes.NewReader(content)))(t)
	if size := picture.Bounds().Size(); size.X < 800 || size.Y < 600 || len(content) < 20_000 {
		t.Errorf("the screenshot has %d×%d points and %d bytes", size.X, size.Y, len(content))
	}
	must(t, os.WriteFile(path, content, 0o600))
	t.Logf("screenshot: %s (%d bytes)", path, len(content))
}

// TestReconnect cuts the page's websocket: the script comes back by itself and the page goes on.
func TestReconnect(t *testing.T) {
	ctx := deadline(t)
	site := demoSite(t)
	b := browser(t, ctx)
	tab := must1(b.Tab(site.gateway.URL.String() + "/"))(t)
	connected := `window.DFSignals.connection !== window.first && window.DFSignals.connection.readyState === WebSocket.OPEN`
	must(t, tab.Wait(soon(t, ctx), connected))
	must1(tab.Text(`window.first = window.DFSignals.connection, window.first.close(), 1`))(t)
	must(t, tab.Wait(soon(t, ctx), connected))
	must(t, tab.Click("#go-hello"))
	shows(t, ctx, tab, "go", "Hello Ada, says a Go worker")
}

// TestReadme uses the forms and views of df_websockets' README in a browser.
func TestReadme(t *testing.T) {
	ctx := deadline(t)
	site := demoSite(t)
	b := browser(t, ctx)
	tab := must1(b.Tab(site.gateway.URL.String() + "/readme/topics/"))(t)
	must(t, tab.Wait(soon(t, ctx), `window.DFSignals.connection && window.DFSignals.connection.readyState === WebSocket.OPEN`))
	// The script reads the forms 50 ms after DOMContentLoaded.
	must(t, tab.Wait(soon(t, ctx), `performance.now() > performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd + 500`))
	received := func(count int, opts string) string {
		return fmt.Sprintf(`[...document.querySelectorAll("#signals li")].filter(l => l.textContent === %s).length === %d`, strconv.Quote(opts), count)
	}

	// The file with the forms has two handlers of the signal; each of them answers.
	for i, field := range []string{"by-hand", "by-tag"} {
		must1(tab.Text(fmt.Sprintf(`document.getElementById(%q).dispatchEvent(new Event("change", {bubbles: true}))`, field)))(t)
		must(t, tab.Wait(soon(t, ctx), received(2*(i+1), `{"title":null}`)))
	}
	must1(tab.Text(`document.getElementById("by-value").value = "Zoë", document.getElementById("by-value").dispatchEvent(new Event("change", {bubbles: true}))`))(t)
	must(t, tab.Wait(soon(t, ctx), received(2, `{"title":"Zoë"}`)))

	// another_view: to the window that asks, and to all windows with the object. This page is both, and the script drops repeats.
	fetched := `fetch("/readme/objects/42/", {headers: {"X-Requested-With": "XMLHttpRequest"}}) && 1`
	must1(tab.Text(fetched))(t)
	must(t, tab.Wait(soon(t, ctx), received(1, `{"content":"hello from a view"}`)))

	// any_view, from another visitor: both Python handlers run, no window of ours is addressed.
	stranger := harness.NewClient(site.gateway.URL)
	if resp := must1(stranger.Get(ctx, "/readme/first/"))(t); resp.Status != http.StatusOK {
		t.Errorf("any_view answers %d", resp.Status)
	}

	// "Testing signals" and "JavaScript signals" have handlers of one signal, which only servers may trigger: one refuses the argument,
	// the other writes into the page.
	must1(tab.Text(`fetch("/trigger/?signal=test.signal&to=server&kwargs=" + encodeURIComponent('{"word":"hi"}'), {headers: {"X-Requested-With": "XMLHttpRequest"}}) && 1`))(t)
	must(t, tab.Wait(soon(t, ctx), `document.querySelector("#obj span")?.textContent === "hi"`))

	// "You can even open a shell".
	shell := `import df_websockets.tasks as t; t.trigger(None, "myproject.first_signal", to=[t.BROADCAST], content="hello from a shell")`
	must1(site.Manage(ctx, "shell", "-c", shell))(t)
	must(t, tab.Wait(soon(t, ctx), received(1, `{"content":"hello from a shell"}`)))
}
