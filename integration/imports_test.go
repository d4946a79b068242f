package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/dfws/dfws"

// mayImport is the package graph of ARCHITECTURE.md: what each package of ours may reach, directly or not.
var mayImport = map[string][]string{
	"celeryproto":               {},
	"celeryproto/canvas":        {"celeryproto"},
	"celeryproto/monitor":       {"celeryproto"},
	"celeryproto/redisbroker":   {"celeryproto", "internal/redisconn"},
	"celeryproto/djangoresults": {"celeryproto"},
	"channelslayer":             {"internal/redisconn"},
	"internal/redisconn":        {},
	"compat":                    {"celeryproto"},
	"compat/resultbackend":      {"celeryproto", "compat"},
	"compat/djangodb":           {"celeryproto", "celeryproto/djangoresults", "compat", "compat/resultbackend"},
	"compat/djangodb/mysql":     djangoDriver,
	"compat/djangodb/postgres":  djangoDriver,
	"compat/djangodb/sqlite":    djangoDriver,
	"compat/djangostate":        {"celeryproto", "compat"},
	"compat/djangonative": {
		"celeryproto", "celeryproto/djangoresults", "channelslayer", "compat", "compat/djangodb", "compat/djangostate", "compat/resultbackend",
		"internal/redisconn",
	},
	"compat/dispatch": {
		"celeryproto", "celeryproto/redisbroker", "channelslayer", "compat", "compat/djangostate", "internal/redisconn",
	},
	"gateway": {
		"celeryproto", "celeryproto/redisbroker", "channelslayer", "compat", "compat/djangostate", "compat/dispatch", "internal/redisconn",
	},
	"worker": {
		"celeryproto", "celeryproto/canvas", "celeryproto/monitor", "celeryproto/redisbroker", "channelslayer", "compat", "compat/djangostate",
		"compat/dispatch", "compat/resultbackend", "internal/redisconn",
	},
	"worker/command": {
		"celeryproto", "celeryproto/canvas", "celeryproto/monitor", "celeryproto/redisbroker", "channelslayer", "compat", "compat/djangostate",
		"compat/dispatch", "compat/resultbackend", "internal/redisconn", "worker",
	},
	"compat/gocelery": {
		"celeryproto", "celeryproto/canvas", "celeryproto/monitor", "celeryproto/redisbroker", "channelslayer", "compat", "compat/djangostate",
		"compat/dispatch", "compat/resultbackend", "internal/redisconn", "worker",
	},
}

// djangoDriver is what the packages that bring a driver of database/sql may reach.
var djangoDriver = []string{"celeryproto", "celeryproto/djangoresults", "compat", "compat/djangodb", "compat/resultbackend"}

// importers lists who of ours may import a third-party package directly.
var importers = map[string][]string{
	"github.com/redis/go-redis/v9":        {"celeryproto/redisbroker", "channelslayer", "internal/redisconn", "compat/dispatch", "compat/djangonative", "cmd/internal/app"},
	"github.com/bradfitz/gomemcache":      {"compat/djangonative"},
	"github.com/pierrec/lz4/v4":           {"compat/djangostate"},
	"github.com/gorilla/websocket":        {"gateway"},
	"github.com/mitchellh/mapstructure":   {"worker"},
	"github.com/vmihailenco/msgpack/v5":   {"channelslayer"},
	"github.com/prometheus/client_golang": {"cmd/internal/app"},
	"github.com/pires/go-proxyproto":      {"cmd/internal/listener"},
	"golang.org/x/sys":                    {"cmd/internal/appserver"},
	"github.com/klauspost/compress":       {"celeryproto"},
	"github.com/ulikunitz/xz":             {"celeryproto"},
	"github.com/andybalholm/brotli":       {"celeryproto"},
	"github.com/go-sql-driver/mysql":      {"compat/djangodb/mysql"},
	"github.com/jackc/pgx/v5":             {"compat/djangodb/postgres"},
	"modernc.org/sqlite":                  {"compat/djangodb/sqlite"},
	"database/sql": {
		"celeryproto/djangoresults", "compat/djangodb", "compat/djangodb/mysql", "compat/djangodb/postgres", "compat/djangodb/sqlite",
		"compat/djangonative",
	},
	"github.com/chromedp/chromedp":                 {},
	"github.com/gocelery/gocelery":                 {}, // the peer of compat/gocelery's tests
	"github.com/gomodule/redigo":                   {}, // which its constructors take
	"github.com/google/go-cmp":                     {},
	"go.uber.org/goleak":                           {},
	"testing":                                      {"channelslayer/layertest", "worker/workertest"},
	"github.com/dfws/dfws/integration/harness":     {},
	"github.com/dfws/dfws/channelslayer/layertest": {},
}

