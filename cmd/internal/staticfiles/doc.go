// Package staticfiles serves what `manage.py collectstatic` has put into STATIC_ROOT, as nginx or WhiteNoise would: strong ETags, ranges,
// conditional requests, and the variants that were compressed beforehand (app.js.br, .zst, .gz beside app.js).
//
// Only regular files below the root are served. A path with a segment that begins with a dot is nobody's, and a symbolic link is followed
// only inside of the root (os.Root). There are no listings and no index pages.
//
// Names that Django's ManifestStaticFilesStorage has made from a file's content (staticfiles.json, "paths") never change their content and
// are cached for ever. Other files are cached for Config.MaxAge.
//
// STATIC_ROOT may be replaced while it is served, as a deployment does that switches a symbolic link: it is looked at once a second, as is
// the manifest. The package has no goroutine.
package staticfiles
