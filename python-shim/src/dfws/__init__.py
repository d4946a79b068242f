"""Lets a Django site with df_websockets use the dfws gateway and Go workers: add ``"dfws"`` to INSTALLED_APPS."""

from __future__ import annotations

__version__ = "0.1.0"
