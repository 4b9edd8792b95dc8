"""numpy, pandas and matplotlib do a job in `python-data`; what comes out is checked here, outside."""

from __future__ import annotations

import csv
import io
import struct

import pytest

from fumehood import confine
from fumehood.confine.outcome import Artifact, Outcome

#: Least squares on made-up sales, by numpy; a table of them, by pandas; a picture, by matplotlib.
JOB = """
import numpy as np, pandas as pd
rng = np.random.default_rng(7)
days = np.arange(365)
sales = 3.0 * days + 100 + rng.normal(scale=5.0, size=365)
(slope, start), *_ = np.linalg.lstsq(np.column_stack([days, np.ones(365)]), sales, rcond=None)
assert abs(np.linalg.inv(np.diag([1.0, 2.0, 4.0])).trace() - 1.75) < 1e-12

frame = pd.DataFrame({"day": pd.Timestamp("2024-01-01") + pd.to_timedelta(days, "D"), "sales": sales})
frame.to_csv("sales.csv", index=False)
again = pd.read_csv("sales.csv", parse_dates=["day"])
months = again.groupby(again.day.dt.month).sales.agg(["count", "mean"]).round(2)
months.join(months["mean"].diff().rename("change")).to_csv("months.csv")

import matplotlib, matplotlib.pyplot as plt
figure, axes = plt.subplots(figsize=(4, 3), dpi=100)
axes.plot(again.day, again.sales, label="sales")
axes.set_title("Verkäufe µ ≥ 3")
axes.legend()
figure.savefig("chart.png")
print(round(slope, 1), matplotlib.get_backend())
"""


def artifact(outcome: Outcome, name: str) -> Artifact:
    return next(a for a in outcome.artifacts if a.path == name)


@pytest.fixture(scope="module", autouse=True)
def needed() -> None:
    for name in ("numpy", "pandas", "matplotlib"):
        pytest.importorskip(name)


def test_a_job_with_numpy_pandas_and_matplotlib(tier: str) -> None:
    outcome = confine.python(JOB, profile="python-data", tier=tier, artifacts=["*.csv", "*.png"])
    assert outcome.exit == confine.Exit("exited", 0), outcome.stderr
    assert outcome.stdout == b"3.0 agg\n" or outcome.stdout == b"3.0 Agg\n"
    assert len(artifact(outcome, "sales.csv").body.splitlines()) == 366
    months = list(csv.DictReader(io.StringIO(artifact(outcome, "months.csv").body.decode())))
    assert [int(month["count"]) for month in months] == [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 30]
    assert all(80 < float(month["change"]) < 100 for month in months[1:])
    picture = artifact(outcome, "chart.png").body
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", picture[16:24]) == (400, 300)
    if tier == "full":
        assert outcome.stderr == b""


def test_a_picture_is_made_by_a_program_too(tier: str) -> None:
    outcome = confine.run(["python3", "-c", JOB], profile="python-data", tier=tier, artifacts=["chart.png"])
    assert outcome.exit == confine.Exit("exited", 0), outcome.stderr
    assert len(artifact(outcome, "chart.png").body) > 5000


def test_the_working_folder_holds_only_what_the_job_made(tmp_path, tier: str) -> None:
    outcome = confine.python(JOB, profile="python-data", tier=tier, workdir=tmp_path)
    assert outcome.exit.code == 0, outcome.stderr
    left = {path.name for path in tmp_path.iterdir() if not path.name.startswith("matplotlib-")}
    caches = {".fontconfig"} if tier == "no-userns" else set()  # there is no private folder beside it
    assert left - caches == {"sales.csv", "months.csv", "chart.png"}


def test_more_memory_than_the_profile_has_is_refused() -> None:
    outcome = confine.python("import numpy; numpy.ones(1 << 29)", profile="python-data")
    assert outcome.exit.kind == "memory" or b"MemoryError" in outcome.stderr
