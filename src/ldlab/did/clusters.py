"""The cluster of each row of a panel."""

from __future__ import annotations

import numpy as np
import pandas as pd


def clusters_of(rows: pd.DataFrame) -> pd.Series:
    """The cluster of each row; where the program names none, its unit."""
    return rows["cluster"] if "cluster" in rows else rows["unit"]


def stay_in_clusters(rows: pd.DataFrame) -> bool:
    """Whether each unit stays in one cluster."""
    if "cluster" not in rows:
        return True
    unit, cluster = pd.factorize(rows["unit"])[0], pd.factorize(rows["cluster"])[0]
    first = np.zeros(unit.max() + 1, dtype=int)
    first[unit] = cluster
    return bool((first[unit] == cluster).all())
