// Package djangonative finds out who sits behind a window as Django does, without Python: it reads the topics from the site's cache, the
// session from its store and the user from its table, and checks the session against the password. It only reads.
//
//	topics    cache entry  WEBSOCKET_CACHE_PREFIX + window key        Redis, memcached, a table, files
//	          list         WEBSOCKET_REDIS_PREFIX + window key        Redis (df_websockets before 1.0)
//	session   db, cache, cached_db, file, signed_cookies              the table, the cache, files, the cookie itself
//	user      row of AUTH_USER_MODEL                                  SQLite, PostgreSQL, MySQL
//
// What a site does that only Python can do is named in the settings (compat.Native.Obstacles), and Open refuses it. Databases need
// a driver: the program imports the packages below compat/djangodb that it wants to have.
//
// Sources: django/core/cache/backends, django/contrib/sessions/backends, django/contrib/auth/__init__.py of Django 4.2 to 6.1,
// django-redis 7.0, pymemcache 4.0 and df_websockets 1.2.6 (consumers.py).
package djangonative
