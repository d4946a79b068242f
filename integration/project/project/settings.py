"""Settings of the site under test; everything that varies comes from the environment.

DFWS_TEST_REDIS_URL           one Redis for all: redis://127.0.0.1:6379 (the database numbers are added here)
DFWS_TEST_DATABASE            path of the sqlite file
DFWS_TEST_SHIM                0: without the app "dfws", as a site that has never heard of it
DFWS_TEST_DEBUG               1: Django's DEBUG
DFWS_TEST_LOG_LEVEL           level of the root logger, INFO by default
DFWS_TEST_VISIBILITY_TIMEOUT  seconds after which an unacknowledged task is given to another worker
DFWS_TEST_ACKS_LATE           1: Celery acknowledges a task after it ran
DFWS_TEST_SESSION_ENGINE      Django's SESSION_ENGINE
DFWS_TEST_WORKERS             WEBSOCKET_WORKERS, celery by default
DFWS_TEST_LAYER               class of the channel layer, the core one of channels_redis by default
DFWS_TEST_LAYER_HOSTS         number of its hosts, 1 by default
DFWS_TEST_LAYER_CONFIG        JSON object of options that are added to its CONFIG
DFWS_TEST_STATIC_ROOT         where collectstatic puts its files
DFWS_TEST_MANIFEST_FILES      1: their names are made from their content (ManifestStaticFilesStorage)
DFWS_TEST_RESULTS             django-db: results in the database (django-celery-results), result_extended; else in Redis
"""

from __future__ import annotations

import json
import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
REDIS_URL = os.environ.get("DFWS_TEST_REDIS_URL", "redis://127.0.0.1:6379").rstrip("/")


def redis_database(number: int) -> str:
    """URL of one database of the Redis under test."""
    return f"{REDIS_URL}/{number}"


# One database per use, so that a test can look at (or damage) one of them alone.
BROKER_DATABASE, LAYER_DATABASE, CACHE_DATABASE, RESULT_DATABASE, JOURNAL_DATABASE = range(5)
JOURNAL_URL = redis_database(JOURNAL_DATABASE)

SECRET_KEY = "a-key-for-tests-that-guards-nothing-0123456789abcdef"
SECRET_KEY_FALLBACKS = ["the-key-before-that-guarded-nothing-0123456789abcdef"]
DEBUG = os.environ.get("DFWS_TEST_DEBUG") == "1"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
ASGI_APPLICATION = "df_websockets.routing.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
LANGUAGE_CODE = "en"
STATIC_URL = "/static/"
STATIC_ROOT = os.environ.get("DFWS_TEST_STATIC_ROOT")
if os.environ.get("DFWS_TEST_MANIFEST_FILES") == "1":
    STORAGES = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}}

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "channels",
    "df_websockets",
    "django_celery_results",
    "django_celery_beat",
    "demo",
    "readme",
    "bench",
]
if os.environ.get("DFWS_TEST_SHIM", "1") != "0":
    INSTALLED_APPS += ["dfws"]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "df_websockets.middleware.WebsocketMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DFWS_TEST_DATABASE", str(BASE_DIR / "db.sqlite3")),
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}
# Fast on purpose: tests log in often.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
SESSION_ENGINE = os.environ.get("DFWS_TEST_SESSION_ENGINE", "django.contrib.sessions.backends.db")
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": redis_database(CACHE_DATABASE),
    }
}

# --- df_websockets, Channels and Celery -------------------------------------------------------------------------------
WEBSOCKET_WORKERS = os.environ.get("DFWS_TEST_WORKERS", "celery")
LAYER_DATABASES = [LAYER_DATABASE, *range(10, 9 + int(os.environ.get("DFWS_TEST_LAYER_HOSTS", "1")))]
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": os.environ.get("DFWS_TEST_LAYER", "channels_redis.core.RedisChannelLayer"),
        "CONFIG": {
            "hosts": [redis_database(number) for number in LAYER_DATABASES],
            **json.loads(os.environ.get("DFWS_TEST_LAYER_CONFIG", "{}")),
        },
    }
}
# df_websockets reads Celery's settings under their old upper-case names.
BROKER_URL = redis_database(BROKER_DATABASE)
BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_RESULT_BACKEND = redis_database(RESULT_DATABASE)
if os.environ.get("DFWS_TEST_RESULTS") == "django-db":
    CELERY_RESULT_BACKEND = "django-db"
    CELERY_RESULT_EXTENDED = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
if os.environ.get("DFWS_TEST_VISIBILITY_TIMEOUT"):
    # kombu looks for abandoned tasks every interval × throttle seconds, 100 by default.
    BROKER_TRANSPORT_OPTIONS = {
        "visibility_timeout": float(os.environ["DFWS_TEST_VISIBILITY_TIMEOUT"]),
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    }
if os.environ.get("DFWS_TEST_ACKS_LATE") == "1":
    CELERY_ACKS_LATE = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": os.environ.get("DFWS_TEST_LOG_LEVEL", "INFO")},
}
