"""The signal of the intake benchmark. Nobody consumes its queue: its length is the count of what arrived."""

from __future__ import annotations

from typing import Any

from df_websockets.decorators import everyone, signal


@signal(path="bench.intake", is_allowed_to=everyone, queue="bench")
def intake(window_info: Any, n: int = 0) -> None:
    """Never runs."""
