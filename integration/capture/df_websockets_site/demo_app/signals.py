"""Signals of the capture project.  Each call is noted in the Redis list <CAP_DB+3>/calls."""

import json
import os
import threading

import redis
from df_websockets.decorators import (
    DynamicQueueName,
    RandomDynamicQueueName,
    everyone,
    has_perm,
    is_anonymous,
    is_authenticated,
    is_staff,
    is_superuser,
    server_side,
    signal,
)
from df_websockets.tasks import WINDOW, trigger, trigger_signal
from df_websockets.utils import RE, Choice, SerializedForm
from django.conf import settings

from demo_app.forms import ProfileForm

_conn = (
    redis.Redis.from_url(settings.url(3))
    if hasattr(settings, "url")
    else redis.Redis(port=int(os.environ["CAP_REDIS_PORT"]), db=int(os.environ["CAP_DB"]) + 3)
)


def note(name, window_info, **kw):
    _conn.rpush(
        "calls",
        json.dumps(
            {
                "name": name,
                "kwargs": {k: repr(v) for k, v in kw.items()},
                "user": getattr(window_info, "username", None),
                "window_key": getattr(window_info, "window_key", None),
                "language_code": getattr(window_info, "language_code", None),
                "thread": threading.current_thread().name,
            }
        ),
    )


for _name, _rule in (
    ("everyone", everyone),
    ("authenticated", is_authenticated),
    ("anonymous", is_anonymous),
    ("staff", is_staff),
    ("superuser", is_superuser),
    ("server_side", server_side),
    ("perm", has_perm("auth.change_user")),
):

    def _make(name, rule):
        @signal(path="demo.rule.%s" % name, is_allowed_to=rule)
        def fn(window_info, a=None):
            note("demo.rule.%s" % name, window_info, a=a)

        return fn

    _make(_name, _rule)


@signal(path="demo.echo", is_allowed_to=everyone)
def echo(window_info, value=None):
    note("demo.echo", window_info, value=value)
    trigger(window_info, "demo.answer", to=[WINDOW], value=value)


@signal(path="demo.two_queues", is_allowed_to=everyone)
def two_a(window_info, value=None):
    note("demo.two_queues.default", window_info, value=value)


@signal(path="demo.two_queues", is_allowed_to=everyone, queue="slow")
def two_b(window_info, value=None):
    note("demo.two_queues.slow", window_info, value=value)


class ByValue(DynamicQueueName):
    def __call__(self, connection, window_info, original_kwargs):
        import asyncio

        try:
            asyncio.get_running_loop()
            where = "event loop"
        except RuntimeError:
            where = "plain thread"
        _conn.rpush("queue_choice", "%s in %s" % (where, threading.current_thread().name))
        return "fast-%s" % (int(original_kwargs.get("value", 0)) % 2)

    def get_available_queues(self):
        return {"fast-0", "fast-1"}


@signal(path="demo.dynamic", is_allowed_to=everyone, queue=ByValue())
def dynamic(window_info, value=None):
    note("demo.dynamic", window_info, value=value)


@signal(path="demo.random_queue", is_allowed_to=everyone, queue=RandomDynamicQueueName("rnd-", 4))
def random_queue(window_info, value=None):
    note("demo.random_queue", window_info, value=value)


@signal(path="demo.typed", is_allowed_to=everyone)
def typed(window_info, number: int, word: RE(r"^w(\d+)$", int) = None, choice: Choice([1, 2, 3], int) = None, flag: bool = None):
    note("demo.typed", window_info, number=number, word=word, choice=choice, flag=flag)


@signal(path="demo.form", is_allowed_to=everyone)
def form_a(window_info, form_data: SerializedForm(ProfileForm) = None, id=None):
    note(
        "demo.form.a",
        window_info,
        form_type=type(form_data).__name__,
        valid=form_data.is_valid(),
        cleaned=form_data.cleaned_data if form_data.is_valid() else form_data.errors.as_json(),
    )


@signal(path="demo.form", is_allowed_to=everyone)
def form_b(window_info, form_data=None, id=None):
    note("demo.form.b", window_info, form_type=type(form_data).__name__)


@signal(path="demo.any", is_allowed_to=everyone)
def any_args(window_info, **kwargs):
    note("demo.any", window_info, **kwargs)


@signal(path="demo.fail", is_allowed_to=everyone)
def fail(window_info):
    raise RuntimeError("the signal failed")


@signal(path="demo.delayed_window", is_allowed_to=everyone)
def delayed_window(window_info):
    note("demo.delayed_window", window_info)
    trigger_signal(window_info, "demo.answer", to=[WINDOW], kwargs={"value": "later"}, countdown=1)


@signal(path="demo.orm", is_allowed_to=everyone)
def orm(window_info):
    from django.contrib.auth.models import User

    note("demo.orm", window_info, users=User.objects.count())
