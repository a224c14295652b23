"""What a sweep would do: `--dry-run`. Starts nothing, writes nothing.

The time of a trial is the mean of earlier trials with the same pair, method, draft length and link on this machine,
where there are any. Else it is a formula, and the plan says for how many trials: tokens are made at an assumed pace, a
method that drafts needs (F + c gamma) / E(gamma) of it, and the link takes its time for image and round trips.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from aiflow_cli.decoding.methods import Method
from aiflow_cli.errors import AiflowError, LinkError, PrerequisiteError, StoreError
from aiflow_cli.link.address import parse_address
from aiflow_cli.models.pair import PairSpec
from aiflow_cli.trials import store
from aiflow_cli.trials.experiment import choose_folder, earlier_trials, open_experiment, remaining
from aiflow_cli.trials.spec import ExperimentSpec
from aiflow_cli.world.live import ask
from aiflow_cli.world.record import Setting

RESULTS_READ = 20
"""Only that many of the newest results are searched for times."""
START_S = 10.0
"""Assumption: processes start and models load in about this."""


SMALL, LARGE = (50, 0.007, 6_000), (150, 0.04, 250_000)
"""Assumption: tokens of an answer, seconds a server-only token and bytes of an image; the small pair on a core of a
laptop, and InternVL2-26B on one GPU with a photograph of 1024 pixels."""
LONGEST_OF_SMALL = 100
"""A pair whose answers may be longer is taken for a large one."""
ALPHA, DRAFT_COST, ROUND_COST = 0.80, 0.18, 0.95
"""Acceptance, draft step and verification in server-only steps: the calibration that reproduces the paper's figures."""


@dataclass(frozen=True)
class Plan:
    """`trials` without warm-ups, None if images are not known; `measured` of those to go have earlier times."""

    folder: Path
    images: int | None
    settings: int
    trials: int | None
    done: int
    warmups: int
    seconds: float | None
    measured: int
    assumed: int
    missing: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The form of `--json`."""
        return asdict(self) | {"folder": str(self.folder)}


def plan_experiment(
    spec: ExperimentSpec, output: Path | None = None, *, restart: bool = False, allow_mixed: bool = False
) -> Plan:
    """The plan. What is missing is named in it. Raises UsageError, as for trials in the folder that cannot be mixed."""
    folder, missing = choose_folder(spec, output, restart), tuple(dict.fromkeys(_missing(spec)))
    images, fingerprints, done = spec.images, {}, 0
    todo = [(session, s) for session in range(spec.sessions) for s in spec.block() * spec.repeats * (images or 0)]
    if not missing:
        experiment = open_experiment(spec, output, restart=restart, allow_mixed=allow_mixed)
        images, fingerprints = len(experiment.images), experiment.fingerprints
        lacking = [one.trial for one in remaining(experiment, earlier_trials(experiment))]
        todo, done = [(t.session, t.setting) for t in lacking], len(experiment.planned) - len(lacking)
    warm = list(dict.fromkeys(todo)) * spec.warmups
    pairs, known = spec.pair_specs(), earlier_times(folder, fingerprints)
    times = [known.get(s) or formula_s(s, pairs[s.pair], spec.max_new_tokens) for _, s in [*todo, *warm]]
    starts_s, measured = START_S * len({session for session, _ in todo}), sum(s in known for _, s in todo)
    return Plan(
        folder=folder,
        images=images,
        settings=len(spec.grid()),
        trials=None if images is None else done + len(todo),
        done=done,
        warmups=len(warm),
        seconds=None if images is None else starts_s + sum(times),
        measured=measured,
        assumed=len(todo) - measured,
        missing=missing,
    )


def _missing(spec: ExperimentSpec) -> Iterator[str]:
    """What has to be there before it can run, each with its remedy."""
    from aiflow_cli.images.source import open_images

    roles = ("draft",) if spec.server else ("draft", "target")
    looks: list[tuple[Callable[[], object], type[AiflowError]]] = [
        (partial(pair.folder, role), AiflowError) for pair in spec.pair_specs().values() for role in roles
    ]
    if spec.server:
        looks.append((partial(ask, parse_address(spec.server)), LinkError))
    looks.append((partial(open_images, spec.data, spec.images, spec.seed), PrerequisiteError))
    for look, absent in looks:
        try:
            look()
        except absent as error:
            yield str(error)


def formula_s(setting: Setting, pair: PairSpec, max_new_tokens: int | None) -> float:
    """Seconds of a trial where none was measured."""
    usual, step_s, image_bytes = SMALL if pair.max_new_tokens <= LONGEST_OF_SMALL else LARGE
    tokens = min(max_new_tokens or pair.max_new_tokens, usual)
    if setting.method is Method.ON_DEVICE:
        return DRAFT_COST * tokens * step_s
    link = setting.link.spec
    upload_s = image_bytes / link.uplink_bytes_per_s + 2 * link.delay_s
    if setting.gamma is None:
        return upload_s + tokens * step_s
    rounds = tokens * (1 - ALPHA) / (1 - ALPHA ** (setting.gamma + 1))
    trips_s = 2 * link.delay_s if setting.method is Method.SPECULATIVE else 0.0
    return upload_s + rounds * ((ROUND_COST + DRAFT_COST * setting.gamma) * step_s + trips_s)


def earlier_times(folder: Path, fingerprints: Mapping[str, str]) -> dict[Setting, float]:
    """Mean seconds of a trial by setting, of all that is alike in `folder` and the newest results, beside it and in
    results/.
    """
    seconds: dict[Setting, list[float]] = defaultdict(list)
    found = {path.resolve() for root in (folder.parent, store.RESULTS) for path in root.glob("*/run.json")}
    runs = sorted(filter(Path.is_file, found), key=lambda path: path.stat().st_mtime, reverse=True)
    for place in (path.parent for path in runs[:RESULTS_READ]):
        with contextlib.suppress(StoreError):  # whatever lies there: a plan can do without it
            before = store.read_run(place).get("fingerprints")
            if not isinstance(before, dict):
                continue
            same = {name for name, value in fingerprints.items() if before.get(name) == value}
            here = "machine" in same and before.get("server") == fingerprints.get("server")
            for trial in store.read_trials(place) if here else ():
                if f"pair {trial.setting.pair}" in same and trial.deliveries:
                    seconds[trial.setting].append(trial.latency_s)
    return {setting: fmean(values) for setting, values in seconds.items()}
