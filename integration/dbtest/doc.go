// Package dbtest gives tests real databases: files of SQLite, and servers of PostgreSQL and MariaDB.
//
// A server listens on a free loopback port, keeps its files in a temporary directory, gives up durability for speed, and is
// stopped through its own process handle. [Each] runs a test once for each kind of database that is installed; tests share the
// servers through it, each with a database of its own, in a package whose TestMain is
//
//	func TestMain(m *testing.M) { os.Exit(dbtest.Main(m, nil)) }
//
// A kind that is not installed is skipped with a reason. Where the environment variable DFWS_REQUIRE contains "postgresql" or
// "mariadb" it fails instead.
package dbtest
