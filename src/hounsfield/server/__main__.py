"""``python -m hounsfield.server --data DIR``: the web part of a node as a process."""

from __future__ import annotations

import argparse
from pathlib import Path

import uvicorn

from hounsfield.server.app import make_app
from hounsfield.usecases.node.opening import log, open_node
from hounsfield.usecases.node.people import prepare_first, setup_code_path
from hounsfield.usecases.node.processes import die_with_parent


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--data", type=Path, required=True)
    asked.add_argument("--parent", type=int, default=0)
    given = asked.parse_args()
    if given.parent:
        die_with_parent(given.parent)
    node = open_node(given.data)
    if prepare_first(node):
        log("no-accounts", make_one="hounsfield user add NAME --role admin", or_use=str(setup_code_path(node)))
    tls = node.tls(node.config.tls)
    log("web-listening", host=node.config.host, port=node.config.http_port, tls=tls is not None)
    uvicorn.run(
        make_app(node),
        host=node.config.host,
        port=node.config.http_port,
        log_level="warning",
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=16384,
        limit_concurrency=200,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=3,
        ssl_certfile=None if tls is None else tls.certificate,
        ssl_keyfile=None if tls is None or tls.key is None else str(tls.key),
    )
    node.close()


if __name__ == "__main__":
    main()
