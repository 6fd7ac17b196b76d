"""Ways to choose the case that a clinician labels next, as rankings of a pool; nothing here knows a server."""

from rarevoxel.learning.strategies.ranking import Choice, Option, Ranking

__all__ = ["Choice", "Option", "Ranking"]
