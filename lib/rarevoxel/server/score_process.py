"""The process that scores the cases of a studies folder for a server: `python -m rarevoxel.server.score_process JSON`.

It gives way to the server, ends when the server does, and ends by itself when every case has a score.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rarevoxel.server.background import follow

logger = logging.getLogger(__name__)

MODULE = "rarevoxel.server.score_process"

NO_WEIGHTS = 3
"""Exit code when a model had no usable weights; the others were scored."""


@dataclass(frozen=True)
class Order:
    """What the process is to do.

    Args:
        app: app folder that is served.
        studies: studies folder.
        models: to score with, in this order.
        conf: `--conf` pairs of the server.
    """

    app: str
    studies: str
    models: tuple[str, ...]
    conf: Mapping[str, str]

    def command(self) -> list[str]:
        """Return the command line."""
        return [sys.executable, "-m", MODULE, json.dumps(asdict(self))]

    @classmethod
    def from_json(cls, text: str) -> Order:
        """Return the order of a command line."""
        content = json.loads(text)
        return cls(content["app"], content["studies"], tuple(content["models"]), content["conf"])


def main(arguments: Sequence[str]) -> int:
    """Score what has no score.

    Returns:
        0, or `NO_WEIGHTS`.
    """
    follow()
    order = Order.from_json(arguments[0])
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="[scoring] %(levelname)s %(message)s")
    import torch

    from rarevoxel.config import load_config
    from rarevoxel.errors import ModelError
    from rarevoxel.inference.engine import Engine
    from rarevoxel.inference.pool import score_studies
    from rarevoxel.server.conf import with_conf
    from rarevoxel.server.guard.config import VARIABLE, GuardConfig
    from rarevoxel.server.guard.redact import Redactor, redact_logs
    from rarevoxel.training.places import Places

    if VARIABLE in os.environ:
        redact_logs(Redactor.of(GuardConfig.from_environment(), app=order.app))
    if "OMP_NUM_THREADS" not in os.environ:
        # The other half of the cores is for who waits for an answer.
        torch.set_num_threads(max(1, torch.get_num_threads() // 2))
    app = Path(order.app)
    config = with_conf(load_config(app / "app.toml"), order.conf)
    method, code = config.active.method, 0
    for model in order.models:
        engine = Engine(config, Places.of(app, model).in_service)
        try:
            count = sum(1 for _ in score_studies(engine, Path(order.studies), model, method=method))
        except ModelError as error:
            logger.warning("model %s scores no cases: %s", model, error)
            code = NO_WEIGHTS
            continue
        if count:
            logger.info("model %s scored %d cases", model, count)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
