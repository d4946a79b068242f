// Package redistest starts real redis-server processes for tests.
//
// Each server listens on a free loopback port, keeps its files in a temporary
// directory and is stopped through its own process handle, never by name or
// port. A test that needs a server of its own calls [Start]; tests that only
// need some Redis share one through [Shared], each under its own key prefix or
// database, in a package whose TestMain is
//
//	func TestMain(m *testing.M) { os.Exit(redistest.Main(m)) }
//
// Without redis-server in PATH the calling test is skipped with a reason. Where
// the environment variable DFWS_REQUIRE contains "redis" it fails instead, so
// that continuous integration cannot pass by skipping.
package redistest
