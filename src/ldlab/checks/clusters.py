"""Whether there are enough clusters to take errors from."""

from __future__ import annotations

from typing import Protocol

from ldlab.checks.shared import can_be_shown, count_text
from ldlab.estimate import Check
from ldlab.program import Study

FEWEST_CLUSTERS = 5
FEWEST_TO_INFER = 2


class Inference(Protocol):
    """What :func:`enough_clusters` reads of :class:`ldlab.did.Inference`."""

    @property
    def rule(self) -> str: ...  # noqa: D102
    @property
    def why(self) -> str: ...  # noqa: D102
    @property
    def treated_clusters(self) -> int | None: ...  # noqa: D102
    @property
    def comparison_clusters(self) -> int | None: ...  # noqa: D102
    @property
    def drawn(self) -> int | None: ...  # noqa: D102


def enough_clusters(study: Study, inference: Inference | None = None) -> Check:
    """Whether there are clusters enough (units, where none is named) for an interval, and how it is made.

    Parameters
    ----------
    study
        Any study.
    inference
        Panels: the rule that the number of clusters fixed, from :func:`ldlab.did.plan_inference` or
        :func:`ldlab.did.infer`. The check then fails where no interval can be given, and breaks the claim.

    Notes
    -----
    Without ``inference`` it fails where an arm has fewer than 5 clusters: clustered errors are then too small
    however many people there are (Cameron & Miller 2015, Journal of Human Resources 50, section VI; MacKinnon &
    Webb 2018, The Econometrics Journal 21).
    """
    if inference is None:
        return _by_count(study)
    counts = [
        size for size in (inference.treated_clusters, inference.comparison_clusters) if size is not None
    ]
    if study.program.design.kind == "before_after":
        counts = counts[:1]
    power = ""
    if inference.rule == "permutation":
        power = (
            "it counts clusters; it cannot see whether the trained ones are noisier than the others, which would "
            f"make the interval too narrow. The smallest p-value that it can give is {2 / (inference.drawn or 1):.2g}"
        )
    return Check(
        name="enough clusters",
        status="failed" if inference.rule == "none" else "passed",
        sentence=inference.why,
        statistic=float(min(counts)) if len(counts) == _sides(study) else None,
        statistic_name="clusters in the smaller arm",
        threshold=float(FEWEST_TO_INFER),
        power=power,
        needed=True,
        breaks=True,
    )


def _sides(study: Study) -> int:
    return 1 if study.program.design.kind == "before_after" else 2


def _by_count(study: Study) -> Check:
    clustered = "cluster" in study.frame
    counts = study.frame.groupby("arm")["cluster" if clustered else "unit"].nunique()
    wanted = [1] if study.program.design.kind == "before_after" else [1, 0]
    sizes = {arm: int(counts.get(arm, 0)) for arm in wanted}
    fewest = min(sizes.values())
    failed = fewest < FEWEST_CLUSTERS
    what = "clusters" if clustered else study.program.design.units
    names = {1: "trained", 0: "comparison"}
    shown = " and ".join(
        f"{size if clustered else count_text(size, study)} {names[arm]} {what}" for arm, size in sizes.items()
    )
    shown += f" ({study.program.design.columns.cluster})" if clustered else ""
    verdict = (
        "too few: results this clear also come about by chance, more often than the interval says"
        if failed
        else "enough for the interval to be taken at its word"
    )
    return Check(
        name="enough clusters",
        status="failed" if failed else "passed",
        sentence=f"There are {shown}: {verdict}.",
        statistic=float(fewest) if clustered or can_be_shown(fewest, study) else None,
        statistic_name="clusters in the smaller arm",
        threshold=float(FEWEST_CLUSTERS),
        needed=True,
    )
