"""Settings of the capture project; everything that varies comes from the environment.

CAP_REDIS_PORT, CAP_DB (first of four database numbers), CAP_FOLDER (scratch folder)
are required.  Optional: CAP_WORKERS, CAP_LAYER (core, pubsub, core3, encrypted),
CAP_SESSION, CAP_CACHE, CAP_EXTRA (python dict literal merged into the settings).
"""

import ast
import os

PORT = int(os.environ["CAP_REDIS_PORT"])
DB = int(os.environ["CAP_DB"])
FOLDER = os.environ["CAP_FOLDER"]


def url(i):
    return "redis://127.0.0.1:%d/%d" % (PORT, DB + i)


SECRET_KEY = "fixture-secret-key-0123456789-never-use-this-one"
DEBUG = False
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "example.test"]
ROOT_URLCONF = "demo_app.urls"
USE_TZ = True
LANGUAGE_CODE = "fr"
LANGUAGES = [("en", "English"), ("fr", "French"), ("de", "German")]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "channels",
    "df_websockets",
    "demo_app",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "df_websockets.middleware.WebsocketMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(FOLDER, "db.sqlite3")}}
SESSION_ENGINE = os.environ.get("CAP_SESSION", "django.contrib.sessions.backends.db")
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": url(0)}}
if os.environ.get("CAP_CACHE") == "locmem":
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
WEBSOCKET_WORKERS = os.environ.get("CAP_WORKERS", "celery")
LAYER = os.environ.get("CAP_LAYER", "core")
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer" if LAYER == "pubsub" else "channels_redis.core.RedisChannelLayer",
        # socket_timeout None: redis-py 8 has a default of 5 s, the same as the BZPOPMIN
        # timeout of the core layer, and an idle consumer then dies of it
        "CONFIG": {"hosts": [{"address": url(1), "socket_timeout": None}]},
    }
}
if LAYER == "encrypted":
    CHANNEL_LAYERS["default"]["CONFIG"]["symmetric_encryption_keys"] = ["layer key"]
if LAYER == "memory":
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
BROKER_URL = url(2)
CELERY_TASK_SERIALIZER = "json"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"f": {"format": "%(levelname)s %(name)s %(message)s"}},
    "handlers": {"e": {"class": "logging.StreamHandler", "formatter": "f"}},
    "root": {"handlers": ["e"], "level": os.environ.get("CAP_LOG", "INFO")},
}
if os.environ.get("CAP_EXTRA"):
    globals().update(ast.literal_eval(os.environ["CAP_EXTRA"]))
