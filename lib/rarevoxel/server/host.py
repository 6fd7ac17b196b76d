"""The host's own launcher with settings of the HTTP server that it has no options for."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import uvicorn
from monailabel.main import Main
from monailabel.utils.others.generic import init_log_config

APPLICATION = "rarevoxel.server.asgi:app"
_HEADER_BYTES = 256 * 1024


class Host(Main):
    """Starts the server the way `monailabel start_server` does, with our application and without a `Server` header."""

    def __init__(self) -> None:
        super().__init__(actions=("start_server",))

    def action_start_server(self, args: argparse.Namespace) -> None:
        """Prepare the host's settings and serve until stopped."""
        self.start_server_validate_args(args)
        self.start_server_init_settings(args)
        uvicorn.run(
            APPLICATION,
            host=args.host,
            port=args.port,
            log_level=args.log_level,
            log_config=_log_config(args),
            access_log=False,
            ssl_certfile=args.ssl_certfile,
            ssl_keyfile=args.ssl_keyfile,
            server_header=False,
            timeout_graceful_shutdown=60,
            # Longer than clients and proxies keep an idle connection, so that it is they who close it: a request sent
            # into a connection that is being closed is lost.
            timeout_keep_alive=75,
            # More than the guard takes, so that it is the guard that answers.
            h11_max_incomplete_event_size=_HEADER_BYTES,
            http="h11",
            ws="none",
        )


def _log_config(args: argparse.Namespace) -> dict[str, Any]:
    """Return the host's log configuration, which it leaves behind in a temporary file."""
    written = Path(init_log_config(args.log_config, args.app, "app.log", args.verbose))
    config: dict[str, Any] = json.loads(written.read_text(encoding="utf-8"))
    if args.log_config is None:
        written.unlink(missing_ok=True)
    for logger in ("uvicorn", "task_train", "task_scoring", "task_batch_infer"):
        config["loggers"][logger]["level"] = args.verbose
    return config
