"""Losses over padded slates: what a list-wise re-ranker learns from, each list weighing the same."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  what everyone calls it


def listnet_loss(scores: Tensor, labels: Tensor, mask: Tensor, *, of: int | None = None) -> Tensor:
    """
    Mean cross-entropy between each list's share of label and its softmax of scores.

    Labels are divided by their sum instead of going through a softmax of their own, as in the paper: of a hundred
    candidates with one hit, that softmax would give the hit 3 % of the weight and teach next to nothing.

    Args:
        scores: (B, N). What stands where ``mask`` is False is never read, not even when it is NaN.
        labels: (B, N) gains of at least 0.
        mask: (B, N) bool, True where there is a candidate.
        of: What the sum is divided by: lists of the whole batch that hold a label above 0, when these are a part of
            it; None: those among these.

    Returns:
        Scalar; 0 when no list holds a label above 0, since such a list says nothing.

    Cost: O(B N).
    Source: Cao et al., ICML 2007, doi:10.1145/1273496.1273513; the share: Bruch et al., ICTIR 2019,
    doi:10.1145/3341981.3344221.

    >>> two = torch.tensor([[0.0, 0.0]])
    >>> round(float(listnet_loss(two, torch.tensor([[1.0, 0.0]]), torch.ones(1, 2, dtype=torch.bool))), 4)
    0.6931
    """
    labels = labels.masked_fill(~mask, 0.0).to(scores.dtype)
    total = labels.sum(1, keepdim=True)  # (B, 1)
    share = labels / torch.where(total > 0, total, 1.0)
    # The lowest number, not -inf: a list without any candidate stays finite, and 0 · -inf is NaN.
    log_share = F.log_softmax(scores.masked_fill(~mask, torch.finfo(scores.dtype).min), dim=1)
    each = -(share * log_share.masked_fill(~mask, 0.0)).sum(1)  # (B,)
    return each.sum() / _lists(of, total[:, 0] > 0)


def lambdarank_loss(
    scores: Tensor, labels: Tensor, mask: Tensor, *, k: int | None = None, sigma: float = 1.0, of: int | None = None
) -> Tensor:
    """
    Mean over lists of the logistic loss of each wrongly orderable pair, weighed by what swapping it does to NDCG.

    A pair is two candidates with different labels; its weight is ``|gain difference · discount difference|`` over the
    ideal DCG, with the discounts of the order that the scores give now. Weights are constants to the gradient.

    Args:
        scores: (B, N). What stands where ``mask`` is False is never read, not even when it is NaN.
        labels: (B, N) gains of at least 0, taken as they are: pass ``2 ** grade - 1`` for the exponential gain.
        mask: (B, N) bool, True where there is a candidate.
        k: Positions that count in NDCG; None: all.
        sigma: Steepness of the logistic.
        of: What the sum is divided by: lists of the whole batch that hold a label above 0, when these are a part of
            it; None: those among these.

    Returns:
        Scalar, in bits; 0 when no list holds two different labels.

    Cost: O(R N) time and memory, R candidates with a label above 0. Ties in the scores go to the earlier candidate.
    Source: Burges, MSR-TR-2010-82; the loss whose gradient it is: Wang et al., CIKM 2018, doi:10.1145/3269206.3271784.

    >>> two = torch.tensor([[0.0, 0.0]])
    >>> round(float(lambdarank_loss(two, torch.tensor([[0.0, 1.0]]), torch.ones(1, 2, dtype=torch.bool))), 4)
    0.3691
    """
    labels = labels.masked_fill(~mask, 0.0).to(scores.dtype)
    scores = scores.masked_fill(~mask, 0.0)
    places = torch.arange(scores.shape[1], device=scores.device)
    discounts = 1 / torch.log2(places.to(scores.dtype) + 2)  # (N,)
    if k is not None:
        discounts = discounts * (places < k)
    ideal = (labels.sort(1, descending=True).values * discounts).sum(1)  # (B,)
    lists, own = (labels > 0).nonzero(as_tuple=True)  # (R,) only a candidate with a label can be the better one
    with torch.no_grad():
        order = scores.masked_fill(~mask, float("-inf")).argsort(dim=1, descending=True, stable=True)
        discount = torch.empty_like(scores).scatter_(1, order, discounts.expand_as(scores))  # (B, N) of its place now
        gained = (labels[lists, own][:, None] - labels[lists]) / ideal[lists][:, None].clamp(min=1e-12)  # (R, N)
        swapped = (discount[lists, own][:, None] - discount[lists]).abs()
        weight = (gained * swapped).masked_fill((gained <= 0) | ~mask[lists], 0.0)
    ahead = scores[lists, own][:, None] - scores[lists]  # (R, N)
    total = (weight * F.softplus(-sigma * ahead)).sum() / math.log(2)
    return total / _lists(of, ideal > 0)


def _lists(of: int | None, telling: Tensor) -> Tensor | int:
    """What a sum over lists is divided by; never 0."""
    return of if of is not None else telling.sum().clamp(min=1)
