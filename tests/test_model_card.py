"""The model card speaks of the weights that lie beside it."""

from __future__ import annotations

from pathlib import Path

from rarevoxel.bundled import bundled_app
from rarevoxel.config import load_config
from rarevoxel.networks import load_weights
from rarevoxel.volumes import file_sha256

STARTER = bundled_app() / "starter"


def test_the_card_names_the_checksum_of_the_weights() -> None:
    card = (STARTER / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"`{file_sha256(STARTER / 'starter.pt')}`" in card


def test_the_card_tells_every_leg_of_the_training() -> None:
    card = (STARTER / "MODEL_CARD.md").read_text(encoding="utf-8")
    leg = load_weights(STARTER / "starter.pt")[3]
    while leg:
        assert f"{leg['steps']} steps" in card
        leg = leg.get("start", {})


def test_the_weights_are_small_and_made_for_the_app() -> None:
    assert (STARTER / "starter.pt").stat().st_size < 15e6
    config = load_config(bundled_app() / "app.toml")
    _, network, preprocessing, _ = load_weights(STARTER / "starter.pt")
    assert (network, preprocessing) == (config.network, config.preprocessing)


def test_the_readme_shows_pictures_that_exist() -> None:
    readme = Path(__file__).parents[1] / "README.md"
    for part in readme.read_text(encoding="utf-8").split("](")[1:]:
        target = part.partition(")")[0]
        if "://" not in target:
            assert (readme.parent / target).exists(), target
