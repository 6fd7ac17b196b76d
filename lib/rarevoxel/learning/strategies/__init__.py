"""Ways to choose the case that a clinician labels next, as rankings of a pool; nothing here knows a server."""

from rarevoxel.learning.strategies.balanced import BALANCED
from rarevoxel.learning.strategies.combined import COMBINED
from rarevoxel.learning.strategies.diversity import DIVERSITY
from rarevoxel.learning.strategies.options import read_options
from rarevoxel.learning.strategies.plain import FIRST, RANDOM
from rarevoxel.learning.strategies.ranking import Choice, Option, Ranking
from rarevoxel.learning.strategies.rare import RARE
from rarevoxel.learning.strategies.review import REVIEW
from rarevoxel.learning.strategies.uncertainty import UNCERTAINTY

STRATEGIES: dict[str, Ranking] = {
    ranking.name: ranking for ranking in (RANDOM, FIRST, UNCERTAINTY, RARE, DIVERSITY, COMBINED, BALANCED, REVIEW)
}
"""Every way to choose, by name; the first is the default."""

__all__ = ["STRATEGIES", "Choice", "Option", "Ranking", "read_options"]
