"""The signals of the benchmarks.

Nobody consumes the queue of bench.intake: its length is the count of what arrived. bench.ping answers the window; a Go
worker has bench.go_ping (integration/bench/signalworker).
"""

from typing import Any

from df_websockets.decorators import everyone, signal
from df_websockets.tasks import WINDOW, trigger


@signal(path="bench.intake", is_allowed_to=everyone, queue="bench")
def intake(window_info: Any, n: int = 0) -> None:
    """Never runs."""


@signal(path="bench.ping", is_allowed_to=everyone)
def ping(window_info: Any, n: int = 0) -> None:
    trigger(window_info, "bench.pong", to=[WINDOW], n=n)
