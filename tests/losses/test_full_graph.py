"""Every public loss compiles into one graph, but Dice per lesion, which looks for components on the CPU."""

from __future__ import annotations

import pytest
import torch
from fused_pairs import pair

from rarevoxel.losses import (
    TERM_NAMES,
    CALFLoss,
    CompoundLoss,
    CosineHead,
    DeepSupervisionLoss,
    GridCALFLoss,
    HardNegativeLoss,
    LesionDiceLoss,
    LMFLoss,
    SumLoss,
    TermOptions,
    TopKLoss,
    UnifiedFocalLoss,
    WeightedFocal,
    fused_passes,
)
from rarevoxel.losses.fused import use_fused

PAIRS = ((100.0, 1.0), (9.0, 1.0), (30.0, 1.0))
CLASSES = (900.0, 90.0, 9.0)
MIXED = ["log10", "fisher", "arcsine"]


def every_loss():
    return {
        "calf": CALFLoss(MIXED),
        "calf softmax": CALFLoss("bce_dice", softmax=True),
        "calf published": CALFLoss(MIXED, variant="published"),
        "calf grid": GridCALFLoss("ln"),
        "lmf": LMFLoss(PAIRS),
        "lmf softmax": LMFLoss(CLASSES, softmax=True),
        "unified": UnifiedFocalLoss(),
        "unified softmax": UnifiedFocalLoss(softmax=True, include_background=False),
        "top_k": TopKLoss(),
        "hard_negative": HardNegativeLoss(),
        "hard_negative softmax": HardNegativeLoss(softmax=True),
        "top_k softmax": TopKLoss(softmax=True),
        "weighted": WeightedFocal(PAIRS, gamma=2.0),
        "weighted softmax": WeightedFocal(CLASSES, softmax=True),
        "compound": CompoundLoss("dice+focal+top_k+tversky+generalized_dice+log_dice"),
        "compound softmax": CompoundLoss("tversky+bce", TermOptions("softmax", include_background=False)),
        "sum": SumLoss([(1.0, UnifiedFocalLoss()), (0.5, TopKLoss())]),
        "deep": DeepSupervisionLoss(CompoundLoss("dice_ce")),
    }


def in_one_graph(loss, z, t, backend):
    torch.compiler.reset()
    z = z.detach().requires_grad_()
    with use_fused(False):
        expected = loss(z, t)
    value = torch.compile(loss, fullgraph=True, backend=backend)(z, t)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(torch.autograd.grad(value, z), torch.autograd.grad(expected, z), rtol=1e-4, atol=1e-7)


def test_all_of_them_in_one_graph():
    losses = list(every_loss().values())
    in_one_graph(lambda z, t: torch.stack([loss(z, t) for loss in losses]).sum(), *pair(3, "one-hot", (6, 5)), "eager")


@pytest.mark.slow
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", every_loss())
def test_one_graph(name, fused):
    with use_fused(fused):
        in_one_graph(every_loss()[name], *pair(3, "one-hot", (6, 5, 4)), "eager")


def test_the_head_too():
    head = CosineHead(4, 2)
    x = torch.randn(1, 4, 3, 3, 3)
    torch.testing.assert_close(torch.compile(head, fullgraph=True, backend="eager")(x), head(x))


def test_dice_per_lesion_is_the_exception():
    z, t = pair(2, "one-hot", (6, 5, 4))
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(LesionDiceLoss(), fullgraph=True, backend="eager")(z, t)
    torch.testing.assert_close(torch.compile(LesionDiceLoss(), backend="eager")(z, t), LesionDiceLoss()(z, t))


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("term", [term for term in TERM_NAMES if term != "lesion_dice"])
def test_every_term_in_one_graph(term, activation):
    counts = PAIRS if activation == "sigmoid" else CLASSES
    loss = CompoundLoss(term, TermOptions(activation, counts=counts, branches=tuple(CALFLoss(MIXED).branches)))
    in_one_graph(loss, *pair(3, "one-hot", (6, 5, 4)), "aot_eager")


@pytest.mark.slow
@pytest.mark.skipif(not fused_passes.can_compile(torch.device("cpu")), reason="no C++ compiler")
@pytest.mark.parametrize("name", ["calf", "lmf", "unified softmax", "top_k", "compound"])
def test_compiled_code_gives_the_same(name):
    in_one_graph(every_loss()[name], *pair(3, "one-hot", (6, 5, 4)), "inductor")
