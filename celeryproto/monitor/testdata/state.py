"""What celery.events.state makes of events: reads a JSON list of events per line, prints the state after it."""

from __future__ import annotations

import json
import sys

from celery.events.state import State

TASK_FIELDS = (
    "uuid name state sent received started succeeded failed retried revoked rejected timestamp clock args kwargs eta expires retries "
    "client result exception traceback runtime queue exchange routing_key root_id parent_id"
).split()
WORKER_FIELDS = "hostname pid freq heartbeats clock active processed loadavg sw_ident sw_ver sw_sys".split()


def main() -> None:
    for line in sys.stdin:
        state = State()
        for event in json.loads(line):
            try:
                state.event(dict(event))
            except KeyError:  # a task event without one of the fields that it needs
                pass
        tasks = {}
        for uuid, task in state.tasks.data.items():
            tasks[uuid] = {name: getattr(task, name, None) for name in TASK_FIELDS}
            tasks[uuid]["worker"] = task.worker and task.worker.hostname
        workers = {h: {name: getattr(w, name, None) for name in WORKER_FIELDS} for h, w in state.workers.data.items()}
        newest = [uuid for uuid, _ in state.tasks_by_time()]
        print(json.dumps({"tasks": tasks, "workers": workers, "newest": newest, "types": state.task_types()}), flush=True)


main()
