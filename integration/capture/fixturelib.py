"""Shared helpers of the capture scripts: dump Redis, write one JSON file a case."""

import base64
import json
import os
import re


def b64(value):
    if isinstance(value, str):
        value = value.encode("utf-8")
    return base64.b64encode(value).decode("ascii")


def package_versions(*names):
    import platform
    from importlib.metadata import PackageNotFoundError, version

    out = {"python": platform.python_version()}
    for name in names:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = None
    return out


def dump_redis(conn, pattern="*", shard=None, key_filter=None):
    """Every key of one database: type, ttl and value, all bytes in base64."""
    rows = []
    for key in sorted(conn.scan_iter(pattern)):
        if key_filter and not key_filter(key):
            continue
        kind = conn.type(key).decode()
        row = {"key": key.decode("utf-8", "backslashreplace"), "type": kind, "ttl": conn.ttl(key)}
        if shard is not None:
            row["shard"] = shard
        if kind == "string":
            row["value_b64"] = b64(conn.get(key))
        elif kind == "list":
            row["values_b64"] = [b64(x) for x in conn.lrange(key, 0, -1)]
        elif kind == "zset":
            row["members"] = [{"value_b64": b64(m), "score": s} for m, s in conn.zrange(key, 0, -1, withscores=True)]
        elif kind == "set":
            row["values_b64"] = sorted(b64(x) for x in conn.smembers(key))
        elif kind == "hash":
            row["fields_b64"] = {b64(k): b64(v) for k, v in conn.hgetall(key).items()}
        rows.append(row)
    return rows


def write_case(folder, case, versions, config, redis_rows=None, **extra):
    os.makedirs(folder, exist_ok=True)
    doc = {"case": case, "versions": versions, "config": config}
    if redis_rows is not None:
        doc["redis"] = redis_rows
    doc.update(extra)
    name = re.sub(r"[^a-z0-9_.-]+", "_", case.lower()) + ".json"
    text = json.dumps(doc, indent=1, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate is part of the case: keep it escaped
        text = json.dumps(doc, indent=1)
    with open(os.path.join(folder, name), "w", encoding="utf-8") as fd:
        fd.write(text + "\n")
    return name
