"""The numbers of jobs for other programs: records for JSON, and CSV. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

from oumi_flow.typed import Any
from oumi_flow.ui.tables import MetricRow, differing_keys


def as_records(found: Sequence[MetricRow]) -> list[dict[str, Any]]:
    """For JSON: the config keys that differ, and the numbers."""
    keys = differing_keys(found)
    records = []
    for row in found:
        record: dict[str, Any] = {
            "job": row.job,
            "config": {key: row.config[key] for key in keys if key in row.config},
            "metrics": _numbers(row.metrics),
        }
        if row.before is not None:
            record["before"] = _numbers(row.before)
        records.append(record)
    return records


def _numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no word for what is not a number: null."""
    return {
        name: None if isinstance(value, float) and not isfinite(value) else value
        for name, value in metrics.items()
    }


def as_csv(found: Sequence[MetricRow]) -> str:
    """A header and a line a job that has numbers; columns as in the table."""
    import csv
    import io

    found = [row for row in found if row.metrics or row.before]
    keys = differing_keys(found)
    names = list(dict.fromkeys(name for row in found for name in row.metrics))
    earlier = any(row.before is not None for row in found)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["job", *keys, *names, *(f"{name} before" for name in names if earlier)])
    for row in found:
        before = [(row.before or {}).get(name, "") for name in names] if earlier else []
        writer.writerow(
            [
                row.job,
                *(row.config.get(key, "") for key in keys),
                *(row.metrics.get(name, "") for name in names),
                *before,
            ]
        )
    return text.getvalue()
