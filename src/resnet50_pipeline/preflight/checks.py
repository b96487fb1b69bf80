"""All checks, in the order of the table; `kedro run` makes those that take no time first."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from resnet50_pipeline.preflight import checkpoints, dataset, machine, mlflow_store, network, slurm
from resnet50_pipeline.preflight.engine import check_engine
from resnet50_pipeline.preflight.findings import Finding, blocking
from resnet50_pipeline.preflight.later_stages import check_evaluation, check_registration
from resnet50_pipeline.preflight.plan import RunPlan
from resnet50_pipeline.preflight.ranks import check_ranks, probing


def check_run(plan: RunPlan) -> list[Finding]:
    """Return what every check finds; takes the seconds in which Paddle is imported, and writes nothing."""
    launch = plan.training.launch
    with probing(plan.command(), launch, plan.checkout, every_device=True) as wait:
        before = [machine.check_python(), machine.check_system_libraries()]
        if blocking(before):
            return before  # what the others would import cannot be
        quick = [*check_machine(plan, trains=True), *check_data(plan)]
        answers = list(mlflow_store.check_store_answers(plan.tracking, plan.project_path))
        return [*before, *check_ranks(wait(), launch), *quick, *answers]


def check_start_of_ranks(plan: RunPlan, *, trains: bool, meanwhile: Callable[[], None] = lambda: None) -> list[Finding]:
    """Return what must be known before the first node of a run that is going to start ranks.

    Args:
        plan: what the run is going to do.
        trains: whether this machine's run is the training's own, and not an evaluation or another machine's ranks.
        meanwhile: what is to be done while the other process imports Paddle.
    """
    launch = plan.training.launch
    with probing(plan.command(), launch, plan.checkout, every_device=False) as wait:
        quick = list(check_machine(plan, trains=trains))
        meanwhile()
        return [*check_ranks(wait(), launch), *quick]


def check_machine(plan: RunPlan, *, trains: bool) -> Iterator[Finding]:
    """What ranks, and the stages behind them, need of the machine; takes milliseconds."""
    training = plan.training
    yield from network.check_network(training.launch, plan.command().environment)
    yield from slurm.check_slurm(training.launch)
    yield machine.check_shared_memory(training)
    yield machine.check_memory(training)
    yield machine.check_processors(training)
    yield machine.check_open_files(training)
    yield machine.check_encoding()
    yield machine.check_clock(plan.output_dir)
    if trains:
        yield from check_engine(plan)
        yield checkpoints.check_disk(training, plan.dataset.class_num, plan.output_dir)
        yield checkpoints.check_start(training, plan.output_dir)
    if plan.evaluation is not None:
        yield from check_evaluation(plan.evaluation, plan.workspace)
    if plan.registration is not None:
        yield from check_registration(plan.registration)


def check_data(plan: RunPlan) -> Iterator[Finding]:
    """The data set, the workspace that nobody else may use, and MLflow's database file."""
    yield dataset.check_dataset(plan.dataset, makes_sample=plan.makes_sample)
    yield from checkpoints.check_claims(plan.workspace, plan.output_dir)
    yield from mlflow_store.check_store_file(plan.tracking, plan.project_path)
