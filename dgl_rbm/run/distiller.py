"""Distiller: makes a run from components, given by name, mapping, config or instance, and a graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, cast

from torch import nn

from dgl_rbm.arguments import checked_arguments
from dgl_rbm.config import ComponentConfig
from dgl_rbm.data.base import DatasetConfig
from dgl_rbm.data.load import load_task
from dgl_rbm.data.make import task_from_graph
from dgl_rbm.data.task import NodeTask
from dgl_rbm.encoders.base import Encoder
from dgl_rbm.errors import ConfigError, TimeBudgetError, shown
from dgl_rbm.methods.apply import dataset_name, method_values, with_graph_options
from dgl_rbm.methods.catalogue import RecipeName, load_method
from dgl_rbm.regularizers.base import Regularizer
from dgl_rbm.run.config import CustomConfig, DistillConfig, resolve_config
from dgl_rbm.run.pipeline import Pipeline, run_context
from dgl_rbm.run.run import Run
from dgl_rbm.runtime.callbacks import Callback, TimeBudget
from dgl_rbm.runtime.folders import as_path
from dgl_rbm.runtime.process_state import isolated
from dgl_rbm.specs import kind_of, list_components, resolve_dataset
from dgl_rbm.students.base import Student
from dgl_rbm.teachers.base import Teacher
from dgl_rbm.training.objective import ObjectiveConfig
from dgl_rbm.training.student import StudentTraining

__all__ = ["Distiller"]

_FIELDS = {
    "features": "feat",
    "labels": "label",
    "train_mask": "train_mask",
    "val_mask": "val_mask",
    "test_mask": "test_mask",
}


# The parts of a configuration that a method sets.
_OF_METHODS = ("teacher", "student", "encoder", "regularizer", "objective", "training")


class Distiller:
    """Trains a student that needs no graph, guided by a teacher that does.

    Each component is a name, a mapping with ``kind``, a config, or an instance.

    Parameters
    ----------
    teacher : str, mapping, TeacherConfig, Teacher, torch.nn.Module, or a list of these
        A module is called as ``module(graph_or_blocks, x)`` and returns logits ``[N, C]``. It is trained in
        place, starting from its weights; a module without trainable parameters is used as it is. A list, or names
        joined by ``+``, stands for several teachers whose probabilities are averaged.
    student : str, mapping, StudentConfig or Student
        An instance is trained in place.
    encoder : str, mapping, EncoderConfig, Encoder, or a list of these
        Names joined by ``+`` are several encoders.
    regularizer : str, mapping, RegularizerConfig, Regularizer, or a list of these
        Names joined by ``+`` are several regularizers; ``"none"`` is none.
    setting : {"transductive", "inductive"}
        Whether test nodes are in the graph during training (transductive), or a part of them is hidden until the end
        (inductive).
    objective : ObjectiveConfig or mapping, optional
        Weights of the student's loss.
    training : StudentTraining or mapping, optional
        How the student is trained.
    seed : int
        Seed of the split, the initial weights and all sampling.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    callbacks : sequence of Callback
        Notified of the run's progress.

    Examples
    --------
    >>> from dgl_rbm import Distiller
    >>> result = Distiller(student="mlp", encoder="none", training={"epochs": 3}).fit("digits")
    >>> result.metrics.student.kind
    'mlp'
    """

    @checked_arguments("Distiller")
    def __init__(
        self,
        teacher: Any = "sage",
        student: Any = "rbm",
        encoder: Any = "auto",
        regularizer: Any = "krd",
        *,
        setting: str = "transductive",
        objective: ObjectiveConfig | Mapping[str, Any] | None = None,
        training: StudentTraining | Mapping[str, Any] | None = None,
        seed: int = 0,
        device: str = "auto",
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self._instances: dict[str, Any] = {}
        self.config = resolve_config(
            {
                "teacher": self._separate("teacher", teacher, (Teacher, nn.Module), whole_list=True),
                "student": self._separate("student", student, (Student,)),
                "encoder": self._separate_each("encoder", encoder, (Encoder,)),
                "regularizer": self._separate_each("regularizer", regularizer, (Regularizer,)),
                "setting": setting,
                "objective": {} if objective is None else objective,
                "training": {} if training is None else training,
                "seed": seed,
                "device": device,
            }
        )
        self.callbacks = _checked_callbacks(callbacks)
        # A method's options depend on the graph passed to `fit`.
        self._config_for: Callable[[NodeTask], DistillConfig] = lambda task: self.config
        self._graph_for: Callable[[Any], Any] = resolve_dataset

    @classmethod
    def from_config(cls, config: DistillConfig, callbacks: Sequence[Callback] = ()) -> Distiller:
        """Return a distiller for a resolved configuration, whose `fit` needs no graph."""
        if not isinstance(config, DistillConfig):
            raise ConfigError(
                f"config is {shown(config)}; expected a DistillConfig.",
                hint="`dgl_rbm.run.config.resolve_config(values)` makes one from a mapping.",
            )
        distiller = cls(callbacks=callbacks)
        distiller.config = config
        return distiller

    @classmethod
    def from_method(
        cls, method: str, *, recipe: RecipeName = "published", dataset: Any = None, **overrides: Any
    ) -> Distiller:
        """Return a distiller for a published method; see `dgl_rbm.methods.catalogue`.

        Parameters
        ----------
        method : str
            Its name, such as ``"nosmog"``; `dgl_rbm.methods.method_names` returns them.
        recipe : {"published", "default"}
            ``"published"`` takes the settings published for the dataset and setting of `fit`, if there are any;
            ``"default"`` the package's own.
        dataset : str, mapping or DatasetConfig, optional
            The graph of a `fit` that is called without one.
        **overrides
            Arguments of `Distiller`. They take precedence over the published settings, and these over the method's
            own. A component of the method's own kind keeps the options that are not given.

        Raises
        ------
        UnknownNameError
            If there is no such method.

        Examples
        --------
        >>> from dgl_rbm import Distiller
        >>> Distiller.from_method("krd", student={"hidden_dim": 64}).config.student.hidden_dim
        64
        """
        callbacks = overrides.pop("callbacks", ())
        given = overrides if dataset is None else overrides | {"dataset": dataset}

        def make(name: str | None, setting: str) -> Distiller:
            values = method_values(method, given | {"dataset": name, "setting": setting}, recipe)
            values.pop("dataset")
            return cls(**values, callbacks=callbacks)

        def graph_with_options(graph: Any) -> Any:
            resolved = cast(DatasetConfig, resolve_dataset(graph))
            setting = overrides.get("setting", "transductive")
            found = load_method(method).values(
                resolved.graph_name, setting, recipe, teacher=kind_of(overrides.get("teacher"))
            )
            return with_graph_options(resolved, found.get("dataset", {}))

        distiller = make(dataset_name(dataset), overrides.get("setting", "transductive"))
        if dataset is not None:
            distiller.config = distiller.config.model_copy(update={"dataset": graph_with_options(dataset)})
        distiller._config_for = lambda task: make(task.name, task.setting).config
        distiller._graph_for = graph_with_options
        return distiller

    def _separate_each(self, name: str, specs: Any, types: tuple[type, ...]) -> list[Any]:
        """Keep the instances among one or several components; return descriptions of all, in their order."""
        return [self._separate(f"{name} {i}", spec, types) for i, spec in enumerate(list_components(specs))]

    def _separate(self, name: str, spec: Any, types: tuple[type, ...], *, whole_list: bool = False) -> Any:
        """Keep an instance, or a `whole_list` that contains one, and return its description; else return `spec`."""
        parts = spec if whole_list and isinstance(spec, (list, tuple)) else ()
        if isinstance(spec, types) or any(isinstance(part, types) for part in parts):
            self._instances[name] = spec
            return CustomConfig.of(spec)
        return spec

    @checked_arguments("Distiller.fit")
    @isolated()
    def fit(
        self,
        graph: Any = None,
        *,
        features: str = "feat",
        labels: str = "label",
        train_mask: str = "train_mask",
        val_mask: str = "val_mask",
        test_mask: str = "test_mask",
        split: str | None = None,
        split_index: int | None = None,
        allow_missing_classes: bool = False,
        out: str | Path | None = None,
        max_hours: float | None = None,
        shared: str | Path | None = None,
        latency_of: Collection[str] = ("teacher", "student"),
    ) -> Run:
        """Run the whole pipeline.

        Parameters
        ----------
        graph : DGLGraph, NodeTask, str, mapping or DatasetConfig, optional
            Your graph, or the name of a dataset; the default is the configuration's dataset, ``digits``.
            `dgl_rbm.task_from_graph` and `dgl_rbm.make_task` return a NodeTask and have more options, such as feature
            normalisation or the share of unseen nodes.
        features, labels, train_mask, val_mask, test_mask : str
            Fields of ``graph.ndata``, if `graph` is a DGLGraph.
        split : str, optional
            Instead of masks: ``"0.6/0.2/0.2"`` (fractions) or ``"20/30"`` (nodes per class).
        split_index : int, optional
            Which of several masks ``[N, K]`` or ``[K, N]`` to use.
        allow_missing_classes : bool
            Whether the masks may leave a class without a training node.
        out : path, optional
            Folder for checkpoints: a run that is started again with the same options and data resumes. Runs with
            instances as components keep no checkpoints.
        max_hours : float, optional
            Raise `TimeBudgetError` after this time; progress is kept in `out`.
        shared : path, optional
            Folder of teachers, encodings and reliabilities that several runs share: the results of a run with the same
            options, seed and observed graph are read from it, others are computed and written to it. Several processes
            can use it at once. Runs with instances as components share nothing.
        latency_of : collection of {"teacher", "student"}
            Models whose prediction times are measured.

        Returns
        -------
        Run

        Raises
        ------
        ConfigError, DataError
            Before training starts, naming all problems.
        TrainingError
            If a loss is no longer finite.
        TimeBudgetError
            If `max_hours` are used up.
        """
        callbacks = self.callbacks if max_hours is None else (*self.callbacks, TimeBudget(max_hours))
        fields = {
            "features": features,
            "labels": labels,
            "train_mask": train_mask,
            "val_mask": val_mask,
            "test_mask": test_mask,
        }
        if not all(isinstance(name, str) for name in fields.values()):
            raise ConfigError(
                "features, labels and masks must be names of node fields, not arrays.",
                hint="dgl_rbm.make_task(graph, features=..., labels=...) takes arrays; pass its result to fit.",
            )
        models = ("teacher", "student")
        if not isinstance(latency_of, (list, tuple, Set)) or any(each not in models for each in map(str, latency_of)):
            raise ConfigError(
                f'latency_of is {shown(latency_of)}; expected a collection of "teacher" and "student".',
                hint="`latency_of=()` measures no prediction times.",
            )
        folder = None if out is None else as_path(out, "out")
        common = None if shared is None else as_path(shared, "shared")
        checkpoints = None if folder is None or self._instances else folder / "checkpoints"
        context = run_context(
            self.config,
            callbacks=callbacks,
            checkpoints=checkpoints,
            shared=None if self._instances else common,
        )
        try:
            with context.stage("data", unit="steps"):
                options = {"split": split, "split_index": split_index, "allow_missing_classes": allow_missing_classes}
                task, config = self._load(graph, fields, options)
            fitting = self._config_for(task)
            config = config.model_copy(update={name: getattr(fitting, name) for name in _OF_METHODS})
            return Pipeline(task, config, context, self._instances).execute(latency_of)
        except TimeBudgetError as error:
            if checkpoints is not None:
                raise
            hint = "Nothing is kept. Pass `out`, a folder for checkpoints"
            hint += ", and components by name or config." if self._instances else "."
            raise TimeBudgetError(error.message, hint=hint) from None

    def _load(
        self, graph: Any, fields: Mapping[str, Any], options: Mapping[str, Any]
    ) -> tuple[NodeTask, DistillConfig]:
        config = self.config
        given = {name: value for name, value in options.items() if value is not None and value is not False}
        if isinstance(graph, NodeTask):
            if given:
                names = ", ".join(given)
                raise ConfigError(f"A NodeTask already has a split: {names}.", hint=f"Pass {names} to make_task.")
            update = {"dataset": CustomConfig.of(graph), "setting": graph.setting}
            return graph, config.model_copy(update=update)
        if graph is None or isinstance(graph, (str, Path, Mapping, ComponentConfig)):
            dataset = config.dataset if graph is None else self._graph_for(graph)
            given |= {name: value for name, value in fields.items() if value != _FIELDS[name]}
            if given:
                dataset = resolve_dataset(dataset.model_dump() | given)
            config = config.model_copy(update={"dataset": dataset})
            return load_task(dataset, config.setting, config.seed), config
        task = task_from_graph(graph, **fields, **options, setting=config.setting, seed=config.seed)
        return task, config.model_copy(update={"dataset": CustomConfig.of(graph)})


def _checked_callbacks(callbacks: Any) -> tuple[Callback, ...]:
    if not isinstance(callbacks, (list, tuple)) or not all(isinstance(callback, Callback) for callback in callbacks):
        raise ConfigError(
            "callbacks is not a list of dgl_rbm.Callback.",
            hint="Pass instances of a subclass: callbacks=[MyCallback()].",
        )
    return tuple(callbacks)
