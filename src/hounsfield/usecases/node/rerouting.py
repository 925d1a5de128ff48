"""A person lets a route read a study, whatever its conditions say of it."""

from __future__ import annotations

from hounsfield.audit import AuditEvent
from hounsfield.department import instances, jobs, studies
from hounsfield.department.jobs import NewJob
from hounsfield.errors import SettingsError
from hounsfield.reading import scan_files
from hounsfield.usecases.node.opening import Node
from hounsfield.usecases.node.routing import Order, ask_routes


def reroute(node: Node, study_uid: str, route_name: str, who: str) -> int:
    """Make the job of a route on a study: on the series that it wants, or on all when it wants none.

    The model's own domain still decides whether it runs, warns or refuses.

    Raises
    ------
    SettingsError
        If there is no such study or route, the study is still coming, or the route has read it.
    """
    route = next((one for one in node.routes() if one.name == route_name), None)
    if route is None:
        raise SettingsError(f"there is no route {route_name!r}", "choose one of routes.toml")
    with node.database.read() as connection:
        rows = studies.listed(connection, study_uid=study_uid, most=1)
        kept = instances.of_study(connection, study_uid)
    if not rows or not kept:
        raise SettingsError("there is no such study", "list the studies")
    if rows[0].state != "complete":
        raise SettingsError("the study is still coming", "wait until it is complete")
    files = [node.files.path(one.sha256) for one in kept]
    with scan_files(files, source=node.root / "instances") as contents:
        answers = ask_routes([route], contents.series, kept[-1].calling_ae)
        wanted = [path for one in answers if one.answers[0].matches for path in one.files]
    order = Order.of(route, [path.stem for path in dict.fromkeys(wanted or files)])
    version = rows[0].version
    with node.database.write(alone=True) as connection:
        new = NewJob(study_uid, version, route.name, order.to_json(), route.priority, route.shadow)
        if not jobs.make(connection, [new]):
            raise SettingsError(f"the route {route.name} has this study already", "try its job again")
        listed = jobs.listed(connection, study_uid=study_uid)
    made = next(one.id for one in listed if one.route == route.name and one.version == version)
    node.audit(AuditEvent("application-activity", who, {"activity": "reroute", "study": study_uid, "job": made}))
    return int(made)
