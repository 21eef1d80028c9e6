"""Results of the stages of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dgl_rbm.encoders.base import EncoderConfig
from dgl_rbm.run.config import CustomConfig
from dgl_rbm.run.metrics import CandidateRecord
from dgl_rbm.serving.encodings import Encodings
from dgl_rbm.students.base import Student, StudentConfig
from dgl_rbm.teachers.base import Teacher, TeacherOutput
from dgl_rbm.training.student import StudentFit

__all__ = ["FittedEncodings", "FittedStudent", "FittedTeacher"]


@dataclass(frozen=True)
class FittedTeacher:
    """A fitted teacher and its predictions for the observed graph."""

    teacher: Teacher
    output: TeacherOutput


@dataclass(frozen=True)
class FittedEncodings:
    """Encodings of the observed nodes.

    Attributes
    ----------
    encodings : Encodings
    chosen : EncoderConfig or None
        The encoder that validation chose, if it did.
    candidates : list of CandidateRecord
        Validation records of all candidates.
    """

    encodings: Encodings
    chosen: EncoderConfig | None = None
    candidates: Sequence[CandidateRecord] = ()


@dataclass(frozen=True)
class FittedStudent:
    """A trained student.

    Attributes
    ----------
    student : Student
    fit : StudentFit
        How its training went.
    record : CandidateRecord
        Its scores on the validation nodes.
    config : StudentConfig or CustomConfig
        Its options, sizes included; of an instance its class.
    candidates : sequence of CandidateRecord
        If validation chose the student: the records of all candidates.
    """

    student: Student
    fit: StudentFit
    record: CandidateRecord
    config: StudentConfig | CustomConfig
    candidates: Sequence[CandidateRecord] = ()
