"""One run from task to result."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from dgl_rbm.data.task import NodeTask
from dgl_rbm.evaluation.latency import student_latency, teacher_latency
from dgl_rbm.evaluation.scores import student_inputs, student_logits
from dgl_rbm.run.config import DistillConfig
from dgl_rbm.run.fingerprint import run_identity
from dgl_rbm.run.fitted import FittedEncodings, FittedStudent, FittedTeacher
from dgl_rbm.run.metrics import CandidateRecord
from dgl_rbm.run.parts import stages_of
from dgl_rbm.run.run import Run
from dgl_rbm.run.scoring import run_metrics
from dgl_rbm.run.sizes import check_sizes
from dgl_rbm.run.stages import StageRunner
from dgl_rbm.runtime.callbacks import Callback
from dgl_rbm.runtime.checkpoint import CheckpointStore, NullCheckpointStore
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.runtime.device import resolve_device
from dgl_rbm.runtime.process_state import isolated
from dgl_rbm.runtime.shared import NullSharedParts, SharedParts
from dgl_rbm.serving.predictor import Predictor
from dgl_rbm.tasks.multiclass import accuracy, predictions, validation_loss, validation_score

__all__ = ["Pipeline", "run_context"]


def run_context(
    config: DistillConfig,
    *,
    callbacks: Sequence[Callback] = (),
    checkpoints: Path | None = None,
    shared: Path | None = None,
) -> RunContext:
    """Return the context of a run.

    Parameters
    ----------
    config : DistillConfig
        Gives seed and device.
    callbacks : sequence of Callback
        Notified of the run's progress.
    checkpoints : Path, optional
        Folder for finished and half-finished stages.
    shared : Path, optional
        Folder of teachers, encodings and reliabilities that several runs share.

    Raises
    ------
    ConfigError
        If there is no such device.
    """
    return RunContext(
        seed=config.seed,
        device=resolve_device(config.device),
        callbacks=callbacks,
        checkpoints=NullCheckpointStore() if checkpoints is None else CheckpointStore(checkpoints, ""),
        shared=NullSharedParts() if shared is None else SharedParts(shared),
    )


class Pipeline:
    """The stages of one run.

    Parameters
    ----------
    task : NodeTask
        The graph to learn from.
    config : DistillConfig
        Resolved.
    context : RunContext
        See `run_context`.
    instances : mapping of str to object
        Components given as instances, by ``"teacher"``, ``"student"``, ``"encoder 0"``, ``"regularizer 0"`` and so on.
    """

    def __init__(
        self, task: NodeTask, config: DistillConfig, context: RunContext, instances: Mapping[str, Any] | None = None
    ) -> None:
        self.task, self.config, self.context = task, config, context
        self.observed = task.observed()
        check_sizes(config, task.features.shape[1], task.num_classes)
        self.stages = stages_of(config, instances)
        identity = lambda: run_identity(self.observed, config.seed, context.device)  # noqa: E731
        self._runner = StageRunner(config, self.observed, context, instances or {}, identity)

    @isolated()
    def execute(self, latency_of: Collection[str] = ("teacher", "student")) -> Run:
        """Compute every stage, score and time the models, and return the run.

        Parameters
        ----------
        latency_of : collection of {"teacher", "student"}
            Models whose prediction times are measured.
        """
        fitted, encoded, trained = self.teacher(), self.encodings(), self.student()
        teacher, student, encodings = fitted.teacher, trained.student, encoded.encodings
        with self.context.stage("evaluation", unit="steps"):
            of_teacher = self._teacher_logits(fitted)
            logits = {"teacher": of_teacher} if fitted.output.targets is not None else {}
            logits["student"] = student_logits(student, encodings, self.task, self.context.substep)
            config = self._final_config(encoded, trained)
            metrics = run_metrics(self.task, config, teacher, student, trained.fit, logits, self.context.seconds)
        with self.context.stage("latency", unit="steps"):
            view = self.task.full()
            latency = {
                "teacher": teacher_latency(teacher, view) if "teacher" in latency_of else None,
                "student": student_latency(student, encodings, view) if "student" in latency_of else None,
            }
        return Run(
            predictor=Predictor(
                student.cpu().serve(),
                encodings,
                self.task.normalization,
                self.task.ids,
                self.task.classes,
                self.task.feature_names,
            ),
            metrics=metrics.completed(latency, encoded.candidates, trained.candidates, self.context.seconds),
            history=self.context.history,
            teacher_logits=of_teacher,
            student_logits=logits["student"],
            config=config,
            task=self.task,
            teacher=teacher,
        )

    @isolated()
    def validate(self, held_out: Tensor | None = None) -> CandidateRecord:
        """Compute the stages up to the student; return its record on the validation nodes. No test label is read.

        Parameters
        ----------
        held_out : Tensor, optional
            Labels of the task's test nodes, int64, if these are held-out validation nodes: accuracy and loss are
            theirs then.
        """
        # In this order, as in `execute`.
        self.teacher()
        encodings, trained = self.encodings().encodings, self.student()
        if held_out is None:
            return trained.record
        scores = trained.student.logits(student_inputs(encodings, self.task, self.task.test_idx))
        select_by = self.config.training.select_by
        compared = validation_score(scores, held_out, select_by)
        update = {
            "val_accuracy": accuracy(predictions(scores), held_out),
            "val_score": compared if select_by in ("balanced_accuracy", "macro_f1") else None,
            "val_loss": validation_loss(scores, held_out),
        }
        return trained.record.model_copy(update=update)

    def teacher(self) -> FittedTeacher:
        """Return the fitted teacher and its predictions for the observed graph."""
        return self._runner.result(self.stages.teacher)

    def encodings(self) -> FittedEncodings:
        """Return the encodings of the observed nodes."""
        return self._runner.result(self.stages.encodings)

    def student(self) -> FittedStudent:
        """Return the trained student."""
        return self._runner.result(self.stages.student)

    def _final_config(self, encoded: FittedEncodings, trained: FittedStudent) -> DistillConfig:
        """Return the configuration with the components that validation chose."""
        chosen: dict[str, Any] = {"student": trained.config}
        if encoded.chosen is not None:
            chosen["encoder"] = [encoded.chosen]
        return self.config.model_copy(update=chosen)

    def _teacher_logits(self, fitted: FittedTeacher) -> Tensor:
        """Return the logits of all nodes: of observed ones as in training, of unseen ones from the full graph."""
        if not len(self.task.unseen_idx):
            return fitted.output.logits
        full = fitted.teacher.predict(self.task.full(), self.context).logits
        full[self.observed.node_ids] = fitted.output.logits
        return full
