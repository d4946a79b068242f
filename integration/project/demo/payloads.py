"""Named signal arguments that tests send through every path, and how Python itself delivers them to a browser.

The names are in alphabetical order: whoever keeps the order of keys and whoever sorts them write the same text.
"""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

# What a browser can send as well: JSON and nothing else.
PLAIN: dict[str, Any] = {
    "a_text": "é☃𝄞 </script>&'\"\\ \u2028 \x00\x7f 😀",
    "b_nested": {"list": [1, [2, {"deep": [None, True, {}]}], []], "map": {"": "empty key", "é": "key"}},
    "c_none": None,
    "d_big": 2**70,
    "e_negative": -(2**63) - 1,
    "f_float": [0.1, 1e22, 1e16, 1.5e300, 5e-324, -0.0, 1.0, 123456789.123],
    "g_bool": [True, False],
}

# What travels with a type of its own between Python processes (and Go workers).
TYPED: dict[str, Any] = {
    **PLAIN,
    "h_datetime": datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.timezone.utc),
    "i_datetime_offset": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
    "j_datetime_naive": datetime.datetime(2026, 1, 2, 3, 4, 5, 678901),
    "k_date": datetime.date(2026, 1, 2),
    "l_time": datetime.time(3, 4, 5, 678901),
    "m_decimal": decimal.Decimal("1.10"),
    "n_decimals": [decimal.Decimal("1E+3"), decimal.Decimal("-0.00000000000000000001")],
    "o_uuid": uuid.UUID("00000000-0000-4000-8000-000000000005"),
}

BY_NAME = {"plain": PLAIN, "typed": TYPED}


def for_browser(payload: dict[str, Any]) -> str:
    """The JSON text that df_websockets sends to a browser."""
    return json.dumps(payload, cls=DjangoJSONEncoder)


def for_worker(payload: dict[str, Any]) -> dict[str, str]:
    """What a Python handler measures: each argument as ascii() shows it."""
    return {name: ascii(value) for name, value in payload.items()}
