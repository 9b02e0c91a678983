"""Several draws of the same lists' protocol, counted as one: means, with what each draw gave."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def average(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Reports as retrieval.report makes them -> one whose metrics are means over the draws, as public code averages them.

    A single report comes back as it is. low and high are means too: they tell how far one draw's queries are from all queries, not
    how far the mean of the draws is, which lies closer. lowest and highest: of the draws' values.
    """
    first = reports[0]
    if len(reports) == 1:
        return first
    result = {**first, "draws": len(reports)}
    result |= {key: float(np.mean([report[key] for report in reports])) for key in ("share_several_right", "share_tied")}
    lengths = [report["list_length"] for report in reports]
    result["list_length"] = {"min": min(one["min"] for one in lengths), "mean": float(np.mean([one["mean"] for one in lengths])),
                             "max": max(one["max"] for one in lengths)}
    for name, value in first.items():
        if isinstance(value, dict) and "value" in value:
            values = [report[name]["value"] for report in reports]
            result[name] = {key: float(np.mean([report[name][key] for report in reports])) for key in value}
            result[name] |= {"lowest": min(values), "highest": max(values)}
    return result
