package compat

// Database is one entry of DATABASES, as Django connects to it.
type Database struct {
	// Engine is ENGINE, the Python module of the backend.
	Engine string `json:"engine"`
	// Vendor is what the backend speaks, whatever Engine is called: "sqlite", "postgresql", "mysql" (MariaDB too) or "oracle".
	Vendor string `json:"vendor"`
	// Name is NAME; an absolute path for SQLite, unless it is a URI or ":memory:".
	Name string `json:"name"`
	// Host is HOST; empty means the backend's default, a path is a Unix socket's.
	Host string `json:"host"`
	// Port is PORT; empty means the backend's default.
	Port string `json:"port"`
	// User is USER; empty means the backend's default.
	User string `json:"user"`
	// Password is PASSWORD.
	Password Secret `json:"password"`
	// Options is OPTIONS, a JSON object in the words of the Python driver (charset, sslmode, service, …). It may hold passwords.
	Options SecretJSON `json:"options"`
	// TimeZone is the time zone in which Django writes times to a database that has no type for instants (SQLite, MySQL).
	TimeZone string `json:"time_zone"`
}

func (d *Database) check(f *faults, setting string) {
	switch d.Vendor {
	case "":
		f.addf(setting+".vendor", "missing")
	case "sqlite":
		required(f, setting+".name", d.Name)
	}
	d.Options = object(f, setting+".options", d.Options)
}
