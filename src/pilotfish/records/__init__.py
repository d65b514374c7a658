"""Records: what each model said about each sample, and what it costs. The one shared type."""

from pilotfish.records.align import (
    Table,
    align,
    is_bad_base,
    judge_records,
    notes_on_chance,
    read_table,
    refuse_bad_base,
)
from pilotfish.records.compare import Compared, compare, fair_table, labelled_in
from pilotfish.records.groups import GroupBy, groups_by
from pilotfish.records.importers import import_file
from pilotfish.records.records import MAX_COST, Cost, Failure, Records, RecordsMeta
from pilotfish.records.run import Run, open_run
from pilotfish.records.sample_times import SampleTimes
from pilotfish.scores.outputs import Outputs, from_logits, from_probabilities
from pilotfish.tasks import NO_LABEL, Verdict, judge

__all__ = [
    "MAX_COST",
    "NO_LABEL",
    "Compared",
    "Cost",
    "Failure",
    "GroupBy",
    "Outputs",
    "Records",
    "RecordsMeta",
    "Run",
    "SampleTimes",
    "Table",
    "Verdict",
    "align",
    "compare",
    "fair_table",
    "from_logits",
    "from_probabilities",
    "groups_by",
    "import_file",
    "is_bad_base",
    "judge",
    "judge_records",
    "labelled_in",
    "notes_on_chance",
    "open_run",
    "read_table",
    "refuse_bad_base",
]
