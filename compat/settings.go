package compat

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// SettingsSchema is the schema of the settings file that this package reads.
const SettingsSchema = 1

// Settings is what `manage.py dfws settings` exports: the values of the running Django site that a Go process needs. Fields that the file
// leaves out have the default of the Python program they belong to.
type Settings struct {
	Schema       int          `json:"schema"`
	Generated    Generated    `json:"generated"`
	Site         Site         `json:"site"`
	WebSocket    WebSocket    `json:"websocket"`
	Celery       Celery       `json:"celery"`
	ChannelLayer ChannelLayer `json:"channel_layer"`
	DFWS         DFWS         `json:"dfws"`
	// Native is nil in settings that were exported before it existed.
	Native *Native `json:"native"`
	// Databases are those of DATABASES that are needed, by alias: the one that keeps results, when Celery.ResultDatabase names it, and those
	// that Native names.
	Databases map[string]Database `json:"databases"`
}

// Generated says who wrote the settings: versions of the packages on the Python side, for diagnostics only.
type Generated struct {
	At            string `json:"at"`
	Shim          string `json:"shim"`
	Python        string `json:"python"`
	Django        string `json:"django"`
	DFWebsockets  string `json:"df_websockets"`
	Celery        string `json:"celery"`
	Kombu         string `json:"kombu"`
	Channels      string `json:"channels"`
	ChannelsRedis string `json:"channels_redis"`
	Redis         string `json:"redis"`
	// DjangoCeleryResults is empty where it is not installed.
	DjangoCeleryResults string `json:"django_celery_results"`
}

// Site holds settings of Django itself.
type Site struct {
	// Module is the site's Python module, for diagnostics.
	Module string `json:"module"`
	// Debug is DEBUG.
	Debug bool `json:"debug"`
	// AllowedHosts is ALLOWED_HOSTS.
	AllowedHosts []string `json:"allowed_hosts"`
	// CSRFTrustedOrigins is CSRF_TRUSTED_ORIGINS.
	CSRFTrustedOrigins []string `json:"csrf_trusted_origins"`
	// UseXForwardedHost is USE_X_FORWARDED_HOST.
	UseXForwardedHost bool `json:"use_x_forwarded_host"`
	// SecureProxySSLHeader is SECURE_PROXY_SSL_HEADER: nil, or the META name and the value that means https.
	SecureProxySSLHeader []string `json:"secure_proxy_ssl_header"`
	// StaticURL is STATIC_URL, with the script prefix of a relative one; empty if unset.
	StaticURL string `json:"static_url"`
	// StaticRoot is STATIC_ROOT as an absolute path; empty if unset.
	StaticRoot string `json:"static_root"`
	// SessionCookieName is SESSION_COOKIE_NAME; default "sessionid".
	SessionCookieName string `json:"session_cookie_name"`
	// SessionEngine is SESSION_ENGINE; default "django.contrib.sessions.backends.db".
	SessionEngine string `json:"session_engine"`
	// SessionCookieAge is SESSION_COOKIE_AGE; default two weeks.
	SessionCookieAge Seconds `json:"session_cookie_age"`
	// CSRFCookieName is CSRF_COOKIE_NAME; default "csrftoken".
	CSRFCookieName string `json:"csrf_cookie_name"`
	// LanguageCode is LANGUAGE_CODE; default "en-us".
	LanguageCode string `json:"language_code"`
	// AuthUserModel is AUTH_USER_MODEL as app.model; default "auth.user".
	AuthUserModel string `json:"auth_user_model"`
	// SessionSigningKeys are the derived keys, in hex, that verify sessions of the engine signed_cookies; empty with other engines.
	SessionSigningKeys []Secret `json:"session_signing_keys"`
}

// WebSocket holds settings of df_websockets.
type WebSocket struct {
	// URL is WEBSOCKET_URL, a path; default "/ws/".
	URL string `json:"url"`
	// DefaultQueue is WEBSOCKET_DEFAULT_QUEUE; default "celery".
	DefaultQueue string `json:"default_queue"`
	// CachePrefix is WEBSOCKET_CACHE_PREFIX; default "df_ws".
	CachePrefix string `json:"cache_prefix"`
	// CacheExpire is WEBSOCKET_CACHE_EXPIRE; default ten hours. Tickets live as long.
	CacheExpire Seconds `json:"cache_expire"`
	// CustomTopics says that WEBSOCKET_TOPIC_SERIALIZER is not df_websockets' own, so that a topic does not tell whose it is.
	CustomTopics bool `json:"custom_topics"`
	// Workers is WEBSOCKET_WORKERS; WorkersCelery, the default, or WorkersChannels.
	Workers string `json:"workers"`
}

