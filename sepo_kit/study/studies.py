"""The studies of rivals, by name."""

from __future__ import annotations

from sepo_kit.study.ablations import ABLATIONS
from sepo_kit.study.exploiters import EXPLOITERS
from sepo_kit.study.late import LATE

STUDIES = {study.name: study for study in (EXPLOITERS, ABLATIONS, LATE)}
