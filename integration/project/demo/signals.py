"""The signals that Python handles.

Without `from __future__ import annotations`: df_websockets calls the annotations of a handler, which a text does not
allow; it would pass every argument on unchecked, without a word.
"""

import time
from collections.abc import Callable
from typing import Any

from df_websockets.decorators import (
    DynamicQueueName,
    everyone,
    has_perm,
    is_anonymous,
    is_authenticated,
    is_staff,
    is_superuser,
    server_side,
    signal,
)
from df_websockets.tasks import BROADCAST, WINDOW, trigger, trigger_signal
from df_websockets.utils import RE, Choice, SerializedForm

from demo import targets
from demo.forms import GreetingForm
from demo.journal import note

# --- the demo page ----------------------------------------------------------------------------------------------------


def answer(window_info: Any, text: str) -> None:
    trigger(window_info, "demo.answer", to=[WINDOW], **{"from": "python", "text": text})


@signal(path="demo.python_hello", is_allowed_to=everyone)
def python_hello(window_info: Any, name: str = "") -> None:
    note("demo.python_hello", window_info, {"name": name})
    answer(window_info, f"Hello {name or 'world'}, says a Celery worker")


@signal(path="demo.both", is_allowed_to=everyone)
def both(window_info: Any, name: str = "") -> None:
    note("demo.both", window_info, {"name": name})
    answer(window_info, f"Hello {name or 'world'}, Python heard the call for both")


@signal(path="demo.python_broadcast", is_allowed_to=everyone)
def python_broadcast(window_info: Any, name: str = "") -> None:
    note("demo.python_broadcast", window_info, {"name": name})
    trigger(window_info, "demo.broadcast", to=[BROADCAST], text=f"{name or 'Somebody'} asked Python to tell everyone")


@signal(path="demo.form", is_allowed_to=everyone)
def greeting_form(window_info: Any, form_data: SerializedForm(GreetingForm) = None) -> None:
    if not form_data.is_valid():
        note("demo.form", window_info, {"errors": form_data.errors.get_json_data()})
        answer(window_info, "The form is not valid: " + ", ".join(form_data.errors))
        return
    data = form_data.cleaned_data
    note("demo.form", window_info, data)
    labels = dict(form_data.fields["colors"].choices)
    colors = " and ".join(labels[color] for color in data["colors"]) or "no colour"
    answer(window_info, f"The form of {data['name']} came through ({colors})")


# --- permission rules -------------------------------------------------------------------------------------------------
RULES: dict[str, Callable[..., bool]] = {
    "everyone": everyone,
    "is_authenticated": is_authenticated,
    "is_anonymous": is_anonymous,
    "is_staff": is_staff,
    "is_superuser": is_superuser,
    "has_perm": has_perm("auth.change_user"),
    "server_side": server_side,
}


def _register_rule(name: str, rule: Callable[..., bool]) -> None:
    path = f"rule.python.{name}"

    @signal(path=path, is_allowed_to=rule)
    def ruled(window_info: Any, mark: Any = None) -> None:
        note(path, window_info, {"mark": mark})


for _name, _rule in RULES.items():
    _register_rule(_name, _rule)


@signal(path="rule.fence", is_allowed_to=everyone)
def rule_fence(window_info: Any, mark: Any = None) -> None:
    """Comes after the signals whose absence a test wants to be sure of."""
    note("rule.fence", window_info, {"mark": mark})


# --- arguments and queues ---------------------------------------------------------------------------------------------


@signal(path="demo.typed", is_allowed_to=everyone)
def typed(
    window_info: Any,
    number: int,
    word: RE(r"^w(\d+)$", int) = None,
    choice: Choice([1, 2, 3], int) = None,
) -> None:
    note("demo.typed", window_info, {"number": number, "word": word, "choice": choice})


@signal(path="demo.any", is_allowed_to=everyone)
def any_arguments(window_info: Any, **kwargs: Any) -> None:
    note("demo.any", window_info, kwargs)


@signal(path="demo.two_queues", is_allowed_to=everyone)
def two_queues_default(window_info: Any, mark: Any = None) -> None:
    note("demo.two_queues:celery", window_info, {"mark": mark})


@signal(path="demo.two_queues", is_allowed_to=everyone, queue="slow")
def two_queues_slow(window_info: Any, mark: Any = None) -> None:
    note("demo.two_queues:slow", window_info, {"mark": mark})


class ByMark(DynamicQueueName):
    """Even marks go to the default queue, odd ones to the slow one: only Python can tell."""

    def __call__(self, connection: Any, window_info: Any, original_kwargs: dict[str, Any]) -> str:
        return ("celery", "slow")[int(original_kwargs.get("mark", 0)) % 2]

    def get_available_queues(self) -> set[str]:
        return {"celery", "slow"}


@signal(path="demo.dynamic", is_allowed_to=everyone, queue=ByMark())
def dynamic(window_info: Any, mark: int = 0) -> None:
    note("demo.dynamic", window_info, {"mark": mark})


@signal(path="demo.fail", is_allowed_to=everyone)
def fail(window_info: Any) -> None:
    raise RuntimeError("the signal failed")


@signal(path="demo.slow", is_allowed_to=everyone)
def slow(window_info: Any, mark: Any = None, seconds: float = 1.0) -> None:
    note("demo.slow:start", window_info, {"mark": mark})
    time.sleep(seconds)
    note("demo.slow:end", window_info, {"mark": mark})


# --- the matrix: every origin, every handler, every kind of topic -----------------------------------------------------


@signal(path="matrix.python", is_allowed_to=everyone)
def matrix_python(window_info: Any, to: list[str], mark: str, payload: Any = None) -> None:
    """Passes on what it got to the topics in `to`."""
    note("matrix.python", window_info, {"mark": mark, **({} if payload is None else payload)})
    trigger(window_info, "matrix.seen", to=targets.targets(to), by="python", mark=mark, payload=payload)


@signal(path="matrix.python_to", is_allowed_to=everyone)
def matrix_python_to(window_info: Any, signal: str, to: list[str], arguments: dict[str, Any]) -> None:
    """Triggers any signal on behalf of a test: "triggered by a signal that Python handles"."""
    trigger_signal(window_info, signal, to=targets.targets(to), kwargs=arguments)


@signal(path="matrix.burst", is_allowed_to=everyone)
def burst(window_info: Any, to: list[str], mark: str, count: int) -> None:
    for number in range(count):
        trigger(window_info, "matrix.seen", to=targets.targets(to), by="python", mark=mark, payload=number)


@signal(path="matrix.both", is_allowed_to=everyone)
def matrix_both(window_info: Any, **kwargs: Any) -> None:
    """A signal that a Go worker handles as well."""
    note("matrix.both:python", window_info, kwargs)