// DFWS holds settings of dfws itself (DFWS_… in Django).
type DFWS struct {
	// RedisURL is the Redis of the registry, the tickets and the revocations; default the broker's.
	RedisURL Secret `json:"redis_url"`
	// KeyPrefix starts each key of dfws; default "dfws:". It must not start with the channel layer's prefix.
	KeyPrefix string `json:"key_prefix"`
	// Installed says that the Django app "dfws" is part of the site, and so writes tickets and answers callbacks; default true. The settings
	// can be exported without installing it.
	Installed bool `json:"installed"`
	// CallbackKeys are keys that derive from SECRET_KEY and its fallbacks, in hex, for questions about handshakes; the first one is used.
	CallbackKeys []Secret `json:"callback_keys"`
	// GoQueue is the queue of Go handlers that name none; default "go". No Python worker consumes it.
	GoQueue string `json:"go_queue"`
}

// Warnings describes what the site asks for and a Go program will not do, although it can run: for one line each in the log at start.
func (s *Settings) Warnings() []string {
	var warnings []string
	c := &s.Celery
	for _, what := range NewRoutes(c).Unsupported() {
		warnings = append(warnings, "celery.task_routes: "+what+": tasks that it would route cannot be sent by Go")
	}
	for i := range c.TaskAnnotations {
		for _, what := range c.TaskAnnotations[i].onlyPython() {
			warnings = append(warnings, "celery.task_annotations: "+what+": Go does not apply it")
		}
	}
	if _, err := c.ResultStore(); err != nil {
		warnings = append(warnings, strings.TrimPrefix(err.Error(), "compat: settings: "))
	}
	return warnings
}

// Seconds is a duration as Python settings have it: a number of seconds.
type Seconds float64

// Duration returns s as a duration, rounded to nanoseconds.
func (s Seconds) Duration() time.Duration {
	return time.Duration(float64(s) * float64(time.Second))
}

// ParseSettings reads and checks an exported settings file. The error joins every fault found, each with the name of its setting; values
// that may hold secrets are never quoted. Unknown fields are ignored, so that a newer export serves an older program.
func ParseSettings(b []byte) (*Settings, error) {
	if err := checkSchema(b); err != nil {
		return nil, err
	}
	s := defaultSettings()
	if err := json.Unmarshal(b, s); err != nil {
		return nil, settingsError(err)
	}
	if s.DFWS.RedisURL == "" {
		s.DFWS.RedisURL = s.Celery.BrokerURL
	}
	if err := s.validate(); err != nil {
		return nil, err
	}
	return s, nil
}

// checkSchema refuses what is no JSON object and what another version of the export wrote, before anything else is read.
func checkSchema(b []byte) error {
	var head struct {
		Schema *json.Number `json:"schema"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return settingsError(err)
	}
	if head.Schema == nil {
		return errors.New("compat: settings: schema: missing: this is no file written by `manage.py dfws settings`")
	}
	if head.Schema.String() != fmt.Sprint(SettingsSchema) {
		return fmt.Errorf("compat: settings: schema: %s is not supported, this program reads schema %d: "+
			"install the same version of the Python package dfws as of this program, then run `manage.py dfws settings --output FILE` again",
			head.Schema, SettingsSchema)
	}
	return nil
}

// settingsError names the setting of a JSON error and leaves its value out.
func settingsError(err error) error {
	if typeErr, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("compat: settings: %s: a JSON %s does not fit here", typeErr.Field, jsonKind(typeErr.Value))
	}
	return fmt.Errorf("compat: settings: %w", err)
}

// jsonKind is the first word of UnmarshalTypeError.Value, which may go on with the value itself ("number 5").
func jsonKind(value string) string {
	for i := range len(value) {
		if value[i] == ' ' {
			return value[:i]
		}
	}
	return value
}

// defaultSettings holds the defaults of Django 5.2, df_websockets 1.2.6 (ws_settings.py), Celery 5.7 (app/defaults.py) and
// channels_redis 4.3 (core.py).
func defaultSettings() *Settings {
	const day = 24 * 60 * 60
	return &Settings{
		Site: Site{
			SessionCookieName: "sessionid",
			SessionEngine:     "django.contrib.sessions.backends.db",
			SessionCookieAge:  14 * day,
			CSRFCookieName:    "csrftoken",
			LanguageCode:      "en-us",
			AuthUserModel:     "auth.user",
		},
		WebSocket: WebSocket{
			URL: "/ws/", DefaultQueue: "celery", CachePrefix: "df_ws", CacheExpire: 36000, Workers: WorkersCelery,
		},
		Celery: DefaultCelery(),
		ChannelLayer: ChannelLayer{
			Backend: CoreLayerBackend, Prefix: "asgi", Expiry: 60, GroupExpiry: day, Capacity: 100,
			RandomPrefixLength: 12, SerializerFormat: "msgpack",
		},
		DFWS: DFWS{KeyPrefix: "dfws:", GoQueue: "go", Installed: true},
	}
}
