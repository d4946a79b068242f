package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/remote"
)

// browserNames are tried in this order; DFWS_CHROMIUM names another program.
var browserNames = []string{"chromium", "chromium-browser", "google-chrome"}

// browserFlags keep Chromium off the screen and off the network.
var browserFlags = []string{
	"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
	"--disable-component-update", "--disable-sync", "--hide-scrollbars", "--mute-audio", "--window-size=1100,1100",
	"--remote-debugging-port=0",
}

// Browser is a running Chromium.
type Browser struct {
	*Process

	ctx    context.Context // chromedp keeps its browser in a context
	cancel context.CancelFunc
}

// Browser starts a Chromium with an empty profile. [ErrMissing] says that none is installed.
func (l *Lab) Browser(ctx context.Context) (*Browser, error) {
	program, err := findBrowser()
	if err != nil {
		return nil, err
	}
	profile, err := os.MkdirTemp(l.cfg.Dir, "chromium-")
	if err != nil {
		return nil, fmt.Errorf("harness: %w", err)
	}
	var endpoint string
	p, err := l.Start(ctx, Command{
		Name: "chromium", Path: program, Args: append(browserFlags, "--user-data-dir="+profile, "about:blank"), StopTimeout: 5 * time.Second,
		Ready: func(context.Context, *Process) (err error) {
			endpoint, err = devToolsEndpoint(profile)
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	allocator, cancelAllocator := remote.NewAllocator(context.Background(), endpoint, remote.NoModifyURL)
	browserCtx, cancelBrowser := chromedp.NewContext(allocator)
	b := &Browser{Process: p, ctx: browserCtx, cancel: func() { cancelBrowser(); cancelAllocator() }}
	l.onClose(func() error { b.cancel(); return nil })
	if err := chromedp.Do(browserCtx); err != nil {
		return nil, errors.Join(fmt.Errorf("harness: connect to chromium: %w", err), p.Stop())
	}
	return b, nil
}

func findBrowser() (string, error) {
	if named := os.Getenv("DFWS_CHROMIUM"); named != "" {
		return named, nil
	}
	for _, name := range browserNames {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: none of %s", ErrMissing, strings.Join(browserNames, ", "))
}

// devToolsEndpoint reads the file that Chromium writes once it listens: its port, and the path of the browser's websocket.
func devToolsEndpoint(profile string) (string, error) {
	text, err := os.ReadFile(filepath.Join(profile, "DevToolsActivePort"))
	if err != nil {
		return "", err
	}
	port, path, found := strings.Cut(strings.TrimSpace(string(text)), "\n")
	if !found {
		return "", errors.New("DevToolsActivePort is not complete")
	}
	return "ws://127.0.0.1:" + port + path, nil
}

// Tab is one page of a browser.
type Tab struct {
	ctx    context.Context // chromedp keeps its target in a context
	cancel context.CancelFunc
}

// Tab opens a page; all such tabs share their cookies.
func (b *Browser) Tab(url string) (*Tab, error) { return b.open(url) }

// Incognito opens a page with cookies of its own: another visitor.
func (b *Browser) Incognito(url string) (*Tab, error) {
	return b.open(url, chromedp.WithNewBrowserContext())
}

func (b *Browser) open(url string, opts ...chromedp.ContextOption) (*Tab, error) {
	t := &Tab{}
	t.ctx, t.cancel = chromedp.NewContext(b.ctx, opts...)
	if err := t.Go(url); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// Go loads another page.
func (t *Tab) Go(url string) error {
	if err := chromedp.Do(t.ctx, chromedp.Navigate(url)); err != nil {
		return fmt.Errorf("harness: open %s: %w", url, err)
	}
	return nil
}

// Click clicks the first element that fits a CSS selector.
func (t *Tab) Click(selector string) error {
	if err := chromedp.Do(t.ctx, chromedp.Click(chromedp.CSS(selector))); err != nil {
		return fmt.Errorf("harness: click %s: %w", selector, err)
	}
	return nil
}

// Type types text into the first element that fits a CSS selector.
func (t *Tab) Type(selector, text string) error {
	if err := chromedp.Do(t.ctx, chromedp.SendKeys(chromedp.CSS(selector), text)); err != nil {
		return fmt.Errorf("harness: type into %s: %w", selector, err)
	}
	return nil
}

// Text evaluates a JavaScript expression that gives a text.
func (t *Tab) Text(expression string) (string, error) {
	text, err := chromedp.Run(t.ctx, chromedp.Evaluate[string]("String("+expression+")"))
	if err != nil {
		return "", fmt.Errorf("harness: evaluate %s: %w", expression, err)
	}
	return text, nil
}

// Wait waits until a JavaScript expression is true. Tabs in the background are asked as often as the one in front.
func (t *Tab) Wait(ctx context.Context, expression string) error {
	return WaitFor(ctx, expression, func(context.Context) error {
		value, err := t.Text("Boolean(" + expression + ")")
		if err == nil && value != "true" {
			err = errors.New("still " + value)
		}
		return err
	})
}

// Screenshot returns the visible part of the page as PNG.
func (t *Tab) Screenshot() ([]byte, error) {
	image, err := chromedp.Run(t.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		return nil, fmt.Errorf("harness: screenshot: %w", err)
	}
	return image, nil
}

// Close closes the tab, as its user does.
func (t *Tab) Close() error {
	err := chromedp.Cancel(t.ctx)
	t.cancel()
	return err
}
