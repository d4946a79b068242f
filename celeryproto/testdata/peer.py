"""The other side of python_test.go: real kombu and Celery, asked by JSON lines.

One request a line, {"op": …, …}; one answer a line, {"ok": …} or {"error": class, "text": …}. Bytes are base64.
"""

from __future__ import annotations

import base64
import collections
import importlib
import io
import json
import pickle
import sys
import zoneinfo

import kombu.compression
import kombu.serialization
from celery import Celery
from kombu.utils import json as kombu_json

kombu.serialization.enable_insecure_serializers(["json", "msgpack", "yaml", "pickle"])
TYPES = kombu.serialization.registry.name_to_type


def plain(value):
    """What JSON can say of a value: sets and tuples are lists, keys are texts."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, dict):
        out = {}
        for key, item in value.items():
            if key is None or isinstance(key, (bool, int, float)):
                key = json.dumps(key)
            if not isinstance(key, str):
                raise TypeError("key of type " + type(key).__name__)
            out[key] = plain(item)
        if out.keys() == {"__type__", "__value__"}:
            raise TypeError("keys of a typed value")
        return out
    return value


def text_of(value) -> str:
    return kombu_json.dumps(plain(value))


def backend(serializer: str, compression: str):
    app = Celery("peer", broker="memory://", backend="redis://", set_as_current=False)
    app.conf.update(
        result_serializer=serializer, accept_content=["json", "msgpack", "yaml", "pickle"], result_compression=compression or None
    )
    return app.backend


def meta_of(meta: dict) -> dict:
    result = meta["result"]
    if isinstance(result, BaseException):
        kind = type(result)
        result = {"exc_type": kind.__qualname__, "exc_module": kind.__module__, "exc_message": list(result.args)}
    return dict(meta, result=result)


def construct(python: str):
    """Evaluates an expression of the test, with the modules of plain data at hand."""
    names = {"collections": collections}
    for module in (
        "datetime",
        "decimal",
        "uuid",
        "zoneinfo",
        "os",
        "fractions",
        "celery.canvas",
        "celery.exceptions",
        "billiard.exceptions",
    ):
        names[module.rpartition(".")[2]] = importlib.import_module(module)
    names["Local"] = type("Local", (Exception,), {"__module__": "nowhere"})  # which cannot be pickled
    names["signature"] = names["canvas"].signature
    return eval(python, names)  # noqa: S307 -- the test's own words


def versions(request):
    out = {}
    for name in ("kombu", "celery", "msgpack", "yaml", "brotli"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        out[name] = str(getattr(module, "__version__", "?"))
    if "application/zstd" in kombu.compression.encoders():
        out["zstd"] = "?"  # Python's own from 3.14 on
    return out


def loads(request):
    data = base64.b64decode(request["data"])
    value = kombu.serialization.loads(data, TYPES[request["serializer"]], "binary", accept=set(TYPES.values()))
    return text_of(value)


def dumps(request):
    value = kombu_json.loads(request["text"])
    _, _, data = kombu.serialization.dumps(value, serializer=request["serializer"])
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


class Restricted(pickle.Unpickler):
    """Reads a pickle that was tampered with, with the names of plain data and no others."""

    NAMES = {
        "_codecs": {"encode"},
        "builtins": {"bytes", "bytearray", "set", "frozenset", "list", "object"},
        "collections": {"OrderedDict", "defaultdict"},
        "copyreg": {"_reconstructor"},
        "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
        "decimal": {"Decimal"},
        "uuid": {"UUID"},
        "zoneinfo": {"ZoneInfo"},
        "celery.canvas": {"signature"},
    }

    def find_class(self, module, name):
        if (module, name) in {("builtins", "getattr"), ("__builtin__", "getattr")}:
            return lambda owner, attribute: zoneinfo.ZoneInfo._unpickle if (owner, attribute) == (zoneinfo.ZoneInfo, "_unpickle") else None
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        if name not in self.NAMES.get(module, ()):
            raise pickle.UnpicklingError(module + "." + name)
        return super().find_class(module, name)


def unpickle(request):
    return text_of(Restricted(io.BytesIO(base64.b64decode(request["data"]))).load())


def compress(request):
    data, _ = kombu.compression.compress(base64.b64decode(request["data"]), request["name"])
    return base64.b64encode(data).decode()


def decompress(request):
    return base64.b64encode(kombu.compression.decompress(base64.b64decode(request["data"]), request["name"])).decode()


def result(request):
    """What AsyncResult sees of a stored result."""
    meta = backend(request["serializer"], "").decode_result(base64.b64decode(request["data"]))
    return text_of(meta_of(meta))


def store(request):
    """What a Python worker stores for a return value or an exception."""
    app_backend = backend(request["serializer"], request["compression"])
    value = construct(request["python"])
    meta = app_backend._get_result_meta(app_backend.encode_result(value, request["state"]), request["state"], "traceback", None)
    meta["task_id"] = "i"
    data = app_backend.encode(meta)
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"ok": globals()[request["op"]](request)}
        except Exception as exc:
            answer = {"error": type(exc).__name__, "text": str(exc)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
