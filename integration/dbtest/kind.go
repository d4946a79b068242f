package dbtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	_ "github.com/go-sql-driver/mysql" // so that dbtest can make databases
	_ "github.com/jackc/pgx/v5/stdlib"
)

// serverKind is what the servers have different.
type serverKind struct {
	kind           Kind
	engine, vendor string
	user           string
	driver         string // of database/sql
	options        string // of CREATE DATABASE
	dsn            func(addr string) string
	find           func() (programs, bool)
	prepare        func(p programs, dir string) *exec.Cmd // makes the files of a server
	serve          func(p programs, dir, port string) *exec.Cmd
	stop, crash    syscall.Signal
	credential     func() (*syscall.Credential, error) // nil: as the test
}

// programs are the paths of what makes a server's files and of the server.
type programs struct{ prepare, serve string }

var serverKinds = map[Kind]*serverKind{
	PostgreSQL: {
		kind: PostgreSQL, engine: "django.db.backends.postgresql", vendor: "postgresql", user: "dfws", driver: "pgx",
		dsn: func(addr string) string { return "postgres://dfws@" + addr + "/postgres?sslmode=disable" }, find: findPostgres,
		prepare: func(p programs, dir string) *exec.Cmd {
			return exec.Command(p.prepare, "-D", filepath.Join(dir, "data"), "-U", "dfws", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync")
		},
		serve: func(p programs, dir, port string) *exec.Cmd {
			args := []string{"-D", filepath.Join(dir, "data"), "-p", port}
			for _, setting := range []string{
				"listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "synchronous_commit=off", "full_page_writes=off",
				"max_connections=200", "shared_buffers=16MB", "autovacuum=off",
			} {
				args = append(args, "-c", setting)
			}
			return exec.Command(p.serve, args...)
		},
		stop: syscall.SIGINT, crash: syscall.SIGQUIT, credential: unprivileged, // a killed server's children would go on for a while
	},
	MariaDB: {
		kind: MariaDB, engine: "django.db.backends.mysql", vendor: "mysql", user: "root", driver: "mysql",
		options: " CHARACTER SET utf8mb4", dsn: func(addr string) string { return "root@tcp(" + addr + ")/" }, find: findMariaDB,
		prepare: func(p programs, dir string) *exec.Cmd {
			return exec.Command(p.prepare, "--no-defaults", "--datadir="+filepath.Join(dir, "data"), "--auth-root-authentication-method=normal",
				"--skip-test-db", "--innodb-log-file-size=4M", "--innodb-use-native-aio=0", "--user="+userName())
		},
		serve: func(p programs, dir, port string) *exec.Cmd {
			return exec.Command(p.serve, "--no-defaults", "--datadir="+filepath.Join(dir, "data"), "--port="+port, "--bind-address=127.0.0.1",
				"--socket="+filepath.Join(dir, "s"), "--pid-file="+filepath.Join(dir, "pid"), "--user="+userName(),
				"--innodb-use-native-aio=0", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M",
				"--innodb-log-file-size=4M", "--skip-log-bin")
		},
		stop: syscall.SIGTERM, crash: syscall.SIGKILL,
	},
}

// findPostgres looks where Debian has the server, then in PATH.
func findPostgres() (programs, bool) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		path, err := exec.LookPath("initdb")
		if err != nil {
			return programs{}, false
		}
		found = []string{path}
	}
	initdb := slices.Max(found)
	p := programs{initdb, filepath.Join(filepath.Dir(initdb), "postgres")}
	_, err = os.Stat(p.serve)
	return p, err == nil
}

func findMariaDB() (programs, bool) {
	p := programs{lookPath("mariadb-install-db"), lookPath("mariadbd")}
	return p, p.prepare != "" && p.serve != ""
}

// lookPath finds a program, also where only administrators have their PATH.
func lookPath(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	path, err := exec.LookPath(filepath.Join("/usr/sbin", name))
	if err != nil {
		return ""
	}
	return path
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return strconv.Itoa(os.Getuid())
}

// unprivileged is whom PostgreSQL runs as when the tests run as root, whom it refuses.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
	}
	return nil, fmt.Errorf("neither a user postgres nor nobody")
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return "", err
	}
	return port, l.Close()
}
