"""Links, chains, groups, chords and stamps as they are published."""

from __future__ import annotations

from celery import chain, chord, group
from celery.canvas import StampingVisitor

from recording import ID, T, publish_case


def _sigs(app):
    return {n: app.tasks[T + n] for n in ("add", "mul", "xsum", "echo", "fail_value", "on_error_new", "on_error_old", "nothing")}


publish_case(
    "canvas_link",
    "add.apply_async((1, 2), link=add.s(10))",
    lambda app: app.tasks[T + "add"].apply_async((1, 2), task_id=ID(1), link=app.tasks[T + "add"].s(10)),
)
publish_case(
    "canvas_link_many",
    "add.apply_async((1, 2), link=[add.s(10), mul.si(3, 4).set(queue='video', countdown=5)])",
    lambda app: app.tasks[T + "add"].apply_async(
        (1, 2), task_id=ID(1), link=[app.tasks[T + "add"].s(10), app.tasks[T + "mul"].si(3, 4).set(queue="video", countdown=5)]
    ),
)
publish_case(
    "canvas_link_error",
    'fail_value.apply_async(("x",), link_error=[on_error_new.s(), on_error_old.s()])',
    lambda app: app.tasks[T + "fail_value"].apply_async(
        ("x",), task_id=ID(1), link_error=[app.tasks[T + "on_error_new"].s(), app.tasks[T + "on_error_old"].s()]
    ),
)
publish_case(
    "canvas_chain",
    "chain(add.s(1, 2), add.s(10), mul.s(3)).apply_async()",
    lambda app: (lambda s: chain(s["add"].s(1, 2), s["add"].s(10), s["mul"].s(3)).apply_async())(_sigs(app)),
)
publish_case(
    "canvas_group",
    "group(add.s(1, 1), add.s(2, 2)).apply_async()",
    lambda app: (lambda s: group(s["add"].s(1, 1), s["add"].s(2, 2)).apply_async())(_sigs(app)),
)
publish_case(
    "canvas_chord",
    "chord([add.s(1, 1), add.s(2, 2)])(xsum.s()) -- messages and the chord size key",
    lambda app: (lambda s: chord([s["add"].s(1, 1), s["add"].s(2, 2)])(s["xsum"].s()))(_sigs(app)),
)
publish_case(
    "canvas_chord_body_chain",
    "chord([add.s(1, 1), add.s(2, 2)], chain(xsum.s(), add.s(5))).apply_async()",
    lambda app: (lambda s: chord([s["add"].s(1, 1), s["add"].s(2, 2)], chain(s["xsum"].s(), s["add"].s(5))).apply_async())(_sigs(app)),
)
publish_case(
    "canvas_chain_with_group",
    "chain(add.s(1, 1), group(add.s(1), add.s(2)), xsum.s()).apply_async() -- upgraded to a chord",
    lambda app: (lambda s: chain(s["add"].s(1, 1), group(s["add"].s(1), s["add"].s(2)), s["xsum"].s()).apply_async())(_sigs(app)),
)
publish_case(
    "canvas_group_of_chains",
    "group(chain(add.s(1, 1), add.s(1)), chain(add.s(2, 2), add.s(2))).apply_async()",
    lambda app: (lambda s: group(chain(s["add"].s(1, 1), s["add"].s(1)), chain(s["add"].s(2, 2), s["add"].s(2))).apply_async())(_sigs(app)),
)
publish_case(
    "canvas_chord_of_chains",
    "chord([chain(add.s(1, 1), add.s(1)), add.s(2, 2)])(xsum.s())",
    lambda app: (lambda s: chord([chain(s["add"].s(1, 1), s["add"].s(1)), s["add"].s(2, 2)])(s["xsum"].s()))(_sigs(app)),
)
publish_case(
    "canvas_chord_group_body",
    "chord([add.s(1, 1), add.s(2, 2)])(group(xsum.s(), echo.s()))",
    lambda app: (lambda s: chord([s["add"].s(1, 1), s["add"].s(2, 2)])(group(s["xsum"].s(), s["echo"].s())))(_sigs(app)),
)
publish_case(
    "canvas_chord_link_error",
    "chord([add.s(1, 1)], xsum.s().on_error(on_error_old.s())).apply_async()",
    lambda app: (lambda s: chord([s["add"].s(1, 1), s["add"].s(2, 2)], s["xsum"].s().on_error(s["on_error_old"].s())).apply_async())(
        _sigs(app)
    ),
)
publish_case(
    "canvas_nested_chord",
    "chord([chord([add.s(1, 1), add.s(2, 2)], xsum.s()), add.s(3, 3)])(xsum.s())",
    lambda app: (lambda s: chord([chord([s["add"].s(1, 1), s["add"].s(2, 2)], s["xsum"].s()), s["add"].s(3, 3)])(s["xsum"].s()))(
        _sigs(app)
    ),
)
publish_case(
    "canvas_map_starmap_chunks",
    "xsum.map([[1, 2], [3]]).apply_async(); "
    "add.starmap([(1, 2), (3, 4)]).apply_async(); "
    "add.chunks([(1, 2), (3, 4), (5, 6)], 2).apply_async()",
    lambda app: (
        lambda s: [
            s["xsum"].map([[1, 2], [3]]).apply_async(),
            s["add"].starmap([(1, 2), (3, 4)]).apply_async(),
            s["add"].chunks([(1, 2), (3, 4), (5, 6)], 2).apply_async(),
        ]
    )(_sigs(app)),
)


class Stamps(StampingVisitor):
    def on_signature(self, sig, **headers):
        return {"monitoring_id": "m-1", "tenant": ["a", "b"], "stamped_headers": ["monitoring_id", "tenant"]}


def _stamped(app):
    s = _sigs(app)
    sig = s["add"].s(1, 2).set(task_id=ID(1))
    sig.link(s["add"].s(3))
    sig.stamp(visitor=Stamps())
    sig.apply_async()


publish_case("canvas_stamped", "add.s(1, 2) linked to add.s(3), stamped by a visitor with monitoring_id and tenant", _stamped)
publish_case(
    "canvas_stamped_headers_kw",
    "add.s(1, 2).stamp(trace='t1').apply_async()",
    lambda app: (lambda sig: (sig.stamp(trace="t1"), sig.apply_async(task_id=ID(1))))(app.tasks[T + "add"].s(1, 2)),
)
