"""Records Celery's messages, results and bookkeeping from real clients and workers.

    python capture.py --port PORT --out FOLDER [--cases FILE]

The Redis on PORT must be empty (database 0); it is flushed between cases, and nothing else may use it. Every value is read back from
Redis; nothing is written by hand. FILE has one name of a case per line; without it all are recorded.
"""

from __future__ import annotations

import socket
import warnings

# The node name would otherwise put the name of the machine into the data; deprecations are not what is recorded here.
socket.gethostname = lambda: "golden"
warnings.simplefilter("ignore")

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402

import kombu.pools  # noqa: E402

import cases_canvas  # noqa: E402, F401
import cases_chords  # noqa: E402, F401
import cases_compositions  # noqa: E402, F401
import cases_messages  # noqa: E402, F401
import cases_reliability  # noqa: E402, F401
import cases_remote  # noqa: E402, F401
import cases_results  # noqa: E402, F401
from golden_app import run_worker  # noqa: E402
from recording import CASES, Ctx  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--out")
    parser.add_argument("--cases")
    parser.add_argument("--worker")
    args = parser.parse_args()
    if args.worker:
        run_worker(args.port, json.loads(args.worker))
        return
    wanted = None
    if args.cases:
        with open(args.cases) as file:
            wanted = set(file.read().split())
        unknown = wanted - {name for name, _, _ in CASES}
        if unknown:
            sys.exit("no such case: " + ", ".join(sorted(unknown)))
    os.makedirs(args.out, exist_ok=True)
    ctx = Ctx(args.port, args.out)
    if ctx.r.dbsize():
        sys.exit(f"database 0 of the Redis on port {args.port} is not empty")
    failed = [name for name, words, fun in CASES if (wanted is None or name in wanted) and not record(ctx, name, words, fun)]
    if failed:
        sys.exit("failed: " + ", ".join(failed))


def record(ctx: Ctx, name, words, fun) -> bool:
    ctx.r.flushdb()
    kombu.pools.reset()  # forget connections, and with them the exchanges that they declared
    started = time.time()
    try:
        entries = fun(ctx)
    except Exception:
        traceback.print_exc()
        return False
    finally:
        ctx.r.flushdb()
    ctx.save(name, words, entries)
    print(f"{name:<40} {len(entries):3} entries  {time.time() - started:.1f}s", flush=True)
    return True


if __name__ == "__main__":
    main()
