from __future__ import annotations

from typing import Any

from df_websockets import decorators
from df_websockets.decorators import DynamicQueueName, has_perm, signal


class QueuePerWindow(DynamicQueueName):  # type: ignore[misc]
    def __call__(self, connection: Any, window_info: Any, original_kwargs: Any) -> str:
        return f"shop-{original_kwargs.get('shard', 0)}"

    def get_available_queues(self) -> set[str]:
        return {"shop-1", "shop-0"}


def undeclared_queue(connection: Any, window_info: Any, original_kwargs: Any) -> str:
    return "shop-0"


@signal(path="shop.order", is_allowed_to=decorators.everyone)
def order(window_info: Any, article: int, amount: int = 1) -> None:
    """Handled in the default queue."""


@signal(path="shop.order", is_allowed_to=has_perm("auth.change_user"), queue="slow")
def account(window_info: Any, **kwargs: Any) -> None:
    """A second handler of the same signal, elsewhere."""


@signal(path="shop.dynamic", is_allowed_to=lambda connection, window_info, kwargs: True, queue=QueuePerWindow())
def dynamic(window_info: Any, shard: int = 0) -> None:
    """The queue depends on the arguments."""


@signal(path="shop.mixed", queue=undeclared_queue)
def mixed_dynamic(window_info: Any, shard: int = 0) -> None:
    """A dynamic queue that is not declared."""


@signal(path="shop.mixed", queue="shop-0")
def mixed_static(window_info: Any, shard: int = 0) -> None:
    """The same queue, known beforehand."""