// pure packages read no environment, network, file or clock service: they may not import these.
var impure = []string{"net", "net/http", "os", "os/exec", "syscall", "log"}

// maxChain is how long a chain of imports inside the module may be.
const maxChain = 5

type goPackage struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
}

// TestPackageGraph keeps the graph of ARCHITECTURE.md true. Folders under integration/ may import everything.
func TestPackageGraph(t *testing.T) {
	t.Parallel()
	packages := mustListPackages(t)
	for path, allowed := range mayImport {
		p, ok := packages[path]
		if !ok {
			t.Errorf("package %s is in the graph and does not exist", path)
			continue
		}
		for _, dep := range p.Deps {
			inner, ours := strings.CutPrefix(dep, module+"/")
			inner = owner(inner)
			if ours && inner != path && !slices.Contains(allowed, inner) {
				t.Errorf("%s reaches %s", path, inner)
			}
		}
	}
	for path, p := range packages {
		if !slices.Contains([]string{"celeryproto", "celeryproto/canvas", "celeryproto/monitor", "compat", "compat/djangostate"}, owner(path)) {
			continue
		}
		for _, imported := range p.Imports {
			if slices.Contains(impure, imported) {
				t.Errorf("%s is to stay pure and imports %s", path, imported)
			}
		}
	}
}

// owner is the package whose part an internal package is: only that one can import it.
func owner(path string) string {
	owner, _, _ := strings.Cut(path, "/internal/")
	return owner
}

// testOnly says which packages' tests may import a third-party package that no program of ours and no user's may be built with.
var testOnly = map[string]string{
	"github.com/gocelery/gocelery": "compat/gocelery",
	"github.com/gomodule/redigo":   "compat/gocelery",
	"github.com/streadway/amqp":    "",
	"github.com/satori/go.uuid":    "",
}

// TestGoceleryStaysInTests keeps gocelery, and what it drags along, out of every binary: compat/gocelery only looks like it.
func TestGoceleryStaysInTests(t *testing.T) {
	t.Parallel()
	for path, p := range mustListPackages(t) {
		for pkg, tested := range testOnly {
			for _, dep := range p.Deps {
				if dep == pkg || strings.HasPrefix(dep, pkg+"/") {
					t.Errorf("%s is built with %s", path, dep)
				}
			}
			for _, imported := range append(p.TestImports, p.XTestImports...) {
				if (imported == pkg || strings.HasPrefix(imported, pkg+"/")) && path != tested && !strings.HasPrefix(path, "integration") {
					t.Errorf("tests of %s import %s", path, imported)
				}
			}
		}
	}
}

// TestDatabasesAreOptional keeps databases out of programs that keep results in Redis.
func TestDatabasesAreOptional(t *testing.T) {
	t.Parallel()
	packages := mustListPackages(t)
	for _, path := range []string{"gateway", "worker", "cmd/demo-worker"} {
		if slices.Contains(packages[path].Deps, "database/sql") {
			t.Errorf("%s reaches database/sql", path)
		}
	}
}

// TestOneImporter checks that each third-party package has the importers that ARCHITECTURE.md names and no others.
func TestOneImporter(t *testing.T) {
	t.Parallel()
	for path, p := range mustListPackages(t) {
		if strings.HasPrefix(path, "integration") {
			continue
		}
		for _, imported := range p.Imports {
			for pkg, allowed := range importers {
				if (imported == pkg || strings.HasPrefix(imported, pkg+"/")) && !slices.Contains(allowed, path) {
					t.Errorf("%s imports %s", path, imported)
				}
			}
		}
	}
}

// TestImportChain keeps the longest chain of imports between our packages short.
func TestImportChain(t *testing.T) {
	t.Parallel()
	packages := mustListPackages(t)
	var length func(path string) int
	length = func(path string) int {
		longest := 0
		for _, imported := range packages[path].Imports {
			if inner, ours := strings.CutPrefix(imported, module+"/"); ours && owner(inner) != path {
				longest = max(longest, length(inner))
			}
		}
		return longest + 1
	}
	for path := range packages {
		if strings.HasPrefix(path, "integration") {
			continue
		}
		if n := length(path); n > maxChain+1 { // the binary itself comes on top
			t.Errorf("%s starts a chain of %d packages", path, n)
		}
	}
}

func mustListPackages(t *testing.T) map[string]goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports,Deps", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := map[string]goPackage{}
	decoder := json.NewDecoder(bytes.NewReader(out))
	for {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages[strings.TrimPrefix(p.ImportPath, module+"/")] = p
	}
}
