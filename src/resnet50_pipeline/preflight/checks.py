"""Runs all preflight checks, in the order of the rows in the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from resnet50_pipeline.preflight import checkpoints, dataset, machine, mlflow_store, network, slurm
from resnet50_pipeline.preflight.cards import check_cards
from resnet50_pipeline.preflight.engine import check_engine
from resnet50_pipeline.preflight.findings import Finding, blocking
from resnet50_pipeline.preflight.later_stages import check_evaluation, check_registration
from resnet50_pipeline.preflight.pairs import check_pairs
from resnet50_pipeline.preflight.plan import RunPlan
from resnet50_pipeline.preflight.ranks import check_ranks, probing
from resnet50_pipeline.preflight.schedule import check_schedule


def check_run(plan: RunPlan) -> list[Finding]:
    """Return the findings of all checks. The checks take a few seconds, because a separate process imports Paddle."""
    launch = plan.training.launch
    network = plan.training.arch.name
    with probing(plan.command(), launch, plan.checkout, every_device=True, network=network) as wait:
        before = [machine.check_python(), machine.check_opencv()]
        if blocking(before):
            return before  # the remaining checks import these libraries
        quick = [machine.check_decoders(), *check_machine(plan, trains=True), *check_data(plan)]
        quick += checkpoints.check_save_interval(plan.training, plan.project_path / plan.training_dir)
        answers = list(mlflow_store.check_store_answers(plan.tracking, plan.project_path))
        probed = wait()
        uses_cuda = launch.device == "gpu" and probed.found.get("has_cuda")
        cards = check_cards(plan.training, probed.found) if uses_cuda else ()
        ranks = list(check_ranks(probed, launch))
        # Ranks on a CPU share memory, so there is no connection to check.
        has_pairs = len(launch.devices) > 1 and launch.device != "cpu" and not blocking(ranks)
        pairs = [check_pairs(launch)] if has_pairs else []
        return [*before, *ranks, *cards, *pairs, *quick, *answers]


def check_start_of_ranks(plan: RunPlan, *, trains: bool, meanwhile: Callable[[], None] = lambda: None) -> list[Finding]:
    """Check the machine, Paddle and the network before the first node of a run that starts ranks.

    Args:
        plan: the plan of the run.
        trains: whether the run includes training. False for evaluation, and for `kedro join` on other machines.
        meanwhile: function to call while the separate process imports Paddle.
    """
    launch = plan.training.launch
    with probing(plan.command(), launch, plan.checkout, every_device=False) as wait:
        quick = list(check_machine(plan, trains=trains))
        meanwhile()
        return [*check_ranks(wait(), launch), *quick]


def check_machine(plan: RunPlan, *, trains: bool) -> Iterator[Finding]:
    """Check within milliseconds that the machine is ready for the ranks and the later stages."""
    training = plan.training
    yield from network.check_network(training.launch, plan.command().environment)
    yield from slurm.check_slurm(training.launch)
    yield machine.check_shared_memory(training)
    yield machine.check_memory(training)
    yield machine.check_processors(training)
    yield machine.check_open_files(training)
    yield machine.check_encoding()
    yield machine.check_clock(plan.project_path / plan.training_dir)
    if trains:
        yield from check_engine(plan)
        yield check_schedule(training)
        yield checkpoints.check_disk(training, plan.class_num, plan.project_path / plan.training_dir)
        yield checkpoints.check_start(training, plan.project_path / plan.training_dir)
        yield from checkpoints.check_mirror(training, plan.project_path / plan.training_dir)
    if plan.evaluation is not None:
        yield from check_evaluation(plan.evaluation, *plan.result_folders)
    if plan.registration is not None:
        yield from check_registration(plan.registration)


def check_data(plan: RunPlan) -> Iterator[Finding]:
    """Check the dataset, MLflow's database file, the outbox, and whether another run is using the workspace."""
    yield dataset.check_dataset(plan.dataset_root, plan.dataset, makes_sample=plan.makes_sample)
    yield from checkpoints.check_claims(*plan.claims, plan.project_path / plan.training_dir)
    yield from mlflow_store.check_store_file(plan.tracking, plan.project_path)
    yield mlflow_store.check_outbox(plan.project_path)
